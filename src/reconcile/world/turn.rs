//! One process of the provider, and the turn of a call that is simulated step by step.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::etcd::{Survey, World};
use super::machine::{Server, Servers};
use crate::reconcile::session::Session;

/// One process of the provider.
#[derive(Clone)]
pub struct Process {
    /// Its number, which the lock in a cluster is held by.
    pub number: u32,
    /// What it knows of the cluster.
    pub session: Arc<Session>,
    /// Cancelled if Terraform asks to stop.
    pub stop: CancellationToken,
}

/// The name of a server.
pub fn name(server: Server) -> String {
    format!("s{server}")
}

/// The server of a name.
pub fn server(name: &str) -> Option<Server> {
    name.strip_prefix('s')?.parse().ok()
}

/// The servers of names.
pub fn servers<'n>(names: impl IntoIterator<Item = &'n String>) -> Servers {
    names.into_iter().filter_map(|name| server(name)).collect()
}

impl Process {
    pub fn new(number: u32) -> Self {
        Self {
            number,
            session: Arc::default(),
            stop: CancellationToken::new(),
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
    place: Option<OwnedMutexGuard<()>>,
    /// The cluster whose lock it has.
    lock: Option<usize>,
}

impl Turn {
    /// Its place in the line of the process.
    pub fn take(&mut self, process: &Process) -> bool {
        if self.place.is_none() {
            self.place = process.session.try_line();
        }
        self.place.is_some()
    }

    /// The lock in the cluster, which a quorum has to grant.
    pub fn lock(&mut self, process: &Process, world: &mut World, survey: &Survey) -> Got {
        if self.lock == Some(survey.history) && world.has_lock(survey.history, process.number) {
            return Got::Before;
        }
        if !world.take_lock(survey.history, process.number) {
            return Got::No;
        }
        self.lock = Some(survey.history);
        Got::Now
    }

    /// Whether it has begun.
    pub fn is_taken(&self) -> bool {
        self.place.is_some()
    }

    /// Whether it holds off everybody else.
    pub fn is_locked(&self) -> bool {
        self.place.is_some() && self.lock.is_some()
    }

    /// Gives it to the next one.
    pub fn end(&mut self, process: &Process, world: &mut World) {
        if let Some(history) = self.lock.take() {
            world.give_lock_back(history, process.number);
        }
        self.place = None;
    }
}
