//! What the calls of one process share, and their turn: `resource/road.rs`, `restarts.rs`, `departures.rs`, `member/turn.rs`.

use super::etcd::{Survey, World};
use super::machine::{Server, Servers};

/// One process of the provider.
#[derive(Debug)]
pub struct Process {
    /// Who it is to the lock in a cluster.
    pub number: u32,
    /// The call that has the cluster's line.
    line: Option<usize>,
    /// Members that wait to be restarted, and one that did not come back.
    pub waiting: Servers,
    pub failed: Option<Server>,
    /// Members that are to leave for good, and members that are to be there.
    pub leaving: Servers,
    pub coming: Servers,
    /// Terraform asked to stop.
    pub stopped: bool,
}

impl Process {
    pub fn new(number: u32) -> Self {
        Self {
            number,
            line: None,
            waiting: Servers::new(),
            failed: None,
            leaving: Servers::new(),
            coming: Servers::new(),
            stopped: false,
        }
    }
}

/// How a try to get on came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// It has it now.
    Now,
    /// It had it before.
    Before,
    /// Not yet.
    No,
}

/// A call's turn, from the first look that a change rests on to the end of that change.
#[derive(Debug, Default)]
pub struct Turn {
    taken: bool,
    /// The cluster whose lock it has.
    lock: Option<usize>,
}

impl Turn {
    /// Its place in the line of the process.
    pub fn take(&mut self, process: &mut Process, call: usize) -> bool {
        if !self.taken && process.line.is_none() {
            process.line = Some(call);
            self.taken = true;
        }
        self.taken
    }

    /// The lock in the cluster, which a quorum has to grant.
    pub fn lock(&mut self, process: &Process, world: &mut World, survey: &Survey) -> Got {
        let of = &mut world.histories[survey.history];
        if self.lock == Some(survey.history) && of.lock == Some(process.number) {
            return Got::Before;
        }
        if of.lock.is_some_and(|holder| holder != process.number) {
            world.note("waited for the lock");
            return Got::No;
        }
        let number = process.number;
        if !world.commit(survey.history, |_| {}) {
            return Got::No;
        }
        world.histories[survey.history].lock = Some(number);
        self.lock = Some(survey.history);
        Got::Now
    }

    /// Whether it has begun.
    pub fn is_taken(&self) -> bool {
        self.taken
    }

    /// Whether it holds off everybody else.
    pub fn is_locked(&self) -> bool {
        self.taken && self.lock.is_some()
    }

    /// Gives it to the next one. Without a quorum the lock stays until its lease is over, which the killed ones' does too.
    pub fn end(&mut self, process: &mut Process, world: &mut World) {
        if let Some(history) = self.lock.take()
            && world.histories[history].lock == Some(process.number)
        {
            world.commit(history, |_| {});
            world.histories[history].lock = None;
        }
        if std::mem::take(&mut self.taken) {
            process.line = None;
        }
    }
}
