//! The cluster that an action works on, and what was seen of it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::etcd::api::Status;
use crate::etcd::version::Version;
use crate::membership::upkeep::{Member, Says};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Type};
use crate::plugin::value::{Value, from_value};
use crate::resource::borrowing::borrow;
use crate::resource::cluster::model::{self, ClusterModel};
use crate::resource::durations::WAIT;
use crate::resource::member::survey::{QUESTION, Survey, survey_as};
use crate::resource::member::turn::{Turn, take_lock};
use crate::resource::road::Road;
use crate::resource::talk::Talk;
use crate::topology::Topology;

/// How long an action may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The attribute `cluster`. Private keys have no place in it, so Terraform drops them.
pub fn cluster_attribute() -> Attribute {
    let mut attributes = model::shared_attributes();
    attributes.extend(model::attributes_without_keys());
    attributes.push(Attribute::string("adopted_from").describe("The service that ran its members before."));
    Attribute::object("cluster", attributes)
        .required()
        .describe("The cluster: `etcd_cluster.<name>`.")
}

/// The attribute `timeout`.
pub fn timeout_attribute() -> Attribute {
    Attribute::string("timeout").describe("How long all of it may take, from `1s` to `7d`. Default: `10m`.")
}

/// The attribute `servers`.
pub fn servers_attribute(description: &'static str) -> Attribute {
    Attribute::list("servers", Type::String).describe(description)
}

/// Checks what is known of a configuration.
pub fn validate(config: &Value) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    model::topology(config.get("cluster"), &Path::of("cluster"), &mut diagnostics);
    diagnostics.append(timeout(config).err().into_iter().collect());
    if let (Some(known), Some(named)) = (
        config.at(&["cluster", "servers"]).as_map(),
        config.get("servers").as_list(),
    ) {
        for name in named.iter().filter_map(Value::as_str) {
            if !known.contains_key(name) {
                let known = known.keys().cloned().collect::<Vec<_>>().join(", ");
                let detail = format!("The cluster has no server {name:?}. It has: {known}.");
                diagnostics.push(Diagnostic::error("No such server", detail).at(Path::of("servers")));
            }
        }
    }
    diagnostics
}

fn timeout(config: &Value) -> Result<Duration, Diagnostic> {
    let Some(text) = config.get("timeout").as_str() else {
        return Ok(TIMEOUT);
    };
    WAIT.read(text, "Invalid time-out", Path::of("timeout"))
}

/// The cluster that is worked on.
pub struct Site<'a> {
    /// The road to its servers.
    pub road: &'a Road,
    /// What the configuration says of it.
    pub model: ClusterModel,
    /// Its servers.
    pub topology: Topology,
    /// All must be done by then.
    pub deadline: Instant,
}

