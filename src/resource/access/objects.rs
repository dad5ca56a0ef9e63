//! To which object of Terraform's a user, a role or access control belongs. They have no server to note it on, so a key in etcd says it. It is
//! written if a create finds the thing there already, and removed with the thing.

use tokio::time::Instant;

use super::{AccessError, Cluster};
use crate::etcd::api::{Api, ApiError};
use crate::membership::incarnation::{Incarnation, is_superseded};
use crate::plugin::diagnostics::Diagnostic;
use crate::plugin::value::Value;
use crate::resource::objects::{self, Creating};
use crate::resource::road::Road;

use super::QUESTION;

/// A word in private state: the last refresh found that the thing belongs to another object.
const OTHER: &[u8] = b"other-object";

/// Private state of what was just imported: whichever object the thing belonged to is this one.
pub const IMPORTED: &[u8] = b"imported";

/// A user, a role or access control of a cluster.
pub struct Thing {
    known_as: String,
    key: String,
}

impl Thing {
    /// Of this kind, as a plan or state has it.
    pub fn of(kind: &str, block: &Value) -> Self {
        let text = |path: &[&str]| block.at(path).as_str().unwrap_or_default().to_owned();
        let name = text(&["name"]);
        Self {
            known_as: format!("{kind} {}/{name}", text(&["cluster", "token"])),
            key: format!(
                "terraform-provider-etcd/{}/objects/{kind}/{name}",
                text(&["cluster", "name"])
            ),
        }
    }

    /// The key in etcd that says to which object it belongs.
    pub fn key(&self) -> &str {
        &self.key
    }

    async fn belongs_to(&self, api: &Api) -> Result<Option<Incarnation>, ApiError> {
        let value = api.get(&self.key, QUESTION).await?;
        Ok(value.and_then(|value| Incarnation::parse(&String::from_utf8_lossy(&value))))
    }

    /// Private state as a refresh leaves it.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub async fn seen(&self, api: &Api, private: &[u8]) -> Result<Vec<u8>, ApiError> {
        let now = self.belongs_to(api).await?;
        let imported = private == IMPORTED;
        let own = if imported { now.clone() } else { objects::kept(private) };
        let other = is_superseded(own.as_ref(), now.as_ref());
        let kept = objects::keep(own.as_ref());
        Ok(if other {
            [kept.as_slice(), b" ", OTHER].concat()
        } else {
            kept
        })
    }

    /// Notes that the object with this private state is to stay. Says whether the thing belongs to another one, so that an apply has to change
    /// that.
    pub fn stays(&self, road: &Road, private: &[u8]) -> bool {
        if let Some(newest) = road.newest() {
            newest.note(&self.known_as, objects::kept(private));
        }
        private.split(u8::is_ascii_whitespace).any(|word| word == OTHER)
    }

    /// Whether the thing belongs to a newer object than the one with this private state.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub async fn is_superseded(&self, road: &Road, api: &Api, private: &[u8]) -> Result<bool, ApiError> {
        let own = objects::kept(private);
        let known = road
            .newest()
            .and_then(|newest| newest.is_superseded(&self.known_as, own.as_ref()));
        Ok(match known {
            Some(known) => known,
            None => is_superseded(own.as_ref(), self.belongs_to(api).await?.as_ref()),
        })
    }

    /// The thing is gone, and belongs to nobody.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub async fn forget(&self, api: &Api) -> Result<(), ApiError> {
        match self.belongs_to(api).await? {
            Some(_) => api.delete(&self.key, QUESTION).await,
            None => Ok(()),
        }
    }
}

/// An object that is created or changed.
pub struct Claim<'a> {
    thing: Thing,
    object: Incarnation,
    creating: Option<Creating<'a>>,
    /// Whether its private state had an identity, or the thing has got one.
    known: bool,
    /// What was written down in etcd before, where it was changed.
    before: Option<Option<Incarnation>>,
}

impl<'a> Claim<'a> {
    /// Of a create, or of an update of the object whose private state this is.
    ///
    /// # Errors
    /// If the machine gives no random text.
    pub fn new(road: &'a Road, thing: Thing, creates: bool, private: &[u8]) -> Result<Self, Diagnostic> {
        let own = objects::kept(private).filter(|_| !creates);
        let known = creates || own.is_some();
        let object = own.map_or_else(objects::fresh, Ok)?;
        let creating = creates.then(|| Creating::new(road, thing.known_as.clone(), &object));
        Ok(Self {
            thing,
            object,
            creating,
            known,
            before: None,
        })
    }

    /// Enters the cluster, has `work` done there, and says what private state to keep. `work` takes the thing first.
    pub async fn around(
        mut self,
        cluster: Result<Cluster<'a>, AccessError>,
        deadline: Instant,
        work: impl AsyncFnOnce(&Cluster<'a>, &Api, &mut Self) -> Result<(), AccessError>,
    ) -> (Vec<u8>, Result<(), AccessError>) {
        let entered = async {
            let cluster = cluster?;
            let api = cluster.enter(deadline).await?;
            Ok((cluster, api))
        };
        let (api, outcome) = match entered.await {
            Ok((cluster, api)) => {
                let outcome = work(&cluster, &api, &mut self).await;
                (Some(api), outcome)
            }
            Err(error) => (None, Err(error)),
        };
        (self.end(api.as_ref(), &outcome).await, outcome)
    }

    /// Takes the thing, before anything else is changed. `there`: it is there already.
    ///
    /// # Errors
    /// If etcd does not write.
    pub async fn take(&mut self, api: &Api, there: bool) -> Result<(), ApiError> {
        let before = self.thing.belongs_to(api).await?;
        let write = match self.creating {
            Some(_) => there || before.is_some(),
            None => before.is_some() && before.as_ref() != Some(&self.object),
        };
        if write {
            let object = self.object.to_string();
            api.put(&self.thing.key, object.as_bytes(), QUESTION).await?;
            self.known = true;
            self.before = Some(before);
        }
        Ok(())
    }

    /// The private state to keep. Where a create failed Terraform keeps the object before it, and the thing is that one's again.
    async fn end(self, api: Option<&Api>, outcome: &Result<(), AccessError>) -> Vec<u8> {
        let Some(creating) = self.creating else {
            return objects::keep(Some(&self.object).filter(|_| self.known));
        };
        if outcome.is_ok() {
            creating.keep();
        } else if let (Some(api), Some(before)) = (api, &self.before) {
            let given = match before {
                Some(before) => api.put(&self.thing.key, before.to_string().as_bytes(), QUESTION).await,
                None => api.delete(&self.thing.key, QUESTION).await,
            };
            if let Err(error) = given {
                tracing::debug!(%error, "{} was not given back", self.thing.key);
            }
        }
        objects::keep(Some(&self.object))
    }
}
