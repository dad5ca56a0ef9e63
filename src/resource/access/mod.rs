//! What `etcd_role`, `etcd_user` and `etcd_auth` share: their cluster, the way to it as its root, and how calls are performed.

pub mod import;
pub mod objects;

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout_at};

use crate::access::{Call, Refusal};
use crate::etcd::api::{Api, ApiError};
use crate::etcd::certificates::{ROOT, parse};
use crate::host::Secret;
use crate::plugin::block::{ApplyResponse, PlanRequest, PlanResponse, ReadRequest, ReadResponse};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Attribute;
use crate::plugin::value::{Value, from_value};
use crate::resource::borrowing::{borrow, lent};
use crate::resource::cluster::model::{self, ClusterModel};
use crate::resource::member::kept::Word;
use crate::resource::objects::{keep, kept};
use crate::resource::road::Road;
use crate::topology::Topology;
use objects::Thing;

/// How long a refresh waits for an answer.
pub const READ: Duration = Duration::from_secs(20);
/// How long a cluster that is only just being founded is waited for.
pub const CHANGE: Duration = Duration::from_secs(60);
const QUESTION: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(500);

/// Why there is no way in, or a call failed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The configuration of the cluster can't be used.
    #[error("{0}")]
    Cluster(String),
    /// Nobody answers.
    #[error(
        "none of its members answered as one of a quorum ({0}). Users and roles are kept by the cluster itself, so its members have to run \
         first: depends_on = [etcd_member.<name>]"
    )]
    Nobody(String),
    /// What is wanted must not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// etcd refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Terraform asked to stop.
    #[error("stopped on request; apply again")]
    Stopped,
}

/// The attribute `cluster`.
pub fn cluster_attribute() -> Attribute {
    let mut attributes = model::shared_attributes();
    attributes.extend(model::attributes_without_keys());
    attributes.push(Attribute::string("adopted_from").describe("The service that ran its members before."));
    Attribute::object("cluster", attributes)
        .required()
        .describe("The cluster: `etcd_cluster.<name>`. Private keys are left out: they get into no state here.")
}

/// A cluster whose users and roles are looked at or changed.
pub struct Cluster<'a> {
    road: &'a Road,
    model: ClusterModel,
    topology: Topology,
}