impl<'a> Site<'a> {
    /// The one of a configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(road: &'a Road, config: &Value) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let topology = model::topology(config.get("cluster"), &Path::of("cluster"), &mut diagnostics);
        let unread = |text: String| Diagnostic::error("The cluster can't be read", text).at(Path::of("cluster"));
        let model = from_value::<ClusterModel>(config.get("cluster")).map_err(|error| unread(error.to_string()))?;
        let Some(topology) = topology else {
            if !diagnostics.has_errors() {
                diagnostics.push(unread("Something in it is not known yet.".to_owned()));
            }
            return Err(diagnostics);
        };
        let deadline = Instant::now() + timeout(config)?;
        Ok(Self {
            road,
            model,
            topology,
            deadline,
        })
    }

    /// Talks to its members, with a certificate that one of its servers lends.
    ///
    /// # Errors
    /// If none was reached.
    pub async fn talk(&self) -> Result<Talk<'_>, Diagnostic> {
        let within = QUESTION * 3;
        borrow(self.road, &self.model, &self.topology, within)
            .await
            .map_err(|why| self.trouble("can't be asked", format!("None of its servers helped: {why}.")))
    }

    /// What its members say, all asked at once.
    ///
    /// # Errors
    /// If there is no quorum.
    pub async fn survey(&self, talk: &Talk<'_>, own: &str) -> Result<Survey, Diagnostic> {
        survey_as(talk, own, None, &self.topology).await.ok_or_else(|| {
            let detail = "No member answers as one of a quorum, so nothing was done that could make it worse. \
                          `data \"etcd_cluster_status\"` tells what each of them says.";
            self.trouble("has no quorum", detail)
        })
    }

    /// What its members say, when it is this action's turn: nobody else restarts or removes a member until the turn ends.
    ///
    /// # Errors
    /// If there is no quorum, or the turn does not come in time.
    pub async fn turn(&self, talk: &Talk<'_>, own: &str) -> Result<(Turn, Survey), Diagnostic> {
        let stopped = self.road.pause(self.remaining() + QUESTION);
        tokio::select! {
            turn = self.take_turn(talk, own) => turn,
            _ = stopped => Err(self.stopped()),
        }
    }

    async fn take_turn(&self, talk: &Talk<'_>, own: &str) -> Result<(Turn, Survey), Diagnostic> {
        let late =
            |error: &dyn std::fmt::Display| self.trouble("is being changed", format!("Nothing was done: {error}."));
        let mut turn = Turn::take(&self.road.session(self.model.token()), self.deadline)
            .await
            .map_err(|error| late(&error))?;
        let seen = match self.survey(talk, own).await {
            Ok(seen) => seen,
            Err(error) => {
                turn.end().await;
                return Err(error);
            }
        };
        let locked = turn.lock(take_lock(&seen, self.deadline)).await;
        // What was seen before the lock is old.
        let seen = match locked {
            Ok(true) => self.survey(talk, own).await,
            Ok(false) => Ok(seen),
            Err(error) => Err(late(&error)),
        };
        match seen {
            Ok(seen) => Ok((turn, seen)),
            Err(error) => {
                turn.end().await;
                Err(error)
            }
        }
    }

    /// The servers that are named in `servers`, or all.
    pub fn wanted(&self, config: &Value) -> BTreeSet<String> {
        match config.get("servers").as_list() {
            Some(named) => named.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => self.model.servers.keys().cloned().collect(),
        }
    }

    /// How much time is left.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// An error about the cluster.
    pub fn trouble(&self, what: &str, detail: impl Into<String>) -> Diagnostic {
        Diagnostic::error(format!("Cluster {} {what}", self.model.name), detail).at(Path::of("cluster"))
    }

    /// That Terraform asked to stop.
    pub fn stopped(&self) -> Diagnostic {
        self.trouble(
            "was left in the middle",
            "Stopped on request. What was done is done; invoke the action again.",
        )
    }
}

/// The member list as decisions need it.
pub fn members(survey: &Survey) -> Vec<Member> {
    let says = |status: &Status| {
        Some(Says {
            version: Version::parse(&status.version).ok()?.triple(),
            applied: status.raft_applied_index,
            committed: status.raft_index,
        })
    };
    let one = |member: &crate::etcd::api::Member| Member {
        id: member.id,
        name: name_of(survey, member.id),
        voter: !member.is_learner,
        says: survey.healthy.get(&member.id).and_then(says),
    };
    survey.members.iter().map(one).collect()
}

/// The name of a member's server; its ID where it is on none.
pub fn name_of(survey: &Survey, id: u64) -> String {
    { survey.names.get(&id).cloned() }.unwrap_or_else(|| format!("{id:x}"))
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut unit, mut rest) = (bytes, "B", 0);
    for next in UNITS {
        if whole < 1024 {
            break;
        }
        (rest, whole, unit) = (whole % 1024 * 10 / 1024, whole / 1024, next);
    }
    if unit == "B" || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{rest} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(300 << 20), "300 MiB");
        assert_eq!(size(2 << 30), "2.0 GiB");
    }
}
