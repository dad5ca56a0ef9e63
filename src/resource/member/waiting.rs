//! How a member waits for others: it gives its turn away meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::bring_up::{BringUp, Course};
use super::errors::BringUpError;
use super::turn::TurnError;
use crate::membership::member::Refusal;
use crate::resource::restarts::Restarting;
use crate::resource::silence::{self, Waited};

/// How long to wait for members that are not healthy, where a restart needs them to be.
const PATIENCE: Duration = Duration::from_secs(60);

impl BringUp<'_> {
    /// What may keep the members from getting well, and would for minutes.
    pub(super) async fn end_silence(&self) {
        silence::end(self.road, &self.member.cluster, self.topology, self.talk().ok()).await;
    }

    pub(super) async fn give_turn_away(course: &mut Course) {
        course.survey = None;
        if let Some(turn) = course.turn.take() {
            turn.end().await;
        }
    }

    pub(super) async fn let_others_first(&self, course: &mut Course) -> Result<(), BringUpError> {
        Self::give_turn_away(course).await;
        while course.restarting.as_ref().is_some_and(Restarting::others_wait) {
            if self.road.pause(Duration::from_millis(100)).await.is_err() {
                return Err(self.stopped(course));
            }
            if Instant::now() >= self.deadline {
                let server = self.member.server.clone();
                let source = TurnError::Late;
                return Err(BringUpError::Turn { server, source });
            }
        }
        Ok(())
    }

    /// Some refusals pass by themselves: others get the turn meanwhile.
    pub(super) async fn wait_or_refuse(&self, course: &mut Course, refusal: Refusal) -> Result<(), BringUpError> {
        let now = Instant::now();
        let first = || (self.deadline.min(now + PATIENCE), Waited::from_now());
        let (until, mut waited) = course.patience.unwrap_or_else(first);
        if !refusal.may_pass() || now >= until {
            return Err(BringUpError::Refused {
                server: self.member.server.clone(),
                refusal,
            });
        }
        tracing::debug!(%refusal, "not yet");
        Self::give_turn_away(course).await;
        // What is waited for may be at the other end of a connection that is none any more.
        waited.mend(self.end_silence()).await;
        course.patience = Some((until, waited));
        let paused = self.road.pause(Duration::from_secs(1)).await;
        paused.map_err(|_| self.stopped(course))
    }
}
