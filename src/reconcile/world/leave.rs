//! Performs the steps of a member's leaving on simulated servers. The loop is the one that ships: [`crate::reconcile::leave`].

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::call::{Outcome, Why};
use super::etcd::{Survey, World};
use super::machine::{Machine, Process as Runs, Server, Servers};
use super::shared::Shared;
use super::turn::{Process, name, servers};
use crate::membership::leaving::{Fate, Leaving, Refusal};
use crate::membership::member_list::{Entry, MemberList};
use crate::reconcile::leave::{Backend, Obstacle, Wish, leave};
use crate::reconcile::limits::Limits;
use crate::reconcile::turn::Lock;

const DEADLINE: Duration = Duration::from_secs(300);

/// A member that leaves.
pub struct Leave<'a> {
    pub world: &'a Shared,
    pub process: &'a Process,
    pub server: Server,
    /// The cluster as the member's state has it.
    pub servers: &'a Servers,
}

impl Leave<'_> {
    /// Takes it out of its cluster, and off its server.
    pub async fn run(&self, fate: Fate, stays: bool) -> Outcome {
        let wish = Wish {
            server: name(self.server),
            servers: self.servers.iter().copied().map(name).collect(),
            fate,
            stays,
        };
        let limits = self.process.limits(DEADLINE);
        match leave(self, &self.process.session, &wish, &limits).await {
            Ok(()) => Outcome::Done,
            Err(Obstacle::Refused(refusal)) => Outcome::Failed(Why::Leaving(refusal)),
            Err(Obstacle::Late(_)) => Outcome::Failed(Why::Late),
            Err(Obstacle::Stopped) => Outcome::Stopped { runs: false },
            Err(Obstacle::Step(why)) => Outcome::Failed(why),
        }
    }
}

impl Process {
    /// The limits of a call.
    pub fn limits(&self, within: Duration) -> Limits {
        Limits {
            deadline: Instant::now() + within,
            stop: self.stop.clone(),
        }
    }
}

impl Survey {
    /// The list as a state that has these servers sees it.
    pub fn seen_from(&self, servers: &Servers) -> MemberList {
        let entry = |(id, one): (&u32, &super::history::Listed)| Entry {
            id: u64::from(*id),
            server: Some(name(one.server)),
            known: servers.contains(&one.server),
            voter: one.voter,
            started: one.started,
            healthy: self.healthy.contains_key(id),
            minor: self.healthy.get(id).copied(),
        };
        MemberList {
            entries: self.list.iter().map(entry).collect(),
            own: self.own.map(u64::from),
            leader: self.leader.map(u64::from),
        }
    }
}

/// The lock of one cluster.
pub struct HeldLock {
    world: Shared,
    history: usize,
    process: u32,
}

#[async_trait]
impl Lock for HeldLock {
    fn is_lost(&self) -> bool {
        !self.world.lock().has_lock(self.history, self.process)
    }

    async fn release(self) {
        self.world.moment().await;
        self.world.lock().give_lock_back(self.history, self.process);
    }
}

