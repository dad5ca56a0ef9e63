//! A member's leaving, as the blocks of etcd and of k3s have it in common: what may fail, and what a user reads of it.

use std::time::Duration;

use super::member::hand_over::hand_over;
use super::member::membership_changes::Unlisted;
use super::member::survey::Survey;
use super::member::turn::TurnError;
use super::road::{Road, RoadError};
use super::server::model::ServerModel;
use super::talk::Talk;
use crate::host::{Host, RunError};
use crate::reconcile::leave::Obstacle;
use crate::reconcile::limits::Limits;

const REACH: Duration = Duration::from_secs(15);

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

/// Connects to the server of a member that leaves, or says why it can't be reached: then its member leaves all the same.
///
/// # Errors
/// If Terraform asked to stop, or the connection is not configured.
pub async fn reach(road: &Road, server: &ServerModel, limits: &Limits) -> Result<Result<Host, RoadError>, StepError> {
    match road.connect(server, limits.remaining().min(REACH), false).await {
        Err(error) if road.stopped() || !matches!(error, RoadError::Connect(_)) => Err(StepError::Road(error)),
        reached => Ok(reached),
    }
}

/// Moves the leadership away from a member that leaves. A failure costs an election and nothing more.
pub async fn try_to_hand_over(talk: Option<&Talk<'_>>, survey: &Survey) {
    let Some(talk) = talk else { return };
    if let Err(error) = hand_over(talk, survey).await {
        tracing::debug!(%error, "the leader could not be moved");
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
