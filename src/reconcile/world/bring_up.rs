//! A member's create or update, as `resource/member/bring_up.rs` performs it: one step of it at a time, and anything may happen in
//! between.

mod changes;

use std::time::Duration;

use tokio::time::Instant;

use super::call::{Call, Outcome, Why};
use super::etcd::{Survey, Violation, World};
use super::history::List;
use super::machine::{Machine, Process as Runs, Server, Servers, Wanted};
use super::turn::{Got, Process, Turn, name, servers};
use crate::membership::member::{
    Answer, Cluster, Data, Desired, Observed, PeerUrl, Service, Start, Step, goes_on_out_of_turn, next_step,
};
use crate::membership::quorum;
use crate::reconcile::session::Restarting;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(600);
/// How long it waits where a refusal may pass (`PATIENCE`), and for the directed pairs (`VERIFY`).
const PATIENCE: Duration = Duration::from_secs(60);
const VERIFY: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(300);

/// What was seen of the server (`resource/member/observe.rs`).
#[derive(Clone, Debug)]
struct Seen {
    permit: Option<u32>,
    token: Option<u32>,
    bare: bool,
    data: Data,
    service: Service,
    restart_pending: bool,
    installed: bool,
    other_files: bool,
    running: Option<Wanted>,
    /// Of the files that it was last started with.
    last_minor: Option<u64>,
}

/// What is to be done once the cluster was asked for it, until its list shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    RemoveOld,
    RemoveOther,
    PromoteOther,
    AddLearner,
    Promote,
}

/// A member that is brought up.
pub struct BringUp {
    server: Server,
    /// The cluster as the member's plan has it.
    pub servers: Servers,
    pub founders: Servers,
    pub wanted: Wanted,
    /// The state has it already.
    pub existed: bool,
    verify: bool,
    desired: Option<Desired>,
    seen: Option<Seen>,
    turn: Turn,
    restarting: Option<Restarting>,
    restarted: bool,
    patience: Option<Instant>,
    survey: Option<Survey>,
    scope: Option<Servers>,
    old_entries: Option<bool>,
    founders_started: Option<usize>,
    answers: Option<Answer>,
    cluster: Option<Cluster>,
    leader_moves: u8,
    asking: Option<Asking>,
    verifying: Option<Instant>,
    deadline: Option<Instant>,
}

impl BringUp {
    pub fn new(server: Server, servers: &Servers, founders: &Servers, wanted: Wanted, verify: bool) -> Self {
        Self {
            server,
            servers: servers.clone(),
            founders: founders.clone(),
            wanted,
            existed: false,
            verify,
            desired: None,
            seen: None,
            turn: Turn::default(),
            restarting: None,
            restarted: false,
            patience: None,
            survey: None,
            scope: None,
            old_entries: None,
            founders_started: None,
            answers: None,
            cluster: None,
            leader_moves: 0,
            asking: None,
            verifying: None,
            deadline: None,
        }
    }

    fn observe(&self, machine: &Machine) -> Seen {
        Seen {
            permit: machine.permit,
            token: machine.token,
            bare: machine.files.is_none() && machine.log.is_none() && machine.process == Runs::Stopped,
            data: if machine.log.is_some() {
                Data::Member
            } else {
                Data::Empty
            },
            service: match machine.process {
                Runs::Running(_) => Service::Running,
                Runs::Failed => Service::Failed,
                Runs::Stopped | Runs::Crashed => Service::Stopped,
            },
            restart_pending: machine.restart_pending,
            installed: machine.files == Some(self.wanted) && machine.peers == self.servers && machine.enabled,
            other_files: machine.files.is_some_and(|files| files != self.wanted),
            running: match machine.process {
                Runs::Running(wanted) => Some(wanted),
                _ => None,
            },
            last_minor: machine.last_minor(),
        }
    }

    /// `has_old_entries`, of a member that has run 3.6.
    fn look_for_old_entries(&mut self, minor: Option<u64>, world: &World) {
        let log = world.machines[self.server].log;
        if self.old_entries.is_none() && minor.is_some() {
            self.old_entries =
                Some(self.wanted.minor >= 7 && minor == Some(6) && log.is_some_and(|log| log.old_entries));
        }
    }

    fn give_turn_away(&mut self, process: &Process, world: &mut World) {
        self.survey = None;
        self.turn.end(process, world);
    }

    /// `look` and `look_at_cluster`.
    fn look(&mut self, process: &Process, world: &mut World) -> bool {
        if !self.turn.take(process) {
            return false;
        }
        let mut survey = world.survey(&self.servers, self.server);
        if let Some(found) = &survey {
            match self.turn.lock(process, world, found) {
                Got::No => return false,
                Got::Before => {}
                Got::Now => {
                    survey = world.survey(&self.servers, self.server);
                    self.seen = Some(self.observe(&world.machines[self.server]));
                }
            }
        }
        self.scope = survey.as_ref().map(|survey| self.answering(survey));
        self.cluster = Some(survey.as_ref().map_or(Cluster::NoQuorum, |survey| self.lives(survey)));
        self.survey = survey;
        true
    }

