//! `etcd_user`: somebody who comes with a certificate of this name, or with a password.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::access::{self, User};
use crate::etcd::api::Api;
use crate::host::Secret;
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, ImportRequest, ImportResponse, PlanRequest, PlanResponse, ReadRequest,
    ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Kind, Schema, Type};
use crate::plugin::value::Value;
use crate::resource::access::objects::{Claim, Thing};
use crate::resource::access::{
    AccessError, CHANGE, Cluster, READ, belongs_to_another, changed, cluster_attribute, deleted, import, is_enabled,
    known, looked, plan, plan_destroy, settle,
};
use crate::resource::reference::remember_cluster;
use crate::resource::road::Road;

const KIND: &str = "user";

/// The block.
pub struct UserResource {
    road: Arc<Road>,
}

impl UserResource {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn look(&self, request: &ReadRequest) -> Result<Option<(Value, Vec<u8>)>, AccessError> {
        let state = &request.state;
        let api = Cluster::of(&self.road, state)?.enter(Instant::now() + READ).await?;
        let observed = api.user(&name(state), READ).await?;
        let private = Thing::of(KIND, state).seen(&api, &request.private).await?;
        Ok(observed.map(|observed| {
            let mut now = state.clone();
            if observed != roles(state) {
                now.set("roles", observed.into_iter().map(Value::from).collect::<Vec<_>>());
            }
            (now, private)
        }))
    }

    async fn make(
        &self,
        api: &Api,
        deadline: Instant,
        request: &ApplyRequest,
        planned: &Value,
        claim: &mut Claim<'_>,
    ) -> Result<(), AccessError> {
        let there = api.user(&name(planned), READ).await?.is_some();
        claim.take(api, there).await?;
        let password = request.config.get("password_wo").as_str().map(Secret::from);
        let version = |block: &Value| block.get("password_wo_version").clone();
        let token = |block: &Value| block.at(&["cluster", "token"]).clone();
        let ours = !request.prior.is_null();
        let wanted = &User {
            name: name(planned),
            roles: roles(planned),
            password: password.is_some(),
            new_password: version(&request.prior) != version(planned),
            old_data: ours && token(&request.prior) != token(planned),
        };
        settle(api, deadline, password.as_ref(), || async move {
            let observed = api.user(&wanted.name, READ).await?;
            Ok(access::user(wanted, observed.as_ref(), ours, is_enabled(api).await?)?)
        })
        .await
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        let state = known(&request.planned);
        let thing = Thing::of(KIND, &state);
        let claim = match Claim::new(&self.road, thing, request.prior.is_null(), &request.private) {
            Ok(claim) => claim,
            Err(diagnostic) => return ApplyResponse::refused(request.prior, request.private, diagnostic.into()),
        };
        let deadline = Instant::now() + CHANGE;
        let cluster = Cluster::of(&self.road, &state);
        let work = async |_: &Cluster<'_>, api: &Api, claim: &mut Claim<'_>| {
            self.make(api, deadline, &request, &state, claim).await
        };
        let (private, outcome) = claim.around(cluster, deadline, work).await;
        let what = format!("The user {}", name(&state));
        // One that was begun has some of its roles at most: the next apply goes on with it.
        let state = if outcome.is_ok() { state } else { request.prior };
        changed(
            &what,
            state,
            private,
            outcome.map_err(|error| (Path::of("name"), error)),
        )
    }

    async fn take_away(&self, prior: &Value, private: &[u8]) -> Result<(), AccessError> {
        let deadline = Instant::now() + READ;
        let api = &Cluster::of(&self.road, prior)?.enter(deadline).await?;
        let name = &name(prior);
        let thing = Thing::of(KIND, prior);
        if belongs_to_another(&self.road, &thing, api, private).await? {
            return Ok(());
        }
        settle(api, deadline, None, || async move {
            let there = api.user(name, READ).await?.is_some();
            Ok(access::without_user(name, there, is_enabled(api).await?)?)
        })
        .await?;
        Ok(thing.forget(api).await?)
    }
}

fn name(block: &Value) -> String {
    block.get("name").as_str().unwrap_or_default().to_owned()
}

fn roles(block: &Value) -> BTreeSet<String> {
    let roles = block.get("roles").as_list().unwrap_or_default();
    roles.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[async_trait]
impl Resource for UserResource {
    fn name(&self) -> &'static str {
        "etcd_user"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "A user of etcd's: the common name of a client's certificate, or a name with a password, and the roles that it \
                          has where access control is on (`etcd_auth`).",
            attributes: remember_cluster(vec![
                cluster_attribute(),
                Attribute::string("name")
                    .required()
                    .requires_replace()
                    .describe("Its name. Whoever shows a certificate with this common name is this user."),
                Attribute {
                    kind: Kind::Plain(Type::Set(Box::new(Type::String))),
                    ..Attribute::string("roles")
                }
                .describe("The names of its roles. `root` allows everything."),
                Attribute::string("password_wo").sensitive().write_only().describe(
                    "A password, for clients that have no certificate of this name. Never stored. Without it nobody becomes this user \
                     but with such a certificate. Needs `password_wo_version`.",
                ),
                Attribute::number("password_wo_version")
                    .describe("Raise it to have another password set."),
                Attribute::string("id").computed().use_state().describe("Cluster and name: `<cluster>/<name>`."),
            ]),
        }
    }

    fn identity(&self) -> Vec<Attribute> {
        import::identity(Some("The name of the user."))
    }

    fn identity_of(&self, state: &Value) -> Value {
        import::identity_of(state, true)
    }

    async fn import(&self, _context: &Context, request: ImportRequest) -> ImportResponse {
        import::take_over(&self.road, self.name(), &request, true).await
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        let (password, version) = (config.get("password_wo"), config.get("password_wo_version"));
        if password.is_null() != version.is_null() && !password.is_unknown() && !version.is_unknown() {
            let detail = "Terraform keeps no password, so only password_wo_version tells that there is one, and when it is another one. Set \
                          both, or none.";
            diagnostics.push(Diagnostic::error("Half a password", detail).at(Path::of("password_wo_version")));
        }
        if password.as_str() == Some("") {
            diagnostics.push(
                Diagnostic::error("An empty password", "Leave it out for a user without one.")
                    .at(Path::of("password_wo")),
            );
        }
        diagnostics
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let with = |block: &Value| !block.get("password_wo_version").is_null();
        // etcd gives no password to a user that was made without one, and takes none away.
        let other = !request.prior.is_null() && with(&request.prior) != with(&request.planned);
        let mut response = plan(&self.road, KIND, request);
        if other {
            response.requires_replace.push(Path::of("password_wo_version"));
        }
        response
    }

    async fn plan_destroy(&self, _context: &Context, prior: &Value, private: Vec<u8>) -> (Vec<u8>, Diagnostics) {
        plan_destroy(&self.road, prior, &private)
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let found = self.look(&request).await;
        let what = format!("The user {}", name(&request.state));
        looked(&what, request, found)
    }

    async fn create(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        self.apply(request).await
    }

    async fn update(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        self.apply(request).await
    }

    async fn delete(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let outcome = self.take_away(&request.prior, &request.private).await;
        let what = format!("The user {}", name(&request.prior));
        deleted(&what, request.prior, &request.private, outcome)
    }
}
