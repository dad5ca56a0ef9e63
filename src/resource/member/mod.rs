//! `etcd_member`: the etcd that runs on one server.

mod adopt;
mod binary;
mod bring_up;
mod diagnostics;
mod drift;
mod errors;
pub mod hand_over;
mod hang_up;
mod import;
mod install;
pub(super) mod kept;
pub(super) mod leave;
pub(super) mod membership_changes;
pub mod model;
mod observe;
mod plan;
mod redial;
pub(super) mod scheduled;
mod state;
pub mod survey;
pub mod turn;
mod verify;
mod waiting;
pub mod wanted;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::etcd::certificates::{PrivateKeyPem, parse};
use crate::etcd::layout::Layout;
use crate::etcd::version::Version;
use crate::membership::leaving::Fate;
use crate::membership::member::{Data, Service};
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, ImportRequest, ImportResponse, PlanRequest, PlanResponse, ReadRequest,
    ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::model as cluster;
use crate::resource::road::Road;
use crate::resource::talk::{self, Talk};
use crate::resource::timeouts;
use crate::topology::Topology;
use bring_up::BringUp;
use diagnostics::{explain, not_dialled, not_ours, remarkable, unverified};
use errors::BringUpError;
use kept::Word;
use leave::Leave;
use model::MemberModel;
use observe::{Look, Seen};
use state::{as_map, rfc3339, state_of};
use wanted::Keys;

const CREATE: Duration = Duration::from_secs(300);
const DELETE: Duration = Duration::from_secs(120);
const READ: Duration = Duration::from_secs(20);
/// How long a refresh waits for an answer of etcd's.
const ANSWER: Duration = Duration::from_secs(3);

/// The block.
pub struct MemberResource {
    road: Arc<Road>,
}

/// A member with what follows from it.
struct Whole {
    member: MemberModel,
    topology: Topology,
    layout: Layout,
    version: Version,
}

impl MemberResource {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn bring_up(&self, mut request: ApplyRequest, within: Duration) -> ApplyResponse {
        scheduled::refine(&request.config, &mut request.planned);
        let deadline = Instant::now() + within;
        let prior = request.prior.clone();
        // What the state says of an update that failed is what it said before, with the words that are kept beside it.
        let words = match prior.is_null() {
            true => Vec::new(),
            false => request.private.clone(),
        };
        let keep = |diagnostics: Diagnostics| ApplyResponse {
            state: prior.clone(),
            private: words.clone(),
            diagnostics,
        };
        let whole = match whole(&request.planned) {
            Ok(whole) => whole,
            Err(diagnostics) => return keep(diagnostics),
        };
        if let Err(error) = self.road.stays(whole.member.cluster.token(), &whole.member.server) {
            return keep(explain(&whole.member, !prior.is_null(), &error.into()).into());
        }
        let keys = self.keys(&request.config, &whole.member);
        // A change of a member that runs and was verified before is none of its links'.
        let verified = prior.get("service").as_str() == Some("running") && !Word::Unverified.is_in(&request.private);
        // One that may have joined anew is asked who it is now.
        let verify = !verified || request.planned.get("member_id").is_unknown();
        let bring_up = BringUp {
            road: &self.road,
            member: &whole.member,
            topology: &whole.topology,
            layout: &whole.layout,
            version: &whole.version,
            keys: &keys,
            verify,
            existed: !prior.is_null(),
            moved: redial::moved(&whole.member, &whole.topology, &prior),
            deadline,
            talk: OnceLock::new(),
            founding: Notify::new(),
        };
        match bring_up.run().await {
            Ok(up) => ApplyResponse {
                diagnostics: [
                    unverified(&whole.member.server, &up.verified.outside),
                    remarkable(&whole.member.server, &up.verified.remarks),
                    not_dialled(&whole.member, &up.left),
                ]
                .into_iter()
                .flatten()
                .collect(),
                state: state_of(request.planned, &up),
                private: Vec::new(),
            },
            // What runs belongs into the state, and an error would make Terraform replace it.
            Err(error @ BringUpError::Stopped { runs: true }) => {
                let state = request.planned.unknown_as_null();
                let warning = Diagnostic::warning(
                    format!("Member {} is not verified", whole.member.server),
                    error.to_string(),
                );
                ApplyResponse {
                    state,
                    private: Word::Unverified.alone(),
                    diagnostics: warning.into(),
                }
            }
            Err(error)
                if error.is_of_the_connection()
                    && !self.road.stopped()
                    && plan::only_views_differ(&prior, &request.planned) =>
            {
                unreached(&whole.member, &prior, request.planned, &error)
            }
            // A failed create returns no state on purpose: Terraform would mark the member as tainted and replace it,
            // data and all, where the next create can go on from what it finds.
            Err(error) => keep(explain(&whole.member, !prior.is_null(), &error).into()),
        }
    }

