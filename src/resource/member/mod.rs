//! `etcd_member`: the etcd that runs on one server.

mod binary;
mod bring_up;
mod leave;
mod membership_changes;
pub mod model;
mod observe;
mod plan;
mod survey;
mod talk;
mod wanted;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::etcd::certificates::{PrivateKeyPem, parse};
use crate::etcd::layout::Layout;
use crate::etcd::version::Version;
use crate::membership::member::{Refusal, Service};
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, PlanRequest, PlanResponse, ReadRequest, ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Schema;
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::model as cluster;
use crate::resource::road::Road;
use crate::resource::timeouts;
use crate::topology::Topology;
use bring_up::{BringUp, BringUpError, Up};
use model::MemberModel;
use observe::Seen;
use talk::Talk;
use wanted::Keys;

const CREATE: Duration = Duration::from_secs(300);
const DELETE: Duration = Duration::from_secs(120);
const READ: Duration = Duration::from_secs(20);
/// How long a refresh waits for an answer of etcd's.
const ANSWER: Duration = Duration::from_secs(3);

/// Kept beside the state of a member whose create was stopped before it was verified.
const UNVERIFIED: &[u8] = b"unverified";

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

    async fn bring_up(&self, request: ApplyRequest, within: Duration) -> ApplyResponse {
        let deadline = Instant::now() + within;
        let prior = request.prior.clone();
        let keep = |diagnostics: Diagnostics| ApplyResponse {
            state: prior.clone(),
            private: Vec::new(),
            diagnostics,
        };
        let whole = match whole(&request.planned) {
            Ok(whole) => whole,
            Err(diagnostics) => return keep(diagnostics),
        };
        let keys = self.keys(&request.config, &whole.member);
        // A change of a member that runs and was verified before is none of its links'.
        let verified = prior.get("service").as_str() == Some("running") && request.private != UNVERIFIED;
        let verify = !verified;
        let bring_up = BringUp {
            road: &self.road,
            member: &whole.member,
            topology: &whole.topology,
            layout: &whole.layout,
            version: &whole.version,
            keys: &keys,
            verify,
            deadline,
            talk: OnceLock::new(),
        };
        match bring_up.run().await {
            Ok(up) => ApplyResponse {
                state: state_of(request.planned, &up),
                private: Vec::new(),
                diagnostics: Diagnostics::new(),
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
                    private: Vec::new(),
                    diagnostics: warning.into(),
                }
            }
            // A failed create returns no state on purpose: Terraform would mark the member as tainted and replace it,
            // data and all, where the next create can go on from what it finds.
            Err(error) => keep(explain(&whole.member, &error).into()),
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

    async fn refresh(&self, state: Value) -> (Value, Diagnostics) {
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
            Err(error) => return (state, unknown(&error).into()),
        };
        let binary = binary::path(&whole.member, &whole.version);
        let seen = observe::observe(&host, &whole.member, &whole.layout, &binary, &[], true).await;
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
        state.set(
            "service",
            match seen.service {
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
        if seen.service != Service::Running {
            return state;
        }
        let key = seen.key.take();
        let talk = Talk::borrow(
            &self.road,
            &whole.member,
            &whole.topology,
            seen.certificates.get("server"),
            key,
        );
        let Some(talk) = talk else { return state };
        // Without a quorum it does not answer; that it runs is said above.
        if let Ok(api) = talk.to(&whole.member.server, ANSWER).await
            && let Ok(status) = api.status(ANSWER).await
        {
            state.set("running_version", status.version);
            state.set("member_id", format!("{:x}", status.member_id));
            state.set("cluster_id", format!("{:x}", status.cluster_id));
        }
        state
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

fn state_of(planned: Value, up: &Up) -> Value {
    let mut state = planned;
    for (name, id) in [
        ("member_id", up.member_id.map(|id| id.to_string())),
        ("cluster_id", up.cluster_id.map(|id| id.to_string())),
    ] {
        if state.get(name).is_unknown() {
            state.set(name, id);
        }
    }
    state.set("configuration", up.configuration.as_str());
    state.set("service", "running");
    if state.get("certificate_expiry").is_unknown() {
        state.set("certificate_expiry", expiry(&up.expiry));
    }
    state.unknown_as_null()
}

fn expiry(ends: &BTreeMap<&'static str, OffsetDateTime>) -> Value {
    if ends.is_empty() {
        return Value::Null;
    }
    let end = |kind: &str| Value::from(ends.get(kind).map(|end| rfc3339(*end)));
    Value::object([
        ("peer", end("peer")),
        ("peer_client", end("peer_client")),
        ("client", end("client")),
    ])
}

fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

/// The error with the attribute that it is about.
fn explain(member: &MemberModel, error: &BringUpError) -> Diagnostic {
    let at = match error {
        BringUpError::Binary(_) => Path::of("binary"),
        BringUpError::Wanted(wanted::WantedError::Config(_)) => Path::of("config"),
        BringUpError::Wanted(_) => Path::of("cluster").attribute("certificate_authorities"),
        BringUpError::Refused { refusal, .. } => match refusal {
            Refusal::ForeignData => Path::of("data_dir"),
            Refusal::Rolling => Path::of("config"),
            _ => Path::of("server"),
        },
        _ => Path::of("server"),
    };
    Diagnostic::error(format!("Member {} is not up", member.server), error.to_string()).at(at)
}

#[async_trait]
impl Resource for MemberResource {
    fn name(&self) -> &'static str {
        "etcd_member"
    }

    fn schema(&self) -> Schema {
        model::schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        model::validate(config)
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let (mut planned, diagnostics) = plan::refine(&request.prior, request.planned);
        if request.private == UNVERIFIED {
            // The last apply was stopped before it had seen the member at work: this one shall.
            planned.set("service", Value::Unknown);
        }
        PlanResponse {
            planned,
            requires_replace: Vec::new(),
            private: request.private,
            diagnostics,
        }
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let (state, diagnostics) = self.refresh(request.state).await;
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
        let diagnostics = match whole(&request.prior) {
            Ok(whole) => leave::leave(&self.road, &whole.member, &whole.topology, &whole.layout, within).await,
            Err(diagnostics) => diagnostics,
        };
        let state = if diagnostics.has_errors() {
            request.prior
        } else {
            Value::Null
        };
        ApplyResponse {
            state,
            private: request.private,
            diagnostics,
        }
    }
}
