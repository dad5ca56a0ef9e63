//! How a member waits for others: it gives its turn away meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::bring_up::{BringUp, Course};
use super::down::{Down, lines, who_is_down};
use super::errors::BringUpError;
use super::turn::TurnError;
use crate::membership::member::Refusal;
use crate::reconcile::session::Restarting;
use crate::reconcile::turn::Late;
use crate::resource::silence::{self, Waited};

/// How long to wait for members that are not healthy, where a restart needs them to be.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same if those that are not healthy do not run, or are on servers that are not reached.
const SHORT_PATIENCE: Duration = Duration::from_secs(10);

impl BringUp<'_> {
    pub(super) async fn who_is_down(&self) -> Vec<Down> {
        let unit = self.layout.unit_name();
        who_is_down(self.talk().ok(), self.road, &self.member.cluster, &unit).await
    }

    /// Names those that are down. Of several members of one cluster the first one does.
    async fn refusal(&self, course: &Course, refusal: Refusal) -> BringUpError {
        let server = self.member.server.clone();
        if let (Refusal::Copied, Some(damage)) = (&refusal, &course.copied) {
            let advice = self.advice(damage).await;
            return BringUpError::Copied { server, advice };
        }
        if !refusal.may_pass() {
            let down = Vec::new();
            return BringUpError::Refused { server, refusal, down };
        }
        if let Some(first) = self.session().refused_before(&server) {
            return BringUpError::AsAnother { server, first };
        }
        let down = self.who_is_down().await;
        BringUpError::Refused { server, refusal, down }
    }

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
                let source = TurnError::Late(Late);
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
            Self::give_turn_away(course).await;
            return Err(self.refusal(course, refusal).await);
        }
        Self::give_turn_away(course).await;
        if course.patience.is_none() {
            let down = self.who_is_down().await;
            tracing::info!(server = self.member.server, %refusal, down = lines(&down), "waiting for other members");
            let coming = self.session().coming();
            if !down.is_empty() && down.iter().all(|one| one.stays_down(&coming)) {
                course.patience = Some((now + SHORT_PATIENCE, waited));
            }
        }
        let until = course.patience.as_ref().map_or(until, |(until, _)| *until);
        tracing::debug!(%refusal, "not yet");
        // What is waited for may be at the other end of a connection that is none any more.
        waited.mend(self.end_silence()).await;
        course.patience = Some((until, waited));
        let paused = self.road.pause(Duration::from_secs(1)).await;
        paused.map_err(|_| self.stopped(course))
    }
}
