//! A k3s server leaves: its etcd member out of the cluster first, then k3s off the server. The rules are those of any member.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::model::K3sServerModel;
use crate::etcd::api::Member;
use crate::host::{Host, MOUNTS, PRIVILEGE, RunError, Script};
use crate::membership::k3s::Data;
use crate::membership::leaving::{Fate, InThisRun, Leaving, Refusal, decide};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::cluster::model::ClusterModel;
use crate::resource::cluster::servers::stamp;
use crate::resource::k3s::{observe, talk};
use crate::resource::member::hand_over::hand_over;
use crate::resource::member::leave::peers;
use crate::resource::member::membership_changes::until_listed;
use crate::resource::member::survey::survey_as;
use crate::resource::member::turn::Turn;
use crate::resource::mounted;
use crate::resource::road::{Road, RoadError};
use crate::resource::talk::Talk;
use crate::topology::{Topology, Translation};

const QUESTION: Duration = Duration::from_secs(5);
/// How long to wait for other servers that are to be destroyed in the same run; see `member::leave`.
const TOGETHER: Duration = Duration::from_millis(300);
/// How long to wait for a quorum that is not there at first.
const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_secs(1);

/// A server that is to leave.
pub struct Leave<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The server.
    pub server: &'a K3sServerModel,
    /// Its cluster's topology.
    pub topology: &'a Topology,
    /// None where k3s has no etcd of its own.
    pub translation: Option<&'a Translation>,
    /// The same cluster as those see it that talk to etcd.
    pub etcd: &'a ClusterModel,
    /// Whether another one is to come in its place.
    pub fate: Fate,
    /// Whether the plan knew that the cluster stays.
    pub stays: bool,
    /// It must have left by then.
    pub deadline: Instant,
}