impl<'a> Cluster<'a> {
    /// That of a block.
    ///
    /// # Errors
    /// If it is none.
    pub fn of(road: &'a Road, block: &Value) -> Result<Self, AccessError> {
        let mut diagnostics = Diagnostics::new();
        let cluster = block.get("cluster");
        let topology = model::topology(cluster, &Path::of("cluster"), &mut diagnostics);
        let unusable = |text: String| AccessError::Cluster(format!("the cluster can't be read: {text}"));
        let model: ClusterModel = from_value(cluster).map_err(|error| unusable(error.to_string()))?;
        let said = || {
            diagnostics
                .iter()
                .map(|one| one.detail.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let topology = topology.ok_or_else(|| unusable(said()))?;
        Ok(Self { road, model, topology })
    }

    /// The first member that answers as one of a quorum; it is waited for until the deadline.
    ///
    /// # Errors
    /// [`AccessError::Nobody`].
    pub async fn enter(&self, deadline: Instant) -> Result<Api, AccessError> {
        loop {
            let why = match timeout_at(deadline, self.try_to_enter()).await {
                Ok(Ok(api)) => return Ok(api),
                Ok(Err(why)) => why,
                Err(_) => "no answer in time".to_owned(),
            };
            if self.road.stopped() {
                return Err(AccessError::Stopped);
            }
            if Instant::now() + AGAIN >= deadline {
                return Err(AccessError::Nobody(why));
            }
            self.road.pause(AGAIN).await.map_err(|_| AccessError::Stopped)?;
        }
    }

    async fn try_to_enter(&self) -> Result<Api, String> {
        let mut why = "there is no server".to_owned();
        let talk = borrow(self.road, &self.model, &self.topology, QUESTION * 3).await?;
        let talk = &talk;
        let asked = self.model.servers.keys().map(|name| async move {
            let api = talk.to(name, QUESTION).await.map_err(|error| error.to_string())?;
            // A learner refuses this.
            let quorum = api.confirm_quorum(QUESTION).await;
            quorum.map(|()| api).map_err(|error| error.to_string())
        });
        let mut asked: FuturesUnordered<_> = asked.collect();
        while let Some(outcome) = asked.next().await {
            match outcome {
                Ok(api) => return Ok(api),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// The servers that have a certificate to lend, and not root's: nobody could look at their members with it.
    pub async fn without_root(&self) -> Vec<String> {
        let asked = self.model.servers.keys().map(|name| async move {
            let lent = lent(self.road, &self.model, name, QUESTION * 3).await.ok()?;
            let root = parse(&lent.certificate).is_ok_and(|certificate| certificate.common_name == ROOT);
            (!root).then(|| name.clone())
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }
}

/// Looks, decides and performs until nothing is left to do: others may change users and roles at the same time, and then etcd has it asked
/// again.
///
/// # Errors
/// [`AccessError`].
pub async fn settle<F: Future<Output = Result<Vec<Call>, AccessError>>>(
    api: &Api,
    deadline: Instant,
    password: Option<&Secret>,
    decide: impl Fn() -> F,
) -> Result<(), AccessError> {
    'again: loop {
        let decided = match decide().await {
            Err(AccessError::Api(error)) if error.is_of_another_revision() && Instant::now() < deadline => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            decided => decided?,
        };
        for call in decided {
            match api.perform(&call, password, QUESTION).await {
                Ok(()) => {}
                Err(error) if error.is_of_another_revision() && Instant::now() < deadline => {
                    tokio::time::sleep(AGAIN).await;
                    continue 'again;
                }
                Err(error) => return Err(error.into()),
            }
        }
        return Ok(());
    }
}

/// Whether access control is on.
///
/// # Errors
/// [`AccessError`].
pub async fn is_enabled(api: &Api) -> Result<bool, AccessError> {
    Ok(api.auth_enabled(QUESTION).await?)
}

/// The state of one that is created or changed, everything known.
pub fn known(planned: &Value) -> Value {
    let mut state = planned.unknown_as_null();
    let id = id_of(&state);
    state.set("id", id);
    state
}

fn id_of(block: &Value) -> Value {
    let cluster = block.at(&["cluster", "name"]).as_str();
    match (cluster, block.get("name")) {
        (None, _) | (_, Value::Unknown) => Value::Unknown,
        (Some(cluster), name) => name
            .as_str()
            .map_or_else(|| cluster.to_owned(), |name| format!("{cluster}/{name}"))
            .into(),
    }
}

/// What the plan of each of the blocks says: its ID, and that another cluster needs another one. One of the same name that was recovered or
/// founded from a snapshot has its users and roles from before: they are looked at there, and not taken away from where nobody answers.
pub fn plan(road: &Road, kind: &str, request: PlanRequest) -> PlanResponse {
    let mut planned = request.planned;
    let belongs_to_another = !request.prior.is_null() && Thing::of(kind, &request.prior).stays(road, &request.private);
    let id = if belongs_to_another {
        Value::Unknown
    } else {
        id_of(&planned)
    };
    planned.set("id", id);
    // A replacement, whose delete gets this, is no deposed object.
    let private = match request.prior.is_null() {
        true => Word::Created.with(keep(kept(&request.private).as_ref())),
        false => request.private,
    };
    let cluster = |block: &Value| block.at(&["cluster", "name"]).clone();
    let other = !request.prior.is_null() && cluster(&request.prior) != cluster(&planned);
    PlanResponse {
        planned,
        requires_replace: other.then(|| Path::of("cluster")).into_iter().collect(),
        private,
        diagnostics: Diagnostics::new(),
    }
}

/// What the plan of a delete keeps for it.
pub fn plan_destroy(road: &Road, prior: &Value, private: &[u8]) -> (Vec<u8>, Diagnostics) {
    let token = prior.at(&["cluster", "token"]).as_str();
    let stays = token.is_some_and(|token| road.session(token).cluster_stays());
    let kept = keep(kept(private).as_ref());
    let kept = if stays { Word::ClusterStays.with(kept) } else { kept };
    (kept, Diagnostics::new())
}

/// What a delete of the object with this private state begins with.
///
/// # Errors
/// [`AccessError`].
pub async fn belongs_to_another(road: &Road, thing: &Thing, api: &Api, private: &[u8]) -> Result<bool, AccessError> {
    let other = !Word::Created.is_in(private) && thing.is_superseded(road, api, private).await?;
    if other {
        tracing::info!(
            "{} belongs to a newer object of Terraform's: it stays as it is",
            thing.key()
        );
    }
    Ok(other)
}

/// What a refresh found.
pub fn looked(what: &str, request: ReadRequest, found: Result<Option<(Value, Vec<u8>)>, AccessError>) -> ReadResponse {
    let (before, mut private) = (request.state, request.private);
    let (state, diagnostics) = match found {
        Ok(found) => {
            let (state, kept) = found.unwrap_or_default();
            private = kept;
            (state, Diagnostics::new())
        }
        Err(error) => {
            let detail = format!("Its state is taken to be as it was. {}", sentence(&error));
            let warning = Diagnostic::warning(format!("{what} could not be looked at"), detail);
            (before, warning.at(Path::of("cluster")).into())
        }
    };
    ReadResponse {
        state,
        private,
        diagnostics,
    }
}

/// What a change came to. `state`: what there is now.
pub fn changed(what: &str, state: Value, private: Vec<u8>, outcome: Result<(), (Path, AccessError)>) -> ApplyResponse {
    let diagnostics = match outcome {
        Ok(()) => Diagnostics::new(),
        Err((path, error)) => {
            let of_cluster = matches!(error, AccessError::Nobody(_) | AccessError::Cluster(_));
            let path = if of_cluster { Path::of("cluster") } else { path };
            let summary = format!("{what} can't be made as it is wanted");
            Diagnostic::error(summary, sentence(&error)).at(path).into()
        }
    };
    ApplyResponse {
        state,
        private,
        diagnostics,
    }
}

/// What a delete came to. Where the cluster goes too, it takes its users and roles with it, whether it answers or not.
pub fn deleted(what: &str, prior: Value, private: &[u8], outcome: Result<(), AccessError>) -> ApplyResponse {
    let (state, diagnostics) = match outcome {
        Ok(()) => (Value::Null, Diagnostics::new()),
        Err(error @ AccessError::Nobody(_)) if !Word::ClusterStays.is_in(private) => {
            let detail = format!("It goes with the cluster. {}", sentence(&error));
            let warning = Diagnostic::warning(format!("{what} was left in the cluster's data"), detail);
            (Value::Null, warning.at(Path::of("cluster")).into())
        }
        Err(error) => {
            let error = Diagnostic::error(format!("{what} can't be taken away"), sentence(&error));
            (prior, error.at(Path::of("cluster")).into())
        }
    };
    ApplyResponse {
        state,
        private: keep(kept(private).as_ref()),
        diagnostics,
    }
}

fn sentence(error: &AccessError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_roles_stay_with_a_cluster_that_comes_back() {
        let block = |name: &str, token: Value| {
            let cluster = Value::object([("name", name.into()), ("token", token)]);
            Value::object([("cluster", cluster), ("name", "writer".into())])
        };
        let replaced = |prior: Value, planned: Value| {
            let request = PlanRequest {
                prior,
                config: planned.clone(),
                planned,
                private: Vec::new(),
            };
            !plan(&Road::default(), "user", request).requires_replace.is_empty()
        };
        let before = || block("main", "t".into());
        assert!(!replaced(Value::Null, before()));
        // Recovered from a survivor, and founded from a snapshot.
        assert!(!replaced(before(), block("main", "u".into())));
        assert!(!replaced(before(), block("main", Value::Unknown)));
        assert!(replaced(before(), block("other", "u".into())));
    }
}
