//! `etcd_auth`: access control, switched on as long as this is there.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::access;
use crate::etcd::api::Api;
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, ImportRequest, ImportResponse, PlanRequest, PlanResponse, ReadRequest,
    ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
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

const KIND: &str = "auth";

/// The block.
pub struct AuthResource {
    road: Arc<Road>,
}

impl AuthResource {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn look(&self, request: &ReadRequest) -> Result<Option<(Value, Vec<u8>)>, AccessError> {
        let state = &request.state;
        let api = Cluster::of(&self.road, state)?.enter(Instant::now() + READ).await?;
        if !is_enabled(&api).await? {
            return Ok(None);
        }
        let private = Thing::of(KIND, state).seen(&api, &request.private).await?;
        Ok(Some((state.clone(), private)))
    }

    async fn switch_on(
        &self,
        cluster: &Cluster<'_>,
        api: &Api,
        deadline: Instant,
        claim: &mut Claim<'_>,
    ) -> Result<(), AccessError> {
        let enabled = is_enabled(api).await?;
        claim.take(api, enabled).await?;
        if enabled {
            return Ok(());
        }
        let without = cluster.without_root().await;
        if !without.is_empty() {
            return Err(AccessError::Cluster(format!(
                "root's certificate (operator.crt) is missing beside those of the members on {}, and without it this provider could not \
                 look at them any more. Apply the members first: a plan shows the missing file as their drift",
                without.join(", ")
            )));
        }
        settle(api, deadline, None, || async move {
            let enabled = is_enabled(api).await?;
            let role = api.role(access::ROOT, READ).await?.is_some();
            let user = api.user(access::ROOT, READ).await?;
            Ok(access::enabled(enabled, role, user.as_ref()))
        })
        .await?;
        // As root: that is what everything from now on depends on.
        Ok(api.confirm_quorum(READ).await?)
    }

    async fn switch_off(&self, prior: &Value, private: &[u8]) -> Result<(), AccessError> {
        let api = Cluster::of(&self.road, prior)?.enter(Instant::now() + READ).await?;
        let thing = Thing::of(KIND, prior);
        if belongs_to_another(&self.road, &thing, &api, private).await? {
            return Ok(());
        }
        if is_enabled(&api).await? {
            api.auth_disable(READ).await?;
        }
        Ok(thing.forget(&api).await?)
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        let state = known(&request.planned);
        let thing = Thing::of(KIND, &state);
        let claim = match Claim::new(&self.road, thing, request.prior.is_null(), &request.private) {
            Ok(claim) => claim,
            Err(diagnostic) => return ApplyResponse::refused(request.prior, request.private, diagnostic.into()),
        };
        let deadline = Instant::now() + CHANGE;
        let work = async |cluster: &Cluster<'_>, api: &Api, claim: &mut Claim<'_>| {
            self.switch_on(cluster, api, deadline, claim).await
        };
        let cluster = Cluster::of(&self.road, &state);
        let (private, outcome) = claim.around(cluster, deadline, work).await;
        let state = if outcome.is_ok() { state } else { request.prior };
        changed(
            "Access control",
            state,
            private,
            outcome.map_err(|error| (Path::of("cluster"), error)),
        )
    }
}

fn needs_tls(block: &Value) -> Diagnostics {
    if block.at(&["cluster", "tls", "enabled"]).as_bool() != Some(false) {
        return Diagnostics::new();
    }
    let detail = "Without TLS nobody shows a certificate, so every client would need a password, sent in the clear, and so would this \
                  provider. Access control is for clusters with TLS.";
    Diagnostic::error("Access control needs TLS", detail)
        .at(Path::of("cluster"))
        .into()
}

#[async_trait]
impl Resource for AuthResource {
    fn name(&self) -> &'static str {
        "etcd_auth"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "Access control of a cluster: switched on as long as this is there. From then on a client may do what the roles of \
                          its user allow, and nothing else.",
            attributes: remember_cluster(vec![
                cluster_attribute(),
                Attribute::string("id")
                    .computed()
                    .use_state()
                    .describe("The cluster's name."),
            ]),
        }
    }

    fn identity(&self) -> Vec<Attribute> {
        import::identity(None)
    }

    fn identity_of(&self, state: &Value) -> Value {
        import::identity_of(state, false)
    }

    async fn import(&self, _context: &Context, request: ImportRequest) -> ImportResponse {
        import::take_over(&self.road, self.name(), &request, false).await
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        needs_tls(config)
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let diagnostics = needs_tls(&request.planned);
        PlanResponse {
            diagnostics,
            ..plan(&self.road, KIND, request)
        }
    }

    async fn plan_destroy(&self, _context: &Context, prior: &Value, private: Vec<u8>) -> (Vec<u8>, Diagnostics) {
        plan_destroy(&self.road, prior, &private)
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let found = self.look(&request).await;
        looked("Access control", request, found)
    }

    async fn create(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        self.apply(request).await
    }

    async fn update(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        self.apply(request).await
    }

    async fn delete(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let outcome = self.switch_off(&request.prior, &request.private).await;
        deleted("Access control", request.prior, &request.private, outcome)
    }
}
