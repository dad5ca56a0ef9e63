//! Brings a member up, step by step: observe, let [`crate::membership`] decide, perform, and observe again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::binary::{self, Known};
use super::errors::BringUpError;
use super::hand_over::hand_over;
use super::install::Plan;
use super::model::MemberModel;
use super::observe::{self, Look, Seen};
use super::redial::Moved;
use super::survey::Survey;
use super::talk::Talk;
use super::turn::{Turn, take_lock};
use super::verify::Verified;
use super::wanted::Keys;
use crate::etcd::api::Status;
use crate::etcd::layout::Layout;
use crate::etcd::version::Version;
use crate::host::Host;
use crate::membership::damage::Damage;
use crate::membership::identity::{ClusterId, MemberId};
use crate::membership::member::{
    Adoption, Answer, Cluster, Desired, Observed, Service, Start, Step, goes_on_out_of_turn, next_step,
};
use crate::membership::quorum;
use crate::reconcile::session::{Restarting, Session};
use crate::resource::claim::Claim;
use crate::resource::road::Road;
use crate::resource::silence::Waited;
use crate::topology::Topology;

/// What a member is brought up with.
pub struct BringUp<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The member.
    pub member: &'a MemberModel,
    /// Its cluster's topology.
    pub topology: &'a Topology,
    /// Where its files are.
    pub layout: &'a Layout,
    /// The version that is wanted.
    pub version: &'a Version,
    /// The private keys of the authorities.
    pub keys: &'a Keys,
    /// Whether to see that every directed pair is connected.
    pub verify: bool,
    /// Whether the state has it already.
    pub existed: bool,
    /// Whether the last refresh saw that its data is another server's member's.
    pub suspect: bool,
    /// What is known of the program that it is to run.
    pub program: Known,
    /// What has another address than before.
    pub moved: Moved,
    /// All of it must be done by then.
    pub deadline: Instant,
    /// The object that is to have it.
    pub claim: &'a Claim,
    /// Who talks to the members, once that is needed.
    pub talk: OnceLock<Talk<'a>>,
    /// Says that the member is about to start with the other founders.
    pub founding: Notify,
}

/// A member that is up.
pub struct Up {
    /// Its ID, as far as it can be known.
    pub member_id: Option<MemberId>,
    /// The ID of its cluster, as far as it can be known.
    pub cluster_id: Option<ClusterId>,
    /// Its configuration file.
    pub configuration: String,
    /// The SHA-256 of its program.
    pub binary_sum: Option<String>,
    /// Its certificates in PEM, by file.
    pub certificates: BTreeMap<String, String>,
    /// When its certificates end.
    pub expiry: BTreeMap<&'static str, OffsetDateTime>,
    /// What its verification saw.
    pub verified: Verified,
    /// What was left undone about peers that moved, in words.
    pub left: Vec<String>,
}

/// Where one run stands.
pub(super) struct Course {
    pub(super) seen: Seen,
    /// Held from the first look that a change rests on to the end of that change.
    pub(super) turn: Option<Turn>,
    pub(super) restarting: Option<Restarting>,
    restarted: bool,
    /// Until when a refusal that may pass is waited for, and since when connections that fell silent were left alone meanwhile.
    pub(super) patience: Option<(Instant, Waited)>,
    pub(super) survey: Option<Survey>,
    /// The servers whose members answered before: those are to be connected after.
    pub(super) scope: Option<BTreeSet<String>>,
    /// What is wrong with the member's data, if it is not its own, or not its own alone.
    pub(super) copied: Option<Damage>,
    /// Whether the log holds entries that the wanted version can't read, once that was looked at.
    old_entries: Option<bool>,
}

fn answer_of(status: &Status) -> Answer {
    if status.is_learner {
        Answer::Learner
    } else {
        Answer::Voter
    }
}

