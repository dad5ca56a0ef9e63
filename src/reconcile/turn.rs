//! A member's turn: changes of one cluster go one after the other, in this process and in all others.

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::session::Session;

/// The cluster's lock, which keeps other processes away.
#[async_trait]
pub trait Lock: Send {
    /// Whether another process may have it by now.
    fn is_lost(&self) -> bool;
    /// Gives it back.
    async fn release(self);
}

/// The turn did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its turn did not come before its time was up: changes of a cluster's members go one after the other")]
pub struct Late;

/// The turn. Give it back with [`Turn::end`]. If it is dropped, the cluster's lock expires a little later.
pub struct Turn<L> {
    _place: OwnedMutexGuard<()>,
    lock: Option<L>,
}

impl<L: Lock> Turn<L> {
    /// Waits for the turn among the calls of this process.
    ///
    /// # Errors
    /// [`Late`], if it does not come before the deadline.
    pub async fn take(session: &Session, deadline: Instant) -> Result<Self, Late> {
        let place = timeout_at(deadline, session.line()).await.map_err(|_| Late)?;
        Ok(Self {
            _place: place,
            lock: None,
        })
    }

    /// Whether the turn has the cluster's lock.
    pub fn is_locked(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| !lock.is_lost())
    }

    /// Takes the cluster's lock too, if the turn does not have it. Returns whether it was taken now. Then another process may just have
    /// changed the cluster, and everything that was seen of it and of the member's server is old.
    ///
    /// # Errors
    /// The one of `take`.
    pub async fn lock<E>(&mut self, take: impl Future<Output = Result<L, E>>) -> Result<bool, E> {
        if self.is_locked() {
            return Ok(false);
        }
        self.lock = Some(take.await?);
        Ok(true)
    }

    /// Gives the cluster's lock back, and keeps the place among the calls of this process.
    pub async fn unlock(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.release().await;
        }
    }

    /// Gives the turn to the next one.
    pub async fn end(mut self) {
        self.unlock().await;
    }
}
