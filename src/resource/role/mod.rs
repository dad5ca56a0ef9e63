//! `etcd_role`: what somebody may do with which keys.

mod permissions;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::access::{self, Permissions};
use crate::etcd::api::Api;
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, ImportRequest, ImportResponse, PlanRequest, PlanResponse, ReadRequest,
    ReadResponse, Resource,
};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::Value;
use crate::resource::access::objects::{Claim, Thing};
use crate::resource::access::{
    AccessError, CHANGE, Cluster, READ, belongs_to_another, changed, cluster_attribute, deleted, import, is_enabled,
    known, looked, plan, plan_destroy, settle,
};
use crate::resource::reference::remember_cluster;
use crate::resource::road::Road;

const KIND: &str = "role";

/// The block.
pub struct RoleResource {
    road: Arc<Road>,
}

impl RoleResource {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn look(&self, request: &ReadRequest) -> Result<Option<(Value, Vec<u8>)>, AccessError> {
        let state = &request.state;
        let api = Cluster::of(&self.road, state)?.enter(Instant::now() + READ).await?;
        let observed = observe(&api, &name(state)).await?;
        let private = Thing::of(KIND, state).seen(&api, &request.private).await?;
        Ok(observed.map(|observed| {
            let mut now = state.clone();
            now.set(
                "permissions",
                permissions::as_configured(state.get("permissions"), &observed),
            );
            (now, private)
        }))
    }

    async fn make(
        &self,
        api: &Api,
        deadline: Instant,
        planned: &Value,
        ours: bool,
        claim: &mut Claim<'_>,
    ) -> Result<(), AccessError> {
        let there = observe(api, &name(planned)).await?.is_some();
        claim.take(api, there).await?;
        let wanted = permissions::of(planned.get("permissions"), &mut Diagnostics::new());
        let name = &name(planned);
        // What this run has begun is its own.
        let wanted = &wanted;
        settle(api, deadline, None, || async move {
            let observed = observe(api, name).await?;
            Ok(access::role(name, wanted, observed.as_ref(), ours)?)
        })
        .await
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        let ours = !request.prior.is_null();
        let state = known(&request.planned);
        let thing = Thing::of(KIND, &state);
        let claim = match Claim::new(&self.road, thing, !ours, &request.private) {
            Ok(claim) => claim,
            Err(diagnostic) => return ApplyResponse::refused(request.prior, request.private, diagnostic.into()),
        };
        let deadline = Instant::now() + CHANGE;
        let cluster = Cluster::of(&self.road, &state);
        let work = async |_: &Cluster<'_>, api: &Api, claim: &mut Claim<'_>| {
            self.make(api, deadline, &state, ours, claim).await
        };
        let (private, outcome) = claim.around(cluster, deadline, work).await;
        let what = format!("The role {}", name(&state));
        // What was not begun is not there. What was is made whole by the next apply.
        let state = if outcome.is_ok() { state } else { request.prior };
        changed(
            &what,
            state,
            private,
            outcome.map_err(|error| (Path::of("permissions"), error)),
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
            let there = observe(api, name).await?.is_some();
            Ok(access::without_role(name, there, is_enabled(api).await?)?)
        })
        .await?;
        Ok(thing.forget(api).await?)
    }
}

async fn observe(api: &Api, name: &str) -> Result<Option<Permissions>, AccessError> {
    Ok(api.role(name, READ).await?)
}

fn name(block: &Value) -> String {
    block.get("name").as_str().unwrap_or_default().to_owned()
}

#[async_trait]
impl Resource for RoleResource {
    fn name(&self) -> &'static str {
        "etcd_role"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "A role of etcd's: what its users may do with which keys, where access control is on (`etcd_auth`).",
            attributes: remember_cluster(vec![
                cluster_attribute(),
                Attribute::string("name")
                    .required()
                    .requires_replace()
                    .describe("Its name."),
                Attribute::set_of("permissions", permissions::attributes())
                    .describe("What it allows. Whatever no permission allows is forbidden."),
                Attribute::string("id")
                    .computed()
                    .use_state()
                    .describe("Cluster and name: `<cluster>/<name>`."),
            ]),
        }
    }

    fn identity(&self) -> Vec<Attribute> {
        import::identity(Some("The name of the role."))
    }

    fn identity_of(&self, state: &Value) -> Value {
        import::identity_of(state, true)
    }

    async fn import(&self, _context: &Context, request: ImportRequest) -> ImportResponse {
        import::take_over(&self.road, self.name(), &request, true).await
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        permissions::of(config.get("permissions"), &mut diagnostics);
        diagnostics
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        plan(&self.road, KIND, request)
    }

    async fn plan_destroy(&self, _context: &Context, prior: &Value, private: Vec<u8>) -> (Vec<u8>, Diagnostics) {
        plan_destroy(&self.road, prior, &private)
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let found = self.look(&request).await;
        let what = format!("The role {}", name(&request.state));
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
        let what = format!("The role {}", name(&request.prior));
        deleted(&what, request.prior, &request.private, outcome)
    }
}
