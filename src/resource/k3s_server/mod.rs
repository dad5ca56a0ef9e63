//! `etcd_k3s_server`: k3s on one server, with the etcd in it or with one outside of it.

mod alike;
mod bring_up;
mod errors;
mod install;
mod leave;
pub mod model;
mod steps;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::host::Secret;
use crate::membership::incarnation::{Incarnation, is_superseded};
use crate::membership::leaving::Fate;
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, PlanRequest, PlanResponse, ReadRequest, ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Schema;
use crate::plugin::value::{Value, from_value};
use crate::resource::blind::{self, Unseen};
use crate::resource::claim::{Claim, OnServer};
use crate::resource::cluster::model::ClusterModel;
use crate::resource::k3s::model as cluster_model;
use crate::resource::k3s::talk::certificate;
use crate::resource::k3s::{API_PORT, directory};
use crate::resource::member::kept::Word;
use crate::resource::objects::{self, Creating};
use crate::resource::road::Road;
use crate::resource::talk::Talk;
use crate::resource::timeouts;
use crate::topology::{Topology, Translation};
use bring_up::{BringUp, Up};
use install::Installed;
use leave::Leave;
use model::K3sServerModel;

const CREATE: Duration = Duration::from_secs(600);
const DELETE: Duration = Duration::from_secs(120);
const READ: Duration = Duration::from_secs(20);
/// How long a refresh waits for an answer of etcd's.
const ANSWER: Duration = Duration::from_secs(3);

/// The block.
pub struct K3sServerResource {
    road: Arc<Road>,
}

/// A server with what follows from it.
struct Whole {
    server: K3sServerModel,
    topology: Topology,
    translation: Option<Translation>,
    etcd: ClusterModel,
    configuration: String,
    url: String,
}

impl Whole {
    fn on_server<'a>(&'a self, folder: &'a str) -> Option<OnServer<'a>> {
        let (name, cluster) = (&self.server.server, &self.server.cluster);
        Some(OnServer {
            thing: thing(cluster.id(), name),
            server: cluster.servers.get(name)?,
            folder,
            of: ("id", cluster.id()),
        })
    }
}

impl K3sServerResource {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn carry_out(&self, request: ApplyRequest, within: Duration) -> ApplyResponse {
        let ApplyRequest {
            prior,
            planned,
            config,
            private,
        } = request;
        let claim = match Claim::new(prior.is_null(), &private) {
            Ok(claim) => claim,
            Err(diagnostic) => return ApplyResponse::refused(prior, private, diagnostic.into()),
        };
        let keep = |diagnostics| ApplyResponse::refused(prior.clone(), claim.kept(), diagnostics);
        let mut diagnostics = Diagnostics::new();
        let Some(whole) = whole(&planned, &mut diagnostics) else {
            diagnostics.push(Diagnostic::error(
                "The server can't be read",
                "Something in it is not known.",
            ));
            return keep(diagnostics);
        };
        let given = [config.get("token_wo"), config.at(&["cluster", "token"])];
        let token = given.iter().find_map(|token| token.as_str()).map(Secret::from);
        if token.is_none() && prior.is_null() {
            let detail = "The cluster keeps no token, so this server needs it: give it in token_wo.";
            return keep(Diagnostic::error("No token", detail).at(Path::of("token_wo")).into());
        }
        let bring_up = BringUp {
            road: &self.road,
            server: &whole.server,
            topology: &whole.topology,
            translation: whole.translation.as_ref(),
            etcd: &whole.etcd,
            configuration: &whole.configuration,
            token: token.as_ref(),
            deadline: Instant::now() + within,
            claim: &claim,
            refused: OnceLock::new(),
        };
        let thing = thing(whole.server.cluster.id(), &whole.server.server);
        let creating = prior
            .is_null()
            .then(|| Creating::new(&self.road, thing, claim.object()));
        let outcome = bring_up.run().await;
        if let (Some(creating), Ok(_)) = (creating, &outcome) {
            creating.keep();
        }
        match outcome {
            Ok(up) => ApplyResponse {
                state: state_of(planned, &whole, &up),
                private: claim.kept(),
                diagnostics: Diagnostics::new(),
            },
            // A failed create returns no state on purpose, as that of a member: the next one goes on from what it finds.
            Err(error) => keep(error.diagnostic(&whole.server.server).into()),
        }
    }