impl Leave<'_> {
    /// Takes it out of its cluster and off its server. A server that can't be reached is left as it is, with a warning.
    pub async fn run(&self) -> Diagnostics {
        let name = &self.server.server;
        let Some(server) = self.server.cluster.servers.get(name) else {
            return Diagnostics::new();
        };
        let id = self.server.cluster.id();
        if let (Fate::Gone, Err(error)) = (self.fate, self.road.leaves(id, name)) {
            return self.failed(error.to_string());
        }
        let host = match self
            .road
            .connect(server, self.remaining().min(QUESTION * 3), false)
            .await
        {
            Ok(host) => Ok(host),
            Err(error @ RoadError::Connect(_)) if !self.road.stopped() => Err(error),
            Err(error) => return self.failed(error.to_string()),
        };
        let (how, turn) = match self.out_of_cluster().await {
            Ok(how) => how,
            Err(detail) => return self.failed(detail),
        };
        let outcome = match host {
            Err(error) => self.left_behind(&error).into(),
            Ok(host) => match self.off_the_server(&host, &how).await {
                Ok(diagnostics) => diagnostics,
                Err(error) => self.failed(error.to_string()),
            },
        };
        if how != Leaving::Rest && self.server.has_agent() {
            self.delete_node().await;
        }
        if let Some(turn) = turn {
            turn.end().await;
        }
        outcome
    }

    fn failed(&self, detail: String) -> Diagnostics {
        let summary = format!("k3s server {} can't leave", self.server.server);
        Diagnostic::error(summary, detail).at(Path::of("server")).into()
    }

    fn left_behind(&self, error: &RoadError) -> Diagnostic {
        let detail = format!(
            "It is in its cluster no longer. If the machine ever comes back, run there: `systemctl disable --now k3s`, and remove \
             /etc/systemd/system/k3s.service, /etc/rancher/k3s and /etc/etcd-k3s. Its data is in /var/lib/rancher/k3s. The server could not \
             be reached: {error}"
        );
        Diagnostic::warning(format!("Server {} was left as it is", self.server.server), detail).at(Path::of("server"))
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    async fn out_of_cluster(&self) -> Result<(Leaving, Option<Turn>), String> {
        if self.translation.is_none() {
            // Its data is not on the server.
            return Ok((Leaving::Gone, None));
        }
        let patience = Instant::now() + PATIENCE;
        let servers: BTreeSet<String> = self.server.cluster.servers.keys().cloned().collect();
        loop {
            let alone = async {
                if self.fate == Fate::Gone {
                    self.road.pause(TOGETHER).await.map_err(|error| error.to_string())?;
                }
                let turn = Turn::take(self.road, self.etcd, self.deadline).await;
                turn.map_err(|error| format!("Nothing was changed: {error}. Try again, or raise timeouts.delete."))
            };
            let together = async {
                match self.fate {
                    Fate::Gone if !self.stays => self.road.all_leave(self.server.cluster.id(), &servers).await,
                    _ => std::future::pending().await,
                }
            };
            let mut turn = tokio::select! {
                biased;
                all = together => return all.map(|()| (Leaving::Rest, None)).map_err(|error| error.to_string()),
                turn = alone => turn?,
            };
            match self.alone(&mut turn).await {
                Ok(Leaving::Refuse(refusal)) => {
                    turn.end().await;
                    let until = match refusal {
                        Refusal::Awaited { .. } => self.deadline,
                        _ => self.deadline.min(patience),
                    };
                    if !refusal.may_pass() || Instant::now() + AGAIN >= until {
                        return Err(format!("Nothing was changed: {refusal}."));
                    }
                    self.road.pause(AGAIN).await.map_err(|error| error.to_string())?;
                }
                Ok(how) => return Ok((how, Some(turn))),
                Err(detail) => {
                    turn.end().await;
                    // The others may have been told to leave meanwhile, and what needs a quorum gets none any more.
                    let leaving = self.road.leaving(self.server.cluster.id());
                    if self.fate == Fate::Gone && !self.stays && leaving.is_superset(&servers) {
                        return Ok((Leaving::Rest, None));
                    }
                    return Err(detail);
                }
            }
        }
    }

    async fn alone(&self, turn: &mut Turn) -> Result<Leaving, String> {
        let (name, id) = (&self.server.server, self.server.cluster.id());
        let tls = talk::borrowed(self.road, &self.server.cluster, name).await;
        let talk = match (tls, self.translation) {
            (Some(tls), Some(all)) => {
                Some(Talk::new(self.road, self.etcd, self.topology, Some(tls)).with_peer_urls(all.peer_urls()))
            }
            _ => None,
        };
        let look = async || match &talk {
            Some(talk) => survey_as(talk, name, None, self.topology).await,
            None => None,
        };
        let mut survey = look().await;
        if let Some(seen) = &survey
            && turn
                .lock(seen, self.deadline)
                .await
                .map_err(|error| format!("Nothing was changed: {error}."))?
        {
            survey = look().await;
        }
        let (leaving, coming) = (self.road.leaving(id), self.road.coming(id));
        let peers = survey.as_ref().map(|survey| peers(survey, self.topology));
        let decided = |gone: &BTreeSet<String>| {
            let run = InThisRun {
                stays: self.stays,
                leaving: &leaving,
                coming: &coming,
                gone,
            };
            let mut others = self
                .server
                .cluster
                .servers
                .keys()
                .filter(|other| *other != name && !leaving.contains(*other));
            decide(
                name,
                self.fate,
                &run,
                peers.as_deref(),
                others.any(|other| !gone.contains(other)),
            )
        };
        let mut decision = decided(&BTreeSet::new());
        if let Leaving::Refuse(Refusal::Quorum { .. } | Refusal::NoQuorum) = decision {
            decision = decided(&self.gone(&leaving).await);
        }
        if let (Leaving::Remove, Some(survey), Some(talk)) = (&decision, &survey, &talk) {
            if let Err(error) = hand_over(talk, survey).await {
                // It costs an election and nothing more.
                tracing::debug!(%error, "the leader could not be moved");
            }
            if let Some(id) = survey.own {
                let gone = |members: &[Member]| members.iter().all(|one| one.id != id);
                let remove = || survey.api.member_remove(id, QUESTION);
                let mend = || talk::end_silence(self.road, &self.server.cluster, self.translation, &survey.names);
                let outcome = until_listed(self.road, self.deadline, &survey.api, gone, remove, mend).await;
                outcome.map_err(|unlisted| unlisted.of_removal())?;
            }
        }
        Ok(decision)
    }

    /// The servers that hold no data: of this one, and of those that nobody said are to leave.
    async fn gone(&self, leaving: &BTreeSet<String>) -> BTreeSet<String> {
        let cluster = &self.server.cluster;
        let servers = cluster.servers.iter();
        let servers = servers.filter(|(name, _)| **name == self.server.server || !leaving.contains(*name));
        let asked = servers.map(|(name, server)| async move {
            let host = self.road.connect(server, QUESTION, false).await.ok()?;
            let seen = observe::observe(&host, cluster).await.ok()?;
            (seen.holding.data == Data::Empty && !seen.holding.runs).then(|| name.clone())
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn off_the_server(&self, host: &Host, how: &Leaving) -> Result<Diagnostics, RunError> {
        let mode = self.server.on_destroy.as_deref().unwrap_or("keep_data");
        let script = Script::new("taking k3s off the server")
            .set("cluster", &self.server.cluster.name)
            .set("stamp", stamp())
            .set("mode", mode)
            .line(MOUNTS)
            .line(include_str!("../k3s/remove.sh"));
        let script = match how {
            Leaving::Rest => script.line("rest_k3s \"$cluster\" \"$mode\""),
            _ => script.line("remove_k3s \"$cluster\" \"$stamp\" \"$mode\""),
        };
        let mounted = mounted::read(&host.run_checked(&script).await?);
        let state = "k3s is stopped there, and in its cluster no longer; all its files are there.";
        let refusal = mounted::refusal(&self.server.server, &mounted, state);
        Ok(refusal.map_or_else(Diagnostics::new, |detail| self.failed(detail)))
    }

    /// Nobody else tells Kubernetes that the node is no more. That it did not hear of it is no reason to stay.
    async fn delete_node(&self) {
        let others = self
            .server
            .cluster
            .servers
            .iter()
            .filter(|(name, _)| **name != self.server.server);
        for (_, server) in others {
            let Ok(host) = self.road.connect(server, QUESTION, false).await else {
                continue;
            };
            let script = Script::new("deleting the Kubernetes node")
                .set("cluster", &self.server.cluster.name)
                .set("node", self.server.node())
                .timeout(QUESTION * 4)
                .line(PRIVILEGE)
                .line("binary=$(cat \"/etc/etcd-k3s/$cluster/binary\"); only_roots \"$binary\"")
                .line(
                    "\"$binary\" kubectl delete node \"$node\" --ignore-not-found --wait=false --request-timeout=10s",
                );
            if host.run_checked(&script).await.is_ok() {
                return;
            }
        }
    }
}