impl Shared {
    /// Takes the lock of the cluster that was surveyed, or waits for it.
    pub async fn take_lock(&self, process: &Process, survey: &Survey, limits: &Limits) -> Result<HeldLock, Why> {
        loop {
            self.moment().await;
            if self.lock().take_lock(survey.history, process.number) {
                return Ok(HeldLock {
                    world: self.clone(),
                    history: survey.history,
                    process: process.number,
                });
            }
            if Instant::now() >= limits.deadline {
                return Err(Why::Late);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[async_trait]
impl Backend for Leave<'_> {
    type Survey = Survey;
    type Lock = HeldLock;
    type Outcome = ();
    type Error = Why;

    async fn reach(&self) -> Result<(), Why> {
        self.world.moment().await;
        Ok(())
    }

    /// Asked with a certificate that is borrowed from any server that has one.
    async fn survey(&self) -> Option<Survey> {
        self.world.moment().await;
        let world = self.world.lock();
        let mut asked = self.servers.iter().map(|server| &world.machines[*server]);
        if !asked.any(|machine| machine.up && machine.files.is_some()) {
            return None;
        }
        world.survey(self.servers, self.server)
    }

    fn list(&self, survey: &Survey) -> MemberList {
        survey.seen_from(self.servers)
    }

    async fn lock(&self, survey: &Survey, limits: &Limits) -> Result<HeldLock, Why> {
        self.world.take_lock(self.process, survey, limits).await
    }

    fn waits(&self, refusal: &Refusal) {
        let mut world = self.world.lock();
        world.tell(|| format!("s{} waits: {refusal:?}", self.server));
        if matches!(refusal, Refusal::Awaited { .. }) {
            world.note("waited for a successor");
        }
    }

    async fn without_member(&self, asked: &BTreeSet<String>) -> BTreeSet<String> {
        self.world.moment().await;
        let world = self.world.lock();
        let holds_none =
            |machine: &Machine| machine.up && !machine.runs() && (machine.log.is_none() || machine.resting);
        let without = servers(asked)
            .into_iter()
            .filter(|one| holds_none(&world.machines[*one]));
        without.map(name).collect()
    }

    async fn may_be_taken_off(&self) -> Result<(), Why> {
        Ok(())
    }

    async fn hand_over(&self, survey: &Survey) {
        self.world.moment().await;
        if survey.own == survey.leader
            && let Some(own) = survey.own
        {
            self.world.lock().move_leader(survey.history, own);
        }
    }

    async fn hang_up(&self, _: &Survey) {}

    async fn remove(&self, survey: &Survey, id: u64, limits: &Limits) -> Result<(), Why> {
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        loop {
            self.world.moment().await;
            {
                let mut world = self.world.lock();
                world.tell(|| format!("s{} has {id} removed from {:?}", self.server, survey.list.keys()));
                let locked = world.has_lock(survey.history, self.process.number);
                if let Err(violation) = world.may_remove(survey.history, id, survey, locked) {
                    world.violated(violation);
                }
                // Now and then it is done, and the answer is lost.
                if world.remove(survey.history, id) && !world.chance.once_in(8) {
                    return Ok(());
                }
            }
            if Instant::now() >= limits.deadline {
                return Err(Why::Late);
            }
            if limits.pause(Duration::from_millis(500)).await.is_err() {
                return Err(Why::Late);
            }
        }
    }

    async fn off_the_server(&self, how: &Leaving) -> Result<(), Why> {
        self.world.moment().await;
        let mut world = self.world.lock();
        world.tell(|| format!("s{} off its server: {how:?}", self.server));
        if *how == Leaving::Rest {
            let everyone: BTreeSet<String> = self.servers.iter().copied().map(name).collect();
            let together = self.process.session.all_leave(&everyone);
            world.note(if together { "stopped together" } else { "left to rest" });
            // No turn is taken for it: the member that has one may have looked before.
            world.faults += usize::from(together);
            rest(&mut world, self.server);
        } else {
            take_off(&mut world, self.server);
        }
        Ok(())
    }
}

/// Stopped, with its data where it is.
fn rest(world: &mut World, server: Server) {
    let machine = &mut world.machines[server];
    if machine.up {
        machine.end(Runs::Stopped);
        machine.enabled = false;
        machine.resting = machine.log.is_some();
    }
    world.unsettled = true;
}

/// A server that can't be reached is left as it is, with a warning.
fn take_off(world: &mut World, server: Server) {
    if world.listed().contains(&server) {
        world.violated(format!("s{server} has left, and is in the member list"));
    }
    if world.machines[server].up {
        if let Err(violation) = world.may_take_data(server) {
            world.violated(violation);
        }
        world.machines[server].remove_member();
    }
}