    /// A member whose server is gone for good: there is no quorum to take it out of the cluster, and the one that its cluster becomes
    /// does not have it.
    async fn forget(&self, member: &MemberModel) -> Diagnostics {
        let Some(server) = member.server() else {
            return Diagnostics::new();
        };
        let (name, cluster) = (&member.server, &member.cluster.name);
        match self.road.connect(server, READ, false).await {
            Ok(_) => {
                let detail = format!(
                    "Server {name} answers, and the cluster's `recovery` says that it is lost. If only its data is gone, take it out of \
                     `lost` and leave it in the configuration. Nothing was changed."
                );
                Diagnostic::error(format!("Member {name} is not lost"), detail)
                    .at(Path::of("server"))
                    .into()
            }
            Err(error) => {
                let detail = format!(
                    "Its server is gone for good, as `recovery` says, so it was only forgotten. Should the machine come back, its \
                     member finds nobody of the cluster {cluster} as it was: run `systemctl disable --now etcd-{cluster}` there. {error}"
                );
                Diagnostic::warning(format!("Member {name} was forgotten"), detail)
                    .at(Path::of("server"))
                    .into()
            }
        }
    }

    /// The keys of the authorities: the member's own, the cluster's, or the provider's.
    fn keys(&self, config: &Value, member: &MemberModel) -> Keys {
        let given = self.road.authority_keys(&member.cluster.name);
        let key = |own: &str, kind: &str, provider: Option<String>| {
            let own = config.get(own).as_str().map(str::to_owned);
            let cluster = config
                .at(&["cluster", "certificate_authorities", kind, "private_key"])
                .as_str()
                .map(str::to_owned);
            own.or(cluster).or(provider).map(PrivateKeyPem::new)
        };
        Keys {
            peer: key("peer_ca_private_key_wo", "peer", given.peer_private_key),
            client: key("client_ca_private_key_wo", "client", given.client_private_key),
        }
    }

    async fn refresh(&self, mut state: Value, unreached: bool) -> (Value, Diagnostics) {
        let whole = match whole(&state) {
            Ok(whole) => whole,
            Err(diagnostics) => return (state, diagnostics),
        };
        let server = &whole.member.server;
        let unknown = |error: &dyn std::fmt::Display| {
            Diagnostic::warning(
                format!("Member {server} could not be observed"),
                format!("Its state is taken to be as it was. {error}"),
            )
        };
        let Some(model) = whole.member.server() else {
            return (state, Diagnostics::new());
        };
        let host = match self.road.connect(model, READ, false).await {
            Ok(host) => host,
            Err(error) => {
                if unreached {
                    // Nothing else would make the next plan show that changes are still to be made there.
                    let missing = (drift::SERVER.to_owned(), drift::UNREACHED.to_owned());
                    state.set("drift", as_map(BTreeMap::from([missing])));
                }
                return (state, unknown(&error).into());
            }
        };
        let binary = binary::path(&whole.member, &whole.version);
        let files = wanted::compared_files(&whole.layout);
        let look = Look {
            binary: &binary,
            files: &files,
            key: true,
            ..Look::default()
        };
        let seen = observe::observe(&host, &whole.member, &whole.layout, look).await;
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => return (state, unknown(&error).into()),
        };
        if seen.is_nothing() {
            return (Value::Null, Diagnostics::new());
        }
        (self.seen_state(state, &whole, seen).await, Diagnostics::new())
    }

    async fn seen_state(&self, mut state: Value, whole: &Whole, mut seen: Seen) -> Value {
        state.set("configuration", seen.configuration.clone());
        state.set("tcp_retries2", seen.tcp_retries2);
        state.set(
            "service",
            match seen.service {
                _ if seen.token.is_none() && seen.former_runs() => "running",
                Service::Running => "running",
                Service::Stopped => "stopped",
                Service::Failed => "failed",
            },
        );
        if whole.member.cluster.tls_enabled() {
            let end = |file: &str| {
                seen.certificates
                    .get(file)
                    .and_then(|pem| parse(pem).ok())
                    .map(|info| rfc3339(info.not_after))
            };
            let expiry = [("peer", "peer"), ("peer_client", "peer-client"), ("client", "server")]
                .map(|(kind, file)| (kind, Value::from(end(file))));
            state.set("certificate_expiry", Value::object(expiry));
        }
        // What a stopped member goes on from.
        if let Some(last) = &seen.last {
            state.set("running_version", last.as_str());
        }
        let drift = drift::drift(whole, &seen);
        state.set("drift", as_map(drift.clone()));
        let talk = Talk::borrow(&self.road, &whole.member.cluster, &whole.topology, seen.lent.take());
        let Some(talk) = talk else { return state };
        if seen.service != Service::Running {
            // A member that was taken out of the cluster ends by itself, and can't come back with its data.
            if seen.data == Data::Member
                && let Some(survey) = survey::survey(&talk, &whole.member, &whole.topology).await
                && survey.own.is_none()
            {
                let left = (drift::MEMBER_LIST.to_owned(), drift::REMOVED.to_owned());
                state.set("drift", as_map(drift.into_iter().chain([left]).collect()));
            }
            return state;
        }
        // Without a quorum it does not answer; that it runs is said above.
        if let Ok(api) = talk.to(&whole.member.server, ANSWER).await
            && let Ok(status) = api.status(ANSWER).await
        {
            state.set("running_version", status.version);
            if status.is_learner {
                // An apply that was cut off left it so; the next one makes a voter of it.
                state.set("service", "learner");
            }
            state.set("member_id", format!("{:x}", status.member_id));
            state.set("cluster_id", format!("{:x}", status.cluster_id));
        }
        state
    }
}

