//! A member's leaving, as the blocks of etcd and of k3s have it in common: what may fail, and what a user reads of it.

use super::member::membership_changes::Unlisted;
use super::member::turn::TurnError;
use super::road::RoadError;
use crate::host::RunError;
use crate::reconcile::leave::Obstacle;

/// Why a step failed.
#[derive(Debug)]
pub enum StepError {
    /// The server can't be asked for.
    Road(RoadError),
    /// The cluster's lock could not be taken.
    Turn(TurnError),
    /// Something is mounted in a folder that would be deleted; the text says which.
    Mounted(String),
    /// The member list does not show the change.
    Unlisted(Unlisted),
    /// A script failed.
    Run(RunError),
}

impl From<RunError> for StepError {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

/// Says why a member did not leave, and what to do.
pub fn explain(obstacle: &Obstacle<StepError>) -> String {
    let turn =
        |error: &dyn std::fmt::Display| format!("Nothing was changed: {error}. Try again, or raise timeouts.delete.");
    match obstacle {
        Obstacle::Refused(refusal) => format!("Nothing was changed: {refusal}."),
        Obstacle::Late(late) => turn(late),
        Obstacle::Stopped => RoadError::Stopped.to_string(),
        Obstacle::Step(StepError::Turn(error)) => turn(error),
        Obstacle::Step(StepError::Road(error)) => error.to_string(),
        Obstacle::Step(StepError::Mounted(detail)) => detail.clone(),
        Obstacle::Step(StepError::Unlisted(unlisted)) => unlisted.of_removal(),
        Obstacle::Step(StepError::Run(error)) => error.to_string(),
    }
}
