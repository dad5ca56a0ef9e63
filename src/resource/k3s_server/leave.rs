//! What performs the steps of a k3s server's leaving: its etcd member out of the cluster first, then k3s off the server.
//! [`crate::reconcile::leave`] says which step and when.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;

use super::model::K3sServerModel;
use crate::etcd::api::Member;
use crate::etcd::lock::Lock;
use crate::host::{Host, MOUNTS, PRIVILEGE, RunError, Script};
use crate::membership::k3s::Data;
use crate::membership::leaving::{Fate, Leaving, Refusal};
use crate::membership::member_list::MemberList;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::reconcile::leave::{self, Backend, Wish};
use crate::reconcile::limits::Limits;
use crate::resource::cluster::model::ClusterModel;
use crate::resource::cluster::servers::stamp;
use crate::resource::k3s::{observe, talk};
use crate::resource::leaving::{StepError, explain, reach, try_to_hand_over};
use crate::resource::member::membership_changes::until_listed;
use crate::resource::member::survey::{Survey, survey_as};
use crate::resource::member::turn::take_lock;
use crate::resource::mounted;
use crate::resource::road::{Road, RoadError};
use crate::resource::talk::Talk;
use crate::topology::{Topology, Translation};

const QUESTION: Duration = Duration::from_secs(5);

/// A server that is to leave.
pub(super) struct Leave<'a> {
    road: &'a Road,
    server: &'a K3sServerModel,
    topology: &'a Topology,
    /// None if k3s has no etcd of its own.
    translation: Option<&'a Translation>,
    /// The same cluster as those see it that talk to etcd.
    etcd: &'a ClusterModel,
    limits: Limits,
    reached: OnceLock<Result<Host, RoadError>>,
    talk: Mutex<Option<Arc<Talk<'a>>>>,
}

#[async_trait]
impl Backend for Leave<'_> {
    type Survey = Survey;
    type Lock = Lock;
    type Outcome = Diagnostics;
    type Error = StepError;

    async fn reach(&self) -> Result<(), StepError> {
        let Some(server) = self.server.cluster.servers.get(&self.server.server) else {
            return Ok(());
        };
        let reached = reach(self.road, server, &self.limits).await?;
        self.reached.get_or_init(|| reached);
        Ok(())
    }

    async fn survey(&self) -> Option<Survey> {
        survey_as(self.talk().await?.as_ref(), &self.server.server, None, self.topology).await
    }

    fn list(&self, survey: &Survey) -> MemberList {
        survey.list.clone()
    }

    async fn lock(&self, survey: &Survey, limits: &Limits) -> Result<Lock, StepError> {
        take_lock(survey, limits.deadline).await.map_err(StepError::Turn)
    }

    fn waits(&self, refusal: &Refusal) {
        tracing::info!(server = self.server.server, %refusal, "waiting to leave");
    }

    async fn without_member(&self, servers: &BTreeSet<String>) -> BTreeSet<String> {
        let cluster = &self.server.cluster;
        let asked = cluster.servers.iter().filter(|(name, _)| servers.contains(*name));
        let asked = asked.map(|(name, server)| async move {
            let host = self.road.connect(server, QUESTION, false).await.ok()?;
            let seen = observe::observe(&host, cluster).await.ok()?;
            (seen.holding.data == Data::Empty && !seen.holding.runs).then(|| name.clone())
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Removal of the member deletes nothing on the server, and k3s' folders may well have volumes mounted below while it runs.
    async fn may_be_taken_off(&self) -> Result<(), StepError> {
        Ok(())
    }

    async fn hand_over(&self, survey: &Survey) {
        try_to_hand_over(self.talk().await.as_deref(), survey).await;
    }

    async fn hang_up(&self, survey: &Survey) {
        if survey.list.own().is_some_and(|own| !own.healthy) {
            talk::end_silence(self.road, &self.server.cluster, self.translation, &survey.names).await;
        }
    }

    async fn remove(&self, survey: &Survey, id: u64, limits: &Limits) -> Result<(), StepError> {
        let gone = |members: &[Member]| members.iter().all(|one| one.id != id);
        let remove = || survey.api.member_remove(id, QUESTION);
        let mend = || talk::end_silence(self.road, &self.server.cluster, self.translation, &survey.names);
        let outcome = until_listed(self.road, limits.deadline, &survey.api, gone, remove, mend).await;
        outcome.map_err(StepError::Unlisted)
    }

    async fn off_the_server(&self, how: &Leaving) -> Result<Diagnostics, StepError> {
        let outcome = match self.reached.get() {
            Some(Ok(host)) => self.take_off(host, how).await.map_err(StepError::Run),
            Some(Err(error)) => Ok(self.left_behind(error).into()),
            None => Ok(Diagnostics::new()),
        };
        if *how != Leaving::Rest && self.server.has_agent() {
            self.delete_node().await;
        }
        outcome
    }
}

impl<'a> Leave<'a> {
    pub(super) fn new(
        (road, limits): (&'a Road, Limits),
        (server, topology): (&'a K3sServerModel, &'a Topology),
        translation: Option<&'a Translation>,
        etcd: &'a ClusterModel,
    ) -> Self {
        Self {
            road,
            server,
            topology,
            translation,
            etcd,
            limits,
            reached: OnceLock::new(),
            talk: Mutex::default(),
        }
    }

    /// Takes it out of its cluster and off its server. A server that can't be reached is left as it is, with a warning.
    pub(super) async fn run(&self, fate: Fate, stays: bool) -> Diagnostics {
        let cluster = &self.server.cluster;
        if !cluster.servers.contains_key(&self.server.server) {
            return Diagnostics::new();
        }
        let outcome = match self.translation {
            Some(_) => {
                let wish = Wish {
                    server: self.server.server.clone(),
                    servers: cluster.servers.keys().cloned().collect(),
                    fate,
                    stays,
                };
                leave::leave(self, &self.road.session(cluster.id()), &wish, &self.limits).await
            }
            // Its data is not on the server, and it is in no member list.
            None => leave::off_the_server(self).await,
        };
        outcome.unwrap_or_else(|obstacle| self.failed(explain(&obstacle)))
    }

    /// Talks to the members with a certificate that any server lends.
    async fn talk(&self) -> Option<Arc<Talk<'a>>> {
        let known = || self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(talk) = known().clone() {
            return Some(talk);
        }
        let all = self.translation?;
        let tls = talk::borrowed(self.road, &self.server.cluster, &self.server.server).await?;
        let talk = Talk::new(self.road, self.etcd, self.topology, Some(tls)).with_peer_urls(all.peer_urls());
        let talk = Some(Arc::new(talk));
        known().clone_from(&talk);
        talk
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

    async fn take_off(&self, host: &Host, how: &Leaving) -> Result<Diagnostics, RunError> {
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