    /// `glance`: a look out of turn, where that is enough for what comes next.
    fn glance(&mut self, world: &mut World) -> bool {
        let (Some(seen), Some(desired)) = (&self.seen, &self.desired) else {
            return false;
        };
        let observed = self.observed(seen);
        if self.turn.is_taken() || !goes_on_out_of_turn(&observed, desired, Cluster::NoQuorum) {
            return false;
        }
        let survey = world.survey(&self.servers, self.server);
        let cluster = survey.as_ref().map_or(Cluster::NoQuorum, |survey| self.lives(survey));
        if !goes_on_out_of_turn(&observed, desired, cluster) {
            return false;
        }
        world.note("started out of turn");
        self.scope = survey.as_ref().map(|survey| self.answering(survey));
        self.cluster = Some(cluster);
        true
    }

    fn answering(&self, survey: &Survey) -> Servers {
        servers(&survey.seen_from(&self.servers).answering())
    }

    fn lives(&self, survey: &Survey) -> Cluster {
        Cluster::Lives(survey.seen_from(&self.servers).lives(PeerUrl::Wanted))
    }

    fn other_learner(&self, survey: &Survey) -> Option<u32> {
        let other = survey.seen_from(&self.servers).other_learner().map(|one| one.id);
        other.and_then(|id| u32::try_from(id).ok())
    }

    fn given_up(&self, survey: &Survey) -> Option<u32> {
        let other = survey.seen_from(&self.servers).given_up().map(|one| one.id);
        other.and_then(|id| u32::try_from(id).ok())
    }

    fn observed(&self, seen: &Seen) -> Observed {
        let others_wait = self.restarting.as_ref().is_some_and(Restarting::others_wait);
        Observed {
            permit: seen.permit.map(|token| token.to_string()),
            token: seen.token.map(|token| token.to_string()),
            bare: seen.bare,
            data: seen.data,
            restored: false,
            service: seen.service,
            installed: seen.installed,
            restart_needed: seen.other_files || seen.restart_pending,
            expired: false,
            peers_moved: false,
            port_taken: None,
            founders_started: self.founders_started,
            answers: self.answers,
            cluster: self.cluster,
            others_wait,
            old_entries: self.old_entries == Some(true),
            last_minor: seen.last_minor,
            leader_moves: self.leader_moves,
            copied: false,
            adoption: None,
        }
    }

    fn desired(&self, token: u32) -> Desired {
        Desired {
            token: token.to_string(),
            founders: self.founders.intersection(&self.servers).count(),
            founder: self.founders.contains(&self.server),
            as_founded: self.founders == self.servers,
            verify: self.verify,
            minor: self.wanted.minor,
            peer_url_differs: false,
        }
    }

    /// What the member says of itself, if it answers as one of a cluster with a leader (`answer`).
    fn answer(&self, world: &World) -> Option<Answer> {
        let machine = &world.machines[self.server];
        let log = machine.running_log().filter(|_| machine.up && machine.knows_leader)?;
        let own = world.histories[log.history].list_at(log.length).get(&log.id)?;
        Some(if own.voter { Answer::Voter } else { Answer::Learner })
    }

    fn go_on(&mut self, process: &Process, world: &mut World, token: u32) -> Result<Outcome, Violation> {
        let machine = &world.machines[self.server];
        if !machine.up {
            return Ok(Outcome::Failed(Why::Unreached));
        }
        if Instant::now() > *self.deadline.get_or_insert(Instant::now() + DEADLINE) {
            return Ok(Outcome::Failed(Why::Late));
        }
        if let Some(asking) = self.asking {
            return self.ask(asking, process, world);
        }
        let seen = self.seen.get_or_insert(self.observe(machine)).clone();
        if process.stop.is_cancelled() {
            return Ok(Outcome::Stopped {
                runs: seen.service == Service::Running,
            });
        }
        if (seen.other_files || seen.restart_pending) && seen.service == Service::Running {
            if self.restarting.is_none() {
                self.restarting = Some(process.session.restarting(&name(self.server)));
            }
            self.look_for_old_entries(seen.running.map(|running| running.minor), world);
        } else if seen.service != Service::Running {
            self.look_for_old_entries(seen.last_minor, world);
        }
        let desired = self.desired.clone().unwrap_or_else(|| self.desired(token));
        let step = next_step(&self.observed(&seen), &desired);
        self.desired = Some(desired);
        if step != Step::LookAtCluster {
            world.tell(|| format!("s{}: {step:?}", self.server));
        }
        self.perform(step, process, world)
    }