    async fn belongs_to_another(&self, whole: &Whole, private: &[u8]) -> bool {
        match whole.on_server(&directory(&whole.server.cluster.name)) {
            Some(on_server) => on_server.is_superseded(&self.road, private).await,
            None => false,
        }
    }

    async fn belongs_to(&self, whole: &Whole) -> Option<Incarnation> {
        let folder = directory(&whole.server.cluster.name);
        whole.on_server(&folder)?.belongs_to(&self.road).await
    }

    async fn refresh(&self, mut state: Value, private: &[u8]) -> (Value, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let Some(whole) = whole(&state, &mut diagnostics) else {
            return (state, diagnostics);
        };
        let name = &whole.server.server;
        let unknown = |error: &dyn std::fmt::Display| {
            let detail = format!("Its state is taken to be as it was. {error}");
            Diagnostics::from(Diagnostic::warning(
                format!("k3s on server {name} could not be observed"),
                detail,
            ))
        };
        let Some(server) = whole.server.cluster.servers.get(name) else {
            return (state, diagnostics);
        };
        let host = match self.road.connect(server, READ, false).await {
            Ok(host) => host,
            Err(error) => {
                let cluster = &whole.server.cluster;
                if let Some(blind) = blind::refuse_alone(&self.road, &cluster.name, &cluster.servers, READ).await {
                    return (state, blind.into());
                }
                let what = "The state of k3s there is taken to be as it was.".to_owned();
                let (road, server) = (&*self.road, Some(server));
                let unseen = Unseen {
                    road,
                    name,
                    server,
                    what,
                };
                return (state, unseen.explain(&error));
            }
        };
        let binary = whole.server.binary.clone().unwrap_or_default();
        let seen = match install::look(&host, &whole.server, &binary).await {
            Ok(seen) => seen,
            Err(error) => return (state, unknown(&error)),
        };
        if seen.is_nothing() {
            return (Value::Null, diagnostics);
        }
        observed(&mut state, &whole, &seen);
        state.set("binary", seen.binary.clone());
        state.set("configuration", seen.configuration.clone());
        if let Some(version) = &seen.version {
            state.set("running_version", version.as_str());
        }
        if seen.pending {
            state.set("service", "restart-pending");
        }
        if seen.removed {
            state.set("service", "removed");
        }
        if is_superseded(objects::kept(private).as_ref(), seen.object.as_ref()) {
            state.set("service", "taken-over");
        }
        if let (Some(all), Some("running")) = (&whole.translation, state.get("service").as_str())
            && let Some(tls) = certificate(&host).await
        {
            let talk = Talk::new(&self.road, &whole.etcd, &whole.topology, Some(tls)).with_peer_urls(all.peer_urls());
            if let Ok(api) = talk.to(name, ANSWER).await
                && let Ok(status) = api.status(ANSWER).await
                && status.is_learner
            {
                state.set("service", "learner");
            }
        }
        (state, diagnostics)
    }
}

/// What this process calls a server of k3s, whichever object of Terraform's it belongs to.
fn thing(id: &str, server: &str) -> String {
    format!("k3s {id}/{server}")
}

/// What the look says, on attributes.
fn observed(state: &mut Value, whole: &Whole, seen: &Installed) {
    let service = match seen.active.as_deref() {
        Some("active" | "reloading") => "running",
        Some("activating") => "starting",
        Some("failed") => "failed",
        _ => "stopped",
    };
    state.set("service", service);
    if let Some(kubeconfig) = &seen.kubeconfig {
        let here = format!("https://127.0.0.1:{API_PORT}");
        state.set("kubeconfig", kubeconfig.expose().replace(&here, &whole.url));
    }
    // Where the token is never stored this, which has it, isn't either.
    if let Some(token) = &seen.join_token
        && !state.get("join_token").is_null()
    {
        state.set("join_token", token.expose());
    }
}

