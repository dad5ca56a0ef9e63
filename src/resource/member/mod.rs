//! `etcd_member`: the etcd that runs on one server.

mod adopt;
mod binary;
mod bring_up;
mod complaints;
mod copied;
mod diagnostics;
mod down;
mod drift;
mod errors;
pub mod hand_over;
mod hang_up;
mod import;
mod install;
pub(super) mod kept;
pub(super) mod leave;
mod log;
pub(super) mod membership_changes;
pub mod model;
mod object;
mod observe;
mod plan;
mod redial;
mod refresh;
mod revoked;
pub(super) mod scheduled;
mod state;
pub mod survey;
pub mod turn;
mod verify;
mod waiting;
pub mod wanted;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::etcd::certificates::PrivateKeyPem;
use crate::etcd::layout::Layout;
use crate::etcd::version::Version;
use crate::membership::leaving::Fate;
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, ImportRequest, ImportResponse, PlanRequest, PlanResponse, ReadRequest,
    ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::{Value, from_value};
use crate::resource::claim::Claim;
use crate::resource::cluster::model as cluster;
use crate::resource::objects::{self, Creating};
use crate::resource::road::Road;
use crate::resource::talk;
use crate::resource::timeouts;
use crate::topology::Topology;
use binary::Known;
use bring_up::BringUp;
use diagnostics::{explain, not_dialled, not_ours, remarkable, unverified};
use errors::BringUpError;
use kept::Word;
use leave::Leave;
use model::MemberModel;
use object::thing;
use state::state_of;
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
        let claim = match Claim::new(prior.is_null(), &request.private) {
            Ok(claim) => claim,
            Err(diagnostic) => return ApplyResponse::refused(prior, request.private, diagnostic.into()),
        };
        // What the state says of an update that failed is what it said before, with the words that are kept beside it.
        let words = request.private.clone();
        let keep = |diagnostics| ApplyResponse::refused(prior.clone(), claim.kept_with(&words), diagnostics);
        let whole = match whole(&request.planned) {
            Ok(whole) => whole,
            Err(diagnostics) => return keep(diagnostics),
        };
        let session = self.road.session(whole.member.cluster.token());
        session.announce_coming(&whole.member.server);
        let keys = self.keys(&request.config, &whole.member);
        // A change of a member that runs and was verified before is none of its links'.
        let verified = prior.get("service").as_str() == Some("running") && !Word::Unverified.is_in(&request.private);
        // One that may have joined anew is asked who it is now.
        let verify = !verified || request.planned.get("member_id").is_unknown() || drift::is_copied(&prior);
        let bring_up = BringUp {
            road: &self.road,
            member: &whole.member,
            topology: &whole.topology,
            layout: &whole.layout,
            version: &whole.version,
            keys: &keys,
            verify,
            existed: !prior.is_null(),
            suspect: drift::is_copied(&prior),
            program: Known::new(&prior, &request.planned),
            moved: redial::moved(&whole.member, &whole.topology, &prior),
            deadline,
            claim: &claim,
            talk: OnceLock::new(),
            founding: Notify::new(),
        };
        let thing = thing(whole.member.cluster.token(), &whole.member.server);
        let creating = prior
            .is_null()
            .then(|| Creating::new(&self.road, thing, claim.object()));
        let outcome = bring_up.run().await;
        if let (Some(creating), Ok(_) | Err(BringUpError::Stopped { runs: true })) = (creating, &outcome) {
            creating.keep();
        }
        match outcome {
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
                private: claim.kept(),
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
                    private: Word::Unverified.with(claim.kept()),
                    diagnostics: warning.into(),
                }
            }
            Err(error)
                if error.is_of_the_connection()
                    && !self.road.stopped()
                    && plan::only_views_differ(&prior, &request.planned) =>
            {
                unreached(&whole.member, &prior, request.planned, &error, claim.kept())
            }
            // A failed create returns no state on purpose: Terraform would mark the member as tainted and replace it,
            // data and all, where the next create can go on from what it finds.
            Err(error) => keep(explain(&whole.member, !prior.is_null(), &error).into()),
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
}

