//! A call of Terraform's, as a course that is taken step by step.

use super::etcd::{Violation, World};
use super::turn::Process;
use crate::membership::{founding, leaving, member, vacating};

/// How a step of a call came out.
#[derive(Debug)]
pub enum Outcome {
    /// It goes on.
    Goes,
    /// It is done.
    Done,
    /// Stopped on request. `runs`: the member's process has been started.
    Stopped { runs: bool },
    /// It failed.
    Failed(Why),
}

/// Why a call failed, as a user would read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A server can't be reached.
    Unreached,
    /// Its time was up.
    Late,
    /// The service did not start, or ended while it was waited for.
    NotStarted,
    EndedWhileStarting,
    /// Not all directed pairs are connected.
    Links,
    /// Another member did not come back from its restart.
    Halted,
    /// A member that no state knows of runs where the cluster is to go.
    StillInUse,
    /// Data of a member that did not leave is on a server that is to go.
    HoldsData,
    /// A server may not leave the map.
    Vacating(vacating::Refusal),
    /// What the core says.
    Member(member::Refusal),
    Leaving(leaving::Refusal),
    Founding(Vec<founding::Refusal>),
}

/// A call.
pub trait Call {
    /// Takes a step.
    fn step(&mut self, process: &mut Process, call: usize, world: &mut World, token: u32)
    -> Result<Outcome, Violation>;
}