fn state_of(planned: Value, whole: &Whole, up: &Up) -> Value {
    let mut state = planned;
    let token = state.get("join_token").clone();
    let kubeconfig = state.get("kubeconfig").clone();
    observed(&mut state, whole, &up.installed);
    // What was planned as it was stays so.
    for (name, before) in [("join_token", token), ("kubeconfig", kubeconfig)] {
        if !before.is_unknown() {
            state.set(name, before);
        }
    }
    let (server, cluster) = (&whole.server.server, &whole.server.cluster.name);
    state.set("id", format!("{cluster}/{server}"));
    state.set("service", "running");
    state.set("binary", up.binary.as_str());
    state.set("running_version", up.version.as_str());
    state.unknown_as_null()
}

/// Reads a plan or state. `None` while something is unknown, or where there are errors.
fn whole(block: &Value, diagnostics: &mut Diagnostics) -> Option<Whole> {
    let cluster = block.get("cluster");
    let at = Path::of("cluster");
    let topology = cluster_model::topology(cluster, &at, diagnostics)?;
    let translation = match cluster_model::has_etcd(cluster)? {
        true => {
            let addresses = cluster.get("addresses");
            if !addresses.is_wholly_known() {
                return None;
            }
            Some(cluster_model::translation(
                cluster,
                &topology,
                addresses,
                &at,
                diagnostics,
            )?)
        }
        false => None,
    };
    let server: K3sServerModel = match from_value(&block.unknown_as_null()) {
        Ok(server) => server,
        Err(error) => {
            diagnostics.push(Diagnostic::error("The server can't be read", error.to_string()));
            return None;
        }
    };
    let (_, place) = match topology.find(&server.server) {
        Ok(found) => found,
        Err(error) => {
            diagnostics.push(Diagnostic::error("No such server", error.to_string()).at(Path::of("server")));
            return None;
        }
    };
    let address = place.public_address.unwrap_or(place.private_address);
    let url = format!("https://{}", std::net::SocketAddr::new(address, API_PORT));
    let configuration = model::configuration(&server, &topology, translation.as_ref())?;
    Some(Whole {
        etcd: server.cluster.as_etcd(),
        server,
        topology,
        translation,
        configuration,
        url,
    })
}

/// Refines a plan.
fn refine(prior: &Value, mut planned: Value) -> (Value, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    planned.set("service", "running");
    let known = planned.get("install").is_wholly_known() && planned.get("config").is_wholly_known();
    let whole = if known && planned.get("server").as_str().is_some() {
        whole(&planned, &mut diagnostics)
    } else {
        None
    };
    let binary = whole
        .as_ref()
        .and_then(|whole| install::binary_path(&whole.server.install));
    planned.set("binary", binary.map_or(Value::Unknown, Value::from));
    let text = |value: &Value| value.as_str().map(install::version_text);
    let version = planned.get("version").clone();
    if text(&version).is_some() && text(&version) == text(prior.get("version")) {
        planned.set("version", prior.get("version").clone());
    }
    let same = planned.get("binary") == prior.get("binary") && !prior.get("binary").is_null();
    planned.set(
        "running_version",
        match version {
            Value::Null if same => prior.get("running_version").clone(),
            Value::Null => Value::Unknown,
            version => text(&version).map_or(Value::Unknown, Value::from),
        },
    );
    match whole {
        Some(whole) => {
            let (server, cluster) = (&whole.server.server, &whole.server.cluster.name);
            // What it is known by is there when it is: whoever uses the ID waits for k3s.
            match prior.is_null() {
                true => planned.set("id", Value::Unknown),
                false => planned.set("id", format!("{cluster}/{server}")),
            }
            let address = { whole.translation.iter().flat_map(|all| all.members()) }
                .find(|(name, _)| name.as_str() == server)
                .map(|(_, address)| address.to_string());
            planned.set("member_address", address);
            planned.set("configuration", whole.configuration);
            planned.set("url", whole.url.as_str());
            // The address in it.
            if prior.get("url").as_str() != Some(&whole.url) {
                planned.set("kubeconfig", Value::Unknown);
            }
        }
        None => {
            for name in ["configuration", "url"] {
                planned.set(name, Value::Unknown);
            }
        }
    }
    if planned.get("join_token").is_null() {
        planned.set("join_token", Value::Unknown);
    }
    if planned.get("kubeconfig").is_null() {
        planned.set("kubeconfig", Value::Unknown);
    }
    (planned, diagnostics)
}

