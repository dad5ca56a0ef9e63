//! What performs the steps of a member's leaving. [`crate::reconcile::leave`] says which and when.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt as _};

use super::hang_up::hang_up;
use super::membership_changes::until_listed;
use super::model::MemberModel;
use super::observe::{self, Look, Seen};
use super::revoked;
use super::survey::{Survey, survey};
use super::talk::{Lent, Talk};
use super::turn::take_lock;
use crate::etcd::api::Member;
use crate::etcd::layout::Layout;
use crate::etcd::lock::Lock;
use crate::etcd::names;
use crate::etcd::scheduled;
use crate::host::{Host, MOUNTS, PRIVILEGE, RunError, Script};
use crate::membership::leaving::{Fate, Leaving, Refusal};
use crate::membership::member::{Data, Service};
use crate::membership::member_list::MemberList;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::reconcile::leave::{self, Backend, Wish};
use crate::reconcile::limits::Limits;
use crate::resource::cluster::servers::stamp;
use crate::resource::leaving::{StepError, explain, reach, try_to_hand_over};
use crate::resource::mounted;
use crate::resource::road::{Road, RoadError};
use crate::resource::silence;
use crate::topology::Topology;

const QUESTION: Duration = Duration::from_secs(5);

/// A member that is to leave.
pub(super) struct Leave<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The member.
    pub member: &'a MemberModel,
    /// Its cluster's topology, as its state has it.
    pub topology: &'a Topology,
    /// Where its files are.
    pub layout: &'a Layout,
    /// Whether another one is to come in its place.
    pub fate: Fate,
    /// Whether the plan knew that the cluster stays.
    pub stays: bool,
    /// Until when, and whether Terraform asked to stop.
    pub limits: Limits,
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
        let Some(server) = self.member.server() else {
            return Ok(());
        };
        let reached = reach(self.road, server, &self.limits).await?;
        self.reached.get_or_init(|| reached);
        Ok(())
    }

    async fn survey(&self) -> Option<Survey> {
        survey(self.talk().await?.as_ref(), self.member, self.topology).await
    }

    fn list(&self, survey: &Survey) -> MemberList {
        survey.list.clone()
    }

    async fn lock(&self, survey: &Survey, limits: &Limits) -> Result<Lock, StepError> {
        take_lock(survey, limits.deadline).await.map_err(StepError::Turn)
    }

    fn waits(&self, refusal: &Refusal) {
        tracing::info!(server = self.member.server, %refusal, "waiting to leave");
    }

    async fn without_member(&self, servers: &BTreeSet<String>) -> BTreeSet<String> {
        let asked = self
            .member
            .cluster
            .servers
            .iter()
            .filter(|(name, _)| servers.contains(*name));
        let asked = asked.map(|(name, server)| async move {
            let host = self.road.connect(server, QUESTION, false).await.ok()?;
            let seen = self.observe(&host, false).await.ok()?;
            // One that is stopped has its vote still.
            let holds = seen.service == Service::Running || (seen.data == Data::Member && !seen.resting);
            (!holds).then(|| name.clone())
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn may_be_taken_off(&self) -> Result<(), StepError> {
        let Some(host) = self.host() else { return Ok(()) };
        let script = self.removing().line("nothing_mounted_in \"$cluster\" \"$mode\" || :");
        let mounted = mounted::read(&host.run_checked(&script).await?);
        let state = "Nothing was changed, and the member is in its cluster.";
        mounted::refusal(&self.member.server, &mounted, state).map_or(Ok(()), |detail| Err(StepError::Mounted(detail)))
    }

    async fn hand_over(&self, survey: &Survey) {
        try_to_hand_over(self.talk().await.as_deref(), survey).await;
    }

    async fn hang_up(&self, survey: &Survey) {
        hang_up(self.road, self.member, self.topology, self.layout, survey).await;
    }

    async fn remove(&self, survey: &Survey, id: u64, limits: &Limits) -> Result<(), StepError> {
        let talk = self.talk().await;
        let gone = |members: &[Member]| members.iter().all(|member| member.id != id);
        let remove = || survey.api.member_remove(id, QUESTION);
        let mend = || silence::end(self.road, &self.member.cluster, self.topology, talk.as_deref());
        let outcome = until_listed(self.road, limits.deadline, &survey.api, gone, remove, mend).await;
        outcome.map_err(StepError::Unlisted)
    }

    async fn off_the_server(&self, how: &Leaving) -> Result<Diagnostics, StepError> {
        match self.reached.get() {
            Some(Ok(host)) => Ok(self.take_off(host, how).await?),
            Some(Err(error)) => Ok(self.left_behind(how, error).into()),
            None => Ok(Diagnostics::new()),
        }
    }
}

impl<'a> Leave<'a> {
    pub(super) fn new(
        (road, limits): (&'a Road, Limits),
        (member, topology, layout): (&'a MemberModel, &'a Topology, &'a Layout),
        fate: Fate,
        stays: bool,
    ) -> Self {
        Self {
            road,
            member,
            topology,
            layout,
            fate,
            stays,
            limits,
            reached: OnceLock::new(),
            talk: Mutex::default(),
        }
    }

    /// Takes the member out of its cluster and off its server. A server that can't be reached is left as it is, with a warning.
    pub(super) async fn run(&self) -> Diagnostics {
        if self.member.server().is_none() {
            return Diagnostics::new();
        }
        let wish = Wish {
            server: self.member.server.clone(),
            servers: self.member.cluster.servers.keys().cloned().collect(),
            fate: self.fate,
            stays: self.stays,
        };
        let session = self.road.session(self.member.cluster.token());
        let outcome = leave::leave(self, &session, &wish, &self.limits).await;
        outcome.unwrap_or_else(|obstacle| self.failed(explain(&obstacle)))
    }

    fn host(&self) -> Option<&Host> {
        self.reached.get()?.as_ref().ok()
    }

    /// Talks to the members, with a certificate of the member's own server, or else of any other.
    async fn talk(&self) -> Option<Arc<Talk<'a>>> {
        let known = || self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(talk) = known().clone() {
            return Some(talk);
        }
        let own = match self.host() {
            Some(host) => self.observe(host, true).await.ok().and_then(|seen| seen.lent),
            None => None,
        };
        let lent = match own {
            Some(lent) => Some(lent),
            None => self.borrowed().await,
        };
        let talk = Talk::borrow(self.road, &self.member.cluster, self.topology, lent).map(Arc::new);
        known().clone_from(&talk);
        talk
    }

    fn failed(&self, detail: String) -> Diagnostics {
        let summary = format!("Member {} can't leave", self.member.server);
        Diagnostic::error(summary, detail).at(Path::of("server")).into()
    }

    fn left_behind(&self, how: &Leaving, error: &RoadError) -> Diagnostic {
        let (name, cluster) = (&self.member.server, &self.member.cluster.name);
        let outcome = match how {
            Leaving::Rest => "Nothing of its cluster stays, and if its etcd runs, it was not stopped.",
            _ => "It is in its cluster no longer. If its etcd runs, it stops when it hears of that from the others.",
        };
        let timer =
            { self.member.snapshots.iter() }.map(|_| format!(" {}", scheduled::timer_name(self.layout.cluster())));
        let revoke = match revoked::listed(self.member) {
            Some(listed) => format!(
                " If others may have the machine or its disk: revoke its certificates, by adding {listed} to `tls.revoked` of the cluster, \
                 and replace the authorities (`tls.ca_rotation`). The guide \"A server that was stolen\" has the steps."
            ),
            None => String::new(),
        };
        let detail = format!(
            "{outcome}{revoke} If the machine ever comes back, run there: `systemctl disable --now {unit}{timer} {names}`, and remove {etc}, {unit_file}, \
             {names_files}, the user {user} and the lines of the cluster {cluster} in /etc/hosts. Its data is in {data}. The server could not be reached: {error}",
            unit = self.layout.unit_name(),
            timer = timer.collect::<String>(),
            names = names::path_name(self.layout.cluster()),
            names_files = names::paths(self.layout).join(", "),
            unit_file = self.layout.unit_file(),
            user = self.layout.user(),
            etc = self.layout.etc_dir(),
            data = self.layout.data_dir(),
        );
        Diagnostic::warning(format!("Server {name} was left as it is"), detail).at(Path::of("server"))
    }

    async fn observe(&self, host: &Host, key: bool) -> Result<Seen, RunError> {
        let look = Look { key, ..Look::default() };
        observe::observe(host, self.member, self.layout, look).await
    }

    /// Another member's certificate to talk with, where this one's server has none or can't be reached.
    async fn borrowed(&self) -> Option<Lent> {
        let others = self
            .member
            .cluster
            .servers
            .iter()
            .filter(|(name, _)| **name != self.member.server);
        let mut asked: FuturesUnordered<_> = others
            .map(|(_, server)| async move {
                let host = self.road.connect(server, QUESTION * 3, false).await.ok()?;
                self.observe(&host, true).await.ok()?.lent
            })
            .collect();
        while let Some(found) = asked.next().await {
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// With what a script needs that takes the member off its server.
    fn removing(&self) -> Script {
        Script::new("taking the member off the server")
            .set("cluster", &self.member.cluster.name)
            .set("stamp", stamp())
            .set("mode", self.member.on_destroy.as_deref().unwrap_or("keep_data"))
            .set("server", &self.member.server)
            .line(PRIVILEGE)
            .line(MOUNTS)
            .line(include_str!("../binaries.sh"))
            .line(include_str!("../tcp_retries.sh"))
            .line(include_str!("../scheduled_snapshots.sh"))
            .line(include_str!("../remove_member.sh"))
    }

    /// What becomes of the member on its server.
    async fn take_off(&self, host: &Host, how: &Leaving) -> Result<Diagnostics, RunError> {
        let script = self
            .removing()
            .line("if is_anothers \"$cluster\" \"$server\"; then exit 0; fi");
        if *how != Leaving::Rest {
            let script = script.line("remove_member \"$cluster\" \"$stamp\" \"$mode\"");
            let mounted = mounted::read(&host.run_checked(&script).await?);
            let state = "The member is in its cluster no longer.";
            let refusal = mounted::refusal(&self.member.server, &mounted, state);
            return Ok(refusal.map_or_else(Diagnostics::new, |detail| self.failed(detail)));
        }
        let output = host
            .run_checked(&script.line("rest_member \"$cluster\" \"$mode\""))
            .await?;
        let leaving = self.road.session(self.member.cluster.token()).leaving();
        let (name, cluster) = (&self.member.server, &self.member.cluster.name);
        if output.value("rests").is_none() || self.member.cluster.servers.keys().all(|name| leaving.contains(name)) {
            return Ok(Diagnostics::new());
        }
        let detail = format!(
            "Nobody else of the cluster {cluster} was left, so it was stopped, and its data stays in {data}. If the cluster is being \
             destroyed, that takes it away. If not, bring the member on {name} back into the configuration: it goes on from there, and \
             until then no other one has a cluster to join.",
            data = self.layout.data_dir(),
        );
        let summary = format!("The cluster {cluster} rests on server {name}");
        Ok(Diagnostic::warning(summary, detail).at(Path::of("server")).into())
    }
}