impl BringUp<'_> {
    /// Brings the member up.
    ///
    /// # Errors
    /// [`BringUpError`]; whatever it is, the next try goes on from there.
    pub async fn run(&self) -> Result<Up, BringUpError> {
        let model = self.member.cluster.server(&self.member.server)?;
        tracing::debug!(server = self.member.server, "bringing the member up");
        let host = self.road.connect(model, self.remaining(), false).await?;
        let mut course = Course {
            seen: self.observe(&host).await?,
            turn: None,
            restarting: None,
            restarted: false,
            patience: None,
            survey: None,
            scope: None,
            copied: None,
            old_entries: None,
        };
        let before = course.seen.object.clone();
        let folder = self.layout.etc_dir().as_str();
        if course.seen.token.as_deref() == Some(self.member.cluster.token()) && !course.seen.is_nothing() {
            self.claim.take(&host, folder, before.as_ref()).await?;
        }
        self.borrow_certificate(&host).await?;
        let outcome = {
            // In a box: with all that is awaited in it, it is too large to lie in the caller's.
            let mut course = Box::pin(self.take_course(&host, &mut course));
            tokio::select! {
                outcome = &mut course => outcome,
                () = self.connect_early() => course.await,
            }
        };
        if let (Err(_), true, Some(restarting)) = (&outcome, course.restarted, &course.restarting) {
            restarting.fail();
        }
        if let Some(turn) = course.turn.take() {
            turn.end().await;
        }
        if !matches!(outcome, Ok(_) | Err(BringUpError::Stopped { runs: true })) {
            self.claim.give_back(&host, folder, before.as_ref()).await;
        }
        outcome
    }

    async fn take_course(&self, host: &Host, course: &mut Course) -> Result<Up, BringUpError> {
        let mut desired = Desired {
            token: self.member.cluster.token().to_owned(),
            founders: self.member.remaining_founders().len(),
            founder: self.member.is_founder(),
            as_founded: self.member.has_its_founders(),
            verify: self.verify,
            minor: self.version.number().1,
            peer_url_differs: self.moved.peer_url,
        };
        let (mut founders_started, mut answers, mut cluster) = (None, None, None);
        let mut leader_moves = 0;
        let mut status: Option<Status> = None;
        // What is left undone about peers that moved.
        let mut left: Option<Vec<String>> = None;
        loop {
            if self.road.stopped() {
                return Err(self.stopped(course));
            }
            let adoption = self.adoption(&course.seen);
            let plan = self.plan(&course.seen)?;
            let restarts = plan.restart_needed && course.seen.service == Service::Running;
            if restarts || adoption == Some(Adoption::Runs) {
                self.ready_for_restart(host, course).await?;
            } else if course.seen.last.is_some() {
                self.look_for_old_entries(host, course).await?;
            }
            let observed = Observed {
                permit: course.seen.permit.clone(),
                token: course.seen.token.clone(),
                bare: course.seen.is_nothing(),
                data: course.seen.data,
                restored: course.seen.restored.as_deref() == Some(self.member.cluster.token()),
                service: course.seen.service,
                installed: plan.installed,
                restart_needed: plan.restart_needed,
                expired: plan.has_expired(),
                peers_moved: left.is_none() && !self.moved.is_nothing(),
                port_taken: course.seen.port_taken.clone(),
                founders_started,
                answers,
                cluster,
                others_wait: course.restarting.as_ref().is_some_and(Restarting::others_wait),
                old_entries: course.old_entries == Some(true),
                last_minor: course.seen.last_minor(),
                leader_moves,
                copied: course.copied.is_some(),
                adoption,
            };
            let step = next_step(&observed, &desired);
            tracing::debug!(server = self.member.server, ?step, "next step");
            match step {
                Step::Install(start) => {
                    self.before_install(course, start).await?;
                    if start == Start::Snapshot {
                        course.seen = self.restart_for_snapshot(host, &course.seen).await?;
                        course.old_entries = Some(false);
                    } else {
                        let survey = course.survey.as_ref();
                        course.seen = self.install(host, &plan, &course.seen, start, survey).await?;
                    }
                    if start == Start::AsItIs {
                        // The same entries are looked for again, now that it can be made to write a snapshot.
                        course.old_entries = None;
                    }
                    // What the state says of it was said of another start, and perhaps of another machine.
                    desired.verify |= start != Start::No;
                    if matches!(start, Start::Restart | Start::Snapshot | Start::Join) {
                        // The others are there, and nobody is to be counted.
                        desired.founder = false;
                    }
                    (cluster, course.survey, answers) = (None, None, None);
                }
                Step::Renew => course.seen = self.renew(host, &plan).await?,
                Step::Adopt => {
                    self.before_install(course, Start::Restart).await?;
                    course.seen = self.adopt(host, course.survey.take(), &course.seen).await?;
                    (cluster, answers) = (None, None);
                }
                Step::Rename => {
                    course.seen = self.rename(host, course).await?;
                    // How it is dialled now is for the end to verify once more, with the certificate that stays.
                    desired.verify = true;
                    (cluster, answers) = (None, None);
                }
                Step::AddUrl => {
                    self.add_url(course.survey.take()).await?;
                    cluster = None;
                }
                Step::SettleUrl => {
                    self.settle_url(host, course).await?;
                    cluster = None;
                }
                Step::LookAtCluster => {
                    cluster = match self.glance(course, &observed, &desired).await? {
                        Some(seen) => Some(seen),
                        None => self.look(host, course).await?,
                    };
                }
                Step::LetOthersFirst => {
                    self.let_others_first(course).await?;
                    cluster = None;
                }
                Step::MoveLeader => {
                    if let Some(survey) = course.survey.take()
                        && let Err(error) = hand_over(self.talk()?, &survey).await
                    {
                        tracing::debug!(%error, "the leader could not be moved");
                    }
                    leader_moves += 1;
                    cluster = None;
                }
                Step::SetAside => {
                    self.set_aside(host).await?;
                    course.seen = self.observe(host).await?;
                    cluster = None;
                }
                Step::RemoveOld | Step::PromoteOther | Step::RemoveOther | Step::AddLearner => {
                    if let Some(survey) = course.survey.take() {
                        match step {
                            Step::RemoveOld => self.remove_old(&survey).await?,
                            Step::PromoteOther => self.promote_other(&survey).await?,
                            Step::RemoveOther => self.remove_other(&survey).await?,
                            _ => self.add_learner(&survey, &self.own_peer_url()?).await?,
                        }
                    }
                    cluster = None;
                }
                Step::Promote => {
                    self.look(host, course).await?;
                    if let Some(survey) = course.survey.take() {
                        self.promote(&survey).await?;
                    }
                    answers = None;
                }
                Step::Redial => left = Some(self.redial(host).await?),
                Step::CountFounders => {
                    let started = self.count_founders().await;
                    founders_started = Some(started);
                    // One that has come back may be of a cluster which few of its founders are left in.
                    if started < quorum(desired.founders)
                        && let Ok(seen) = self.answer(self.talk()?).await
                    {
                        answers = Some(answer_of(&seen));
                        status = Some(seen);
                    }
                }
                Step::AwaitHealth => {
                    let seen = self.await_health(host, course.restarted).await?;
                    course.copied = self.answers_as_another(&seen).await;
                    answers = Some(answer_of(&seen));
                    status = Some(seen);
                }
                Step::Verify => {
                    let verified = self.verify(host, course.scope.as_ref()).await?;
                    return Ok(self.up(plan, &course.seen, status.as_ref(), verified, left));
                }
                Step::Leave | Step::Done => {
                    return Ok(self.up(plan, &course.seen, status.as_ref(), Verified::default(), left));
                }
                Step::Refuse(refusal) => {
                    self.wait_or_refuse(course, refusal).await?;
                    cluster = None;
                }
            }
        }
    }

    pub(super) fn stopped(&self, course: &Course) -> BringUpError {
        BringUpError::Stopped {
            runs: course.seen.service == Service::Running,
        }
    }

    /// What a restart needs and takes time is brought there before anybody's turn.
    async fn ready_for_restart(&self, host: &Host, course: &mut Course) -> Result<(), BringUpError> {
        if course.restarting.is_none() {
            course.restarting = Some(self.session().restarting(&self.member.server));
        }
        if self.program.is_to_be_brought(self.version, &course.seen) {
            let (seen, within) = (&course.seen, self.remaining());
            binary::provide(host, self.member, self.version, seen, &self.program, within).await?;
            course.seen = self.observe(host).await?;
        }
        // One that is taken over keeps its minor version.
        if self.adoption(&course.seen).is_some() {
            course.old_entries = Some(false);
        }
        self.look_for_old_entries(host, course).await
    }

    async fn look_for_old_entries(&self, host: &Host, course: &mut Course) -> Result<(), BringUpError> {
        if course.old_entries.is_none() {
            course.old_entries = Some(self.has_old_entries(host, &course.seen).await?);
        }
        Ok(())
    }

    async fn before_install(&self, course: &mut Course, start: Start) -> Result<(), BringUpError> {
        match start {
            // It changes no list, and others that are to make the quorum may wait for their turn.
            Start::Resume | Start::AsItIs => Self::give_turn_away(course).await,
            Start::Restart | Start::Snapshot => {
                if let Some(failed) = course.restarting.as_ref().and_then(Restarting::failed) {
                    let server = self.member.server.clone();
                    return Err(BringUpError::Halted { server, failed });
                }
                course.restarted = true;
            }
            Start::Found => self.founding.notify_one(),
            Start::Join | Start::No => {}
        }
        Ok(())
    }

    /// Looks at the cluster when it is this member's turn: what is seen then stays true as long as the turn does.
    pub(super) async fn look(&self, host: &Host, course: &mut Course) -> Result<Option<Cluster>, BringUpError> {
        let late = |source| BringUpError::Turn {
            server: self.member.server.clone(),
            source,
        };
        if course.turn.is_none() {
            let turn = Turn::take(&self.session(), self.deadline).await;
            course.turn = Some(turn.map_err(|source| late(source.into()))?);
        }
        if self.road.stopped() {
            return Err(self.stopped(course));
        }
        let talk = self.talk()?;
        let (mut cluster, mut survey) = self.look_at_cluster(talk).await;
        // What has no quorum has no lock either, and nothing is done then that would need one.
        if let (Some(found), Some(turn)) = (&survey, &mut course.turn)
            && turn.lock(take_lock(found, self.deadline)).await.map_err(late)?
        {
            let (looked, seen) = tokio::join!(self.look_at_cluster(talk), self.observe(host));
            (cluster, survey) = looked;
            course.seen = seen?;
        }
        course.scope = survey.as_ref().map(|survey| survey.list.answering());
        course.copied = self.copied(&course.seen, survey.as_ref());
        course.survey = survey;
        Ok(Some(cluster))
    }

    /// Looks at the cluster while somebody else may have the turn, where that is enough for what comes next.
    async fn glance(
        &self,
        course: &mut Course,
        observed: &Observed,
        desired: &Desired,
    ) -> Result<Option<Cluster>, BringUpError> {
        if course.turn.is_some() || !goes_on_out_of_turn(observed, desired, Cluster::NoQuorum) {
            return Ok(None);
        }
        let (cluster, survey) = self.look_at_cluster(self.talk()?).await;
        if !goes_on_out_of_turn(observed, desired, cluster) {
            return Ok(None);
        }
        course.scope = survey.as_ref().map(|survey| survey.list.answering());
        course.copied = self.copied(&course.seen, survey.as_ref());
        Ok(Some(cluster))
    }

    pub(super) fn session(&self) -> Arc<Session> {
        self.road.session(self.member.cluster.token())
    }

    pub(super) fn own_peer_url(&self) -> Result<String, BringUpError> {
        let (name, _) = self.topology.find(&self.member.server)?;
        Ok(self.topology.peer_url(name)?)
    }

    /// Where nobody gave the key of the authority that issues, as after an import or in the middle of a rotation, the member's own
    /// certificate does to talk to the others.
    async fn borrow_certificate(&self, host: &Host) -> Result<(), BringUpError> {
        let Some(authorities) = &self.member.cluster.certificate_authorities else {
            return Ok(());
        };
        if self.keys.for_this_run(authorities).is_ok() {
            return Ok(());
        }
        let look = Look {
            key: true,
            ..Look::default()
        };
        let seen = observe::observe(host, self.member, self.layout, look).await?;
        let (road, cluster) = (self.road, &self.member.cluster);
        if let Some(talk) = Talk::borrow(road, cluster, self.topology, seen.lent) {
            self.talk.get_or_init(|| talk);
        }
        Ok(())
    }

    /// One certificate and one connection to each member for the whole run.
    pub(super) fn talk(&self) -> Result<&Talk<'_>, BringUpError> {
        if let Some(talk) = self.talk.get() {
            return Ok(talk);
        }
        let authorities = self.member.cluster.certificate_authorities.as_ref();
        let tls = authorities.map(|all| self.keys.for_this_run(all)).transpose()?;
        let talk = Talk::new(self.road, &self.member.cluster, self.topology, tls);
        Ok(self.talk.get_or_init(|| talk))
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// What the state is to say. Before the member answers, its IDs are those that its founding gives it.
    fn up(
        &self,
        plan: Plan,
        seen: &Seen,
        status: Option<&Status>,
        verified: Verified,
        left: Option<Vec<String>>,
    ) -> Up {
        let (member_id, cluster_id) = match status {
            Some(status) => (Some(MemberId(status.member_id)), Some(ClusterId(status.cluster_id))),
            None => self.founding_ids(),
        };
        Up {
            member_id,
            cluster_id,
            configuration: plan.configuration,
            binary_sum: seen.binary_sum.clone(),
            expiry: plan.certificates.expiry,
            certificates: plan.certificates.leaves,
            verified,
            left: left.unwrap_or_default(),
        }
    }
}
