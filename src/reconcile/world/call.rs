//! A call of Terraform's: how it comes out, and those that are simulated step by step still.

use std::time::Duration;

use super::etcd::{Violation, World};
use super::shared::Shared;
use super::turn::Process;
use crate::membership::{founding, leaving, member, vacating};

/// How a step of a call came out.
#[derive(Debug)]
pub enum Outcome {
    /// It goes on.
    Goes,
    /// It goes on after so long.
    Waits(Duration),
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
    fn step(&mut self, process: &Process, world: &mut World, token: u32) -> Result<Outcome, Violation>;
}

/// Takes all steps of a call. Anything may happen between two of them.
pub async fn take_steps(call: &mut dyn Call, process: &Process, world: &Shared, token: u32) -> Outcome {
    loop {
        world.moment().await;
        let step = call.step(process, &mut world.lock(), token);
        match step {
            Ok(Outcome::Goes) => {}
            Ok(Outcome::Waits(time)) => tokio::time::sleep(time).await,
            Ok(outcome) => return outcome,
            Err(violation) => {
                world.lock().violated(violation);
                return Outcome::Failed(Why::Late);
            }
        }
    }
}