    fn perform(&mut self, step: Step, process: &Process, world: &mut World) -> Result<Outcome, Violation> {
        match step {
            Step::Install(start) => return self.install(start, process, world),
            Step::LookAtCluster => {
                if !self.glance(world) && !self.look(process, world) {
                    return Ok(Outcome::Waits(AGAIN));
                }
            }
            Step::LetOthersFirst => {
                self.give_turn_away(process, world);
                if self.restarting.as_ref().is_some_and(Restarting::others_wait) {
                    return Ok(Outcome::Waits(SOON));
                }
                self.cluster = None;
            }
            Step::MoveLeader => {
                if let Some(survey) = self.survey.take()
                    && let Some(own) = survey.own
                {
                    world.move_leader(survey.history, own);
                }
                self.leader_moves += 1;
                self.cluster = None;
            }
            Step::SetAside => {
                world.may_take_data(self.server)?;
                world.note("set aside");
                let machine = &mut world.machines[self.server];
                machine.end(Runs::Stopped);
                machine.log = None;
                self.seen = None;
                self.cluster = None;
            }
            Step::RemoveOld => self.asking = Some(Asking::RemoveOld),
            Step::PromoteOther => self.asking = Some(Asking::PromoteOther),
            Step::RemoveOther => self.asking = Some(Asking::RemoveOther),
            Step::AddLearner => self.asking = Some(Asking::AddLearner),
            Step::Promote => {
                // Without a survey there is nothing to promote by, and it is asked again.
                if self.look(process, world) && self.survey.is_some() {
                    self.asking = Some(Asking::Promote);
                }
                self.answers = None;
            }
            Step::Redial => {}
            Step::Renew => unreachable!("no certificate ends here"),
            Step::Adopt | Step::Rename => unreachable!("nothing is taken over here"),
            Step::AddUrl | Step::SettleUrl => unreachable!("no port changes here"),
            Step::CountFounders => {
                let started = 1 + self.started(world);
                self.founders_started = Some(started);
                if self
                    .desired
                    .as_ref()
                    .is_some_and(|desired| started < quorum(desired.founders))
                {
                    self.answers = self.answer(world);
                }
            }
            Step::AwaitHealth => return Ok(self.await_health(world)),
            Step::Verify => return Ok(self.verify(world)),
            Step::Leave | Step::Done => return Ok(Outcome::Done),
            Step::Refuse(refusal) => {
                let until = *self.patience.get_or_insert(Instant::now() + PATIENCE);
                if !refusal.may_pass() || Instant::now() >= until {
                    return Ok(Outcome::Failed(Why::Member(refusal)));
                }
                self.give_turn_away(process, world);
                self.cluster = None;
                return Ok(Outcome::Waits(AGAIN));
            }
        }
        Ok(Outcome::Goes)
    }

    /// `count_founders`: others of which it is seen that they have started.
    fn started(&self, world: &World) -> usize {
        let others = self
            .founders
            .intersection(&self.servers)
            .filter(|other| **other != self.server);
        let started = others
            .map(|other| &world.machines[*other])
            .filter(|machine| machine.up && machine.permit.is_none() && machine.running_log().is_some());
        started.count()
    }

    fn await_health(&mut self, world: &World) -> Outcome {
        let machine = &world.machines[self.server];
        let answer = self.answer(world);
        let caught_up = machine
            .running_log()
            .is_some_and(|log| world.commits_at(log.history) == Some(machine.place));
        match answer {
            Some(Answer::Voter) if self.restarted && !caught_up => {}
            Some(_) => {
                self.answers = answer;
                return Outcome::Goes;
            }
            None => {}
        }
        if machine.runs() {
            Outcome::Waits(SOON)
        } else {
            Outcome::Failed(Why::EndedWhileStarting)
        }
    }

    /// Every pair of the listed members that answered before, and this one, has to be connected.
    fn verify(&mut self, world: &mut World) -> Outcome {
        let until = *self.verifying.get_or_insert(Instant::now() + VERIFY);
        let machine = &mut world.machines[self.server];
        machine.founded |= !self.existed && machine.up;
        let machine = &world.machines[self.server];
        let all_connected = machine.running_log().is_some_and(|log| {
            let in_scope = |server: &Server| {
                *server == self.server || self.scope.as_ref().is_none_or(|scope| scope.contains(server))
            };
            let listed = world.histories[log.history]
                .list_at(log.length)
                .values()
                .map(|one| one.server);
            let ours = listed.filter(|server| self.servers.contains(server));
            let mut asked = ours
                .filter(in_scope)
                .map(|server| &world.machines[server])
                .filter(|one| one.up);
            asked.all(|one| one.runs() && one.place == machine.place)
        });
        match all_connected {
            true => Outcome::Done,
            false if Instant::now() > until => Outcome::Failed(Why::Links),
            false => Outcome::Waits(SOON),
        }
    }
}

impl Call for BringUp {
    fn step(&mut self, process: &Process, world: &mut World, token: u32) -> Result<Outcome, Violation> {
        process.session.announce_coming(&name(self.server));
        let outcome = self.go_on(process, world, token)?;
        if !matches!(outcome, Outcome::Goes | Outcome::Waits(_)) {
            let failed = self.restarted && !matches!(outcome, Outcome::Done);
            if let Some(restarting) = self.restarting.take().filter(|_| failed) {
                restarting.fail();
            }
            self.turn.end(process, world);
        }
        Ok(outcome)
    }
}
