//! A member that another service runs, and that is to run under this provider's: once it was stopped there it goes on here with
//! its data, as the same member, and then its peer URL becomes its name. Killed between any two steps, the marks on the server
//! say how far it has come.

use super::{Answer, Observed, Refusal, Step, before_restart};
use crate::membership::member::Desired;

/// How far the adoption of a member has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// Its former service runs it.
    Runs,
    /// Its former service does not run it, and nobody has begun to take it over.
    Stopped,
    /// Its former service runs, and nobody has imported it.
    NotImported,
    /// All files are in place, and it was to be taken from its former service; its own does not run it yet.
    Begun,
    /// It runs under its own service; the cluster has its former peer URLs, or others may not dial it by its name yet.
    Renaming,
}

/// The next step of an adoption. Only the hand-over is a disturbance, and as much of one as a restart.
pub fn adopt(adoption: Adoption, observed: &Observed, desired: &Desired) -> Step {
    match adoption {
        Adoption::Runs => before_restart(observed, desired).unwrap_or(Step::Adopt),
        Adoption::Stopped => Step::Refuse(Refusal::FormerStopped),
        Adoption::NotImported => Step::Refuse(Refusal::NotImported),
        // It is down as it is: what brings it back waits for nobody.
        Adoption::Begun => Step::Adopt,
        Adoption::Renaming => match observed.answers {
            None => Step::AwaitHealth,
            Some(Answer::Learner | Answer::Voter) => Step::Rename,
        },
    }
}