#[async_trait]
impl Resource for K3sServerResource {
    fn name(&self) -> &'static str {
        "etcd_k3s_server"
    }

    fn schema(&self) -> Schema {
        model::schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        model::validate(config)
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let (mut planned, mut diagnostics) = refine(&request.prior, request.planned);
        let (config, cluster) = (&request.config, request.config.get("cluster"));
        let kept_nowhere = cluster.as_map().is_some() && cluster.get("token").is_null();
        if kept_nowhere || !config.get("token_wo").is_null() {
            planned.set("join_token", Value::Null);
        }
        let known = |block: &Value| {
            let known = { ["server", "install", "config"].iter() }.all(|name| block.get(name).is_wholly_known());
            known.then(|| whole(block, &mut Diagnostics::new())).flatten()
        };
        if let Some(now) = known(&planned) {
            let before = known(&request.prior).filter(|before| before.server.cluster.id() == now.server.cluster.id());
            diagnostics.append(alike::check(&self.road, before.as_ref(), &now));
        }
        let (id, server) = (request.prior.at(&["cluster", "id"]), request.prior.get("server"));
        let private = if request.prior.is_null() {
            // That of the object which it replaces, if there is one, is for its delete.
            Word::Created.with(objects::keep(objects::kept(&request.private).as_ref()))
        } else {
            // Only what is to stay is planned so: a deposed object never is.
            if let (Some(id), Some(server), Some(newest)) = (id.as_str(), server.as_str(), self.road.newest()) {
                newest.note(&thing(id, server), objects::kept(&request.private));
            }
            request.private
        };
        PlanResponse {
            planned,
            requires_replace: Vec::new(),
            private,
            diagnostics,
        }
    }

    async fn plan_destroy(&self, _context: &Context, prior: &Value, private: Vec<u8>) -> (Vec<u8>, Diagnostics) {
        let id = prior.at(&["cluster", "id"]).as_str();
        let stays = id.is_some_and(|id| self.road.session(id).cluster_stays());
        (
            if stays {
                Word::ClusterStays.with(private)
            } else {
                private
            },
            Diagnostics::new(),
        )
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let (state, diagnostics) = self.refresh(request.state, &request.private).await;
        ReadResponse {
            state,
            private: request.private,
            diagnostics,
        }
    }

    async fn create(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.planned, "create", CREATE);
        self.carry_out(request, within).await
    }

    async fn update(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.planned, "update", CREATE);
        self.carry_out(request, within).await
    }

    async fn delete(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.prior, "delete", DELETE);
        let mut diagnostics = Diagnostics::new();
        if let Some(whole) = whole(&request.prior, &mut diagnostics) {
            let fate = if Word::Created.is_in(&request.private) {
                Fate::Replaced
            } else {
                Fate::Gone
            };
            if fate == Fate::Gone && self.belongs_to_another(&whole, &request.private).await {
                let server = &whole.server.server;
                tracing::info!(
                    server,
                    "k3s there belongs to a newer object of Terraform's: it stays as it is"
                );
                return ApplyResponse::deleted(request.prior, Vec::new(), diagnostics);
            }
            let limits = self.road.limits(Instant::now() + within);
            let stays = Word::ClusterStays.is_in(&request.private);
            let translation = whole.translation.as_ref();
            match limits {
                Ok(limits) => {
                    let object = (&whole.server, &whole.topology);
                    let leave = Leave::new((&self.road, limits), object, translation, &whole.etcd);
                    diagnostics.append(leave.run(fate, stays).await);
                }
                Err(error) => diagnostics.push(Diagnostic::error(error.to_string(), "Nothing was changed.")),
            }
        }
        let mut private = objects::keep(objects::kept(&request.private).as_ref());
        if Word::Created.is_in(&request.private)
            && private.is_empty()
            && diagnostics.has_errors()
            && let Some(whole) = whole(&request.prior, &mut Diagnostics::new())
        {
            // The plan for one that is tainted does not get what was kept.
            private = objects::keep(self.belongs_to(&whole).await.as_ref());
        }
        ApplyResponse::deleted(request.prior, private, diagnostics)
    }
}