/// The member as it is to be once its server can be reached again. What it lacks until then is how it sees the others.
fn unreached(member: &MemberModel, prior: &Value, mut planned: Value, error: &BringUpError) -> ApplyResponse {
    planned.set("certificate_expiry", prior.get("certificate_expiry").clone());
    let warning = Diagnostic::warning(
        format!("Member {} was not changed", member.server),
        format!(
            "Its server could not be reached. Its configuration is to get the cluster's other members, which it needs for a start \
             without data alone; a later apply makes up for it. {error}"
        ),
    );
    ApplyResponse {
        state: planned.unknown_as_null(),
        private: Word::Unreached.alone(),
        diagnostics: warning.at(Path::of("server")).into(),
    }
}

/// Reads a plan or state.
fn whole(block: &Value) -> Result<Whole, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let unreadable = |what: String| Diagnostics::from(Diagnostic::error("The member can't be read", what));
    let topology = cluster::topology(block.get("cluster"), &Path::of("cluster"), &mut diagnostics);
    let Some(topology) = topology else {
        return Err(if diagnostics.has_errors() {
            diagnostics
        } else {
            unreadable("its cluster is not known".into())
        });
    };
    let member: MemberModel = from_value(&block.unknown_as_null()).map_err(|error| unreadable(error.to_string()))?;
    let layout = plan::layout(block, topology.cluster())?;
    let version = Version::parse(&member.version)
        .map_err(|error| Diagnostic::error("Invalid version of etcd", error.to_string()).at(Path::of("version")))?;
    Ok(Whole {
        member,
        topology,
        layout,
        version,
    })
}

#[async_trait]
impl Resource for MemberResource {
    fn name(&self) -> &'static str {
        "etcd_member"
    }

    fn schema(&self) -> Schema {
        model::schema()
    }

    fn identity(&self) -> Vec<Attribute> {
        import::identity()
    }

    fn identity_of(&self, state: &Value) -> Value {
        import::identity_of(state)
    }

    async fn import(&self, _context: &Context, request: ImportRequest) -> ImportResponse {
        self.take_over(&request).await
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        model::validate(config)
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let (mut planned, diagnostics) = plan::refine(&request.prior, request.planned);
        scheduled::refine(&request.config, &mut planned);
        if Word::Unverified.is_in(&request.private) {
            // The last apply was stopped before it had seen the member at work: this one shall.
            planned.set("service", Value::Unknown);
        }
        let private = if request.prior.is_null() {
            Word::Created.alone()
        } else {
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
        let token = prior.at(&["cluster", "token"]).as_str();
        let stays = token.is_some_and(|token| self.road.cluster_stays(token));
        let private = if stays {
            Word::ClusterStays.with(private)
        } else {
            private
        };
        let server = prior.get("server").as_str();
        let lost = token
            .zip(server)
            .is_some_and(|(token, server)| self.road.is_lost(token, server));
        let private = if lost { Word::Lost.with(private) } else { private };
        (private, Diagnostics::new())
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let unreached = Word::Unreached.is_in(&request.private);
        let (state, diagnostics) = self.refresh(request.state, unreached).await;
        ReadResponse {
            state,
            private: request.private,
            diagnostics,
        }
    }

    async fn create(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.planned, "create", CREATE);
        self.bring_up(request, within).await
    }

    async fn update(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.planned, "update", CREATE);
        self.bring_up(request, within).await
    }

    async fn delete(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.prior, "delete", DELETE);
        let stays = Word::ClusterStays.is_in(&request.private);
        let private = Word::ClusterStays.taken_from(&request.private);
        let replaced = Word::Created.is_in(&private);
        let diagnostics = match whole(&request.prior) {
            Ok(whole) if drift::is_to_be_adopted(&request.prior) => not_ours(&whole.member).into(),
            Ok(whole) if Word::Lost.is_in(&request.private) => self.forget(&whole.member).await,
            Ok(whole) => {
                let leave = Leave {
                    road: &self.road,
                    member: &whole.member,
                    topology: &whole.topology,
                    layout: &whole.layout,
                    fate: if replaced { Fate::Replaced } else { Fate::Gone },
                    stays,
                    deadline: Instant::now() + within,
                };
                leave.run().await
            }
            Err(diagnostics) => diagnostics,
        };
        // What tells a replacement is the plan's, and not to be kept.
        let private = if replaced { Vec::new() } else { private };
        ApplyResponse::deleted(request.prior, private, diagnostics)
    }
}