/// The member as it is to be once its server can be reached again. What it lacks until then is how it sees the others.
fn unreached(
    member: &MemberModel,
    prior: &Value,
    mut planned: Value,
    error: &BringUpError,
    kept: Vec<u8>,
) -> ApplyResponse {
    for name in ["certificate_expiry", "certificate_serials"] {
        planned.set(name, prior.get(name).clone());
    }
    let warning = Diagnostic::warning(
        format!("Member {} was not changed", member.server),
        format!(
            "Its server could not be reached. Its configuration is to get the cluster's other members, which it needs for a start \
             without data alone; a later apply makes up for it. {error}"
        ),
    );
    ApplyResponse {
        state: planned.unknown_as_null(),
        private: Word::Unreached.with(kept),
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
        let (mut planned, mut diagnostics) = plan::refine(&request.prior, request.planned);
        let prior_token = request.prior.at(&["cluster", "token"]).as_str();
        if let (Some(token), Some(warning)) = (prior_token, plan::no_way_back(&request.prior, &planned))
            && self.road.session(token).says_first("no way back")
        {
            diagnostics.push(warning);
        }
        scheduled::refine(&request.config, &mut planned);
        if Word::Unverified.is_in(&request.private) {
            // The last apply was stopped before it had seen the member at work: this one shall.
            planned.set("service", Value::Unknown);
        }
        let (token, server) = (request.prior.at(&["cluster", "token"]), request.prior.get("server"));
        let private = if request.prior.is_null() {
            // That of the object which it replaces, if there is one, is for its delete.
            Word::Created.with(objects::keep(objects::kept(&request.private).as_ref()))
        } else {
            // Only what is to stay is planned so: a deposed object never is.
            if let (Some(token), Some(server), Some(newest)) = (token.as_str(), server.as_str(), self.road.newest()) {
                newest.note(&thing(token, server), objects::kept(&request.private));
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
        let token = prior.at(&["cluster", "token"]).as_str();
        let stays = token.is_some_and(|token| self.road.session(token).cluster_stays());
        let private = if stays {
            Word::ClusterStays.with(private)
        } else {
            private
        };
        let server = prior.get("server").as_str();
        let lost = token
            .zip(server)
            .is_some_and(|(token, server)| self.road.session(token).is_lost(server));
        let private = if lost { Word::Lost.with(private) } else { private };
        (private, Diagnostics::new())
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
            Ok(whole) if !replaced && self.belongs_to_another(&whole, &private).await => {
                let server = &whole.member.server;
                tracing::info!(
                    server,
                    "the member belongs to a newer object of Terraform's: it stays as it is"
                );
                Diagnostics::new()
            }
            Ok(whole) => {
                let fate = if replaced { Fate::Replaced } else { Fate::Gone };
                match self.road.limits(Instant::now() + within) {
                    Ok(limits) => {
                        let object = (&whole.member, &whole.topology, &whole.layout);
                        Leave::new((&self.road, limits), object, fate, stays).run().await
                    }
                    Err(error) => Diagnostic::error(error.to_string(), "Nothing was changed.").into(),
                }
            }
            Err(diagnostics) => diagnostics,
        };
        // What tells a replacement is the plan's, and not to be kept.
        let mut private = if replaced {
            objects::keep(objects::kept(&private).as_ref())
        } else {
            private
        };
        if replaced
            && private.is_empty()
            && diagnostics.has_errors()
            && let Ok(whole) = whole(&request.prior)
        {
            // The plan for one that is tainted does not get what was kept.
            private = objects::keep(self.belongs_to(&whole).await.as_ref());
        }
        ApplyResponse::deleted(request.prior, private, diagnostics)
    }
}
