//! Until when a call of Terraform may go on.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Terraform asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request")]
pub struct Stopped;

/// The time of one call.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The call must be done by then.
    pub deadline: Instant,
    /// Cancelled if Terraform asks to stop.
    pub stop: CancellationToken,
}

impl Limits {
    /// Waits.
    ///
    /// # Errors
    /// [`Stopped`], as soon as Terraform asks for that.
    pub async fn pause(&self, time: Duration) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stopped),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    /// Whether Terraform asked to stop.
    pub fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The time that is left.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
