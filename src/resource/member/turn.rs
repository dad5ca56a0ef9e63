//! A member's turn: changes of one cluster go one after the other, in this process and in all others.

use std::sync::LazyLock;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::survey::Survey;
use crate::etcd::lock::{Lock, LockError};
use crate::resource::cluster::model::ClusterModel;
use crate::resource::road::{Road, RoadError};

/// Why it is not this member's turn.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// Other members of this run took all the time.
    #[error("its turn did not come before its time was up: changes of a cluster's members go one after the other")]
    Late,
    /// Another process has the cluster's lock, or it can't be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The provider is not configured.
    #[error(transparent)]
    Road(#[from] RoadError),
}

/// The turn. Give it back with [`Turn::end`]; dropped, the lock in the cluster ends by itself a little later.
pub struct Turn {
    _place: OwnedMutexGuard<()>,
    cluster: String,
    lock: Option<Lock>,
}

/// Who this process is, for whoever waits for it.
static HOLDER: LazyLock<String> = LazyLock::new(|| {
    let host = gethostname::gethostname();
    format!(
        "terraform-provider-etcd on {} (process {})",
        host.to_string_lossy(),
        std::process::id()
    )
});

impl Turn {
    /// Waits for the turn among the members of this process.
    ///
    /// # Errors
    /// [`TurnError::Late`], if it does not come before the deadline.
    pub async fn take(road: &Road, cluster: &ClusterModel, deadline: Instant) -> Result<Self, TurnError> {
        let place = timeout_at(deadline, road.line(cluster.token()))
            .await
            .map_err(|_| TurnError::Late)??;
        Ok(Self {
            _place: place,
            cluster: cluster.name.clone(),
            lock: None,
        })
    }

    /// Takes the lock in the cluster, which keeps other processes away; what has it goes on with it. Returns whether it was
    /// taken now: what was known before of the cluster and of the member's server is old then, as another process may just have
    /// been at work.
    ///
    /// # Errors
    /// [`TurnError::Lock`], if another process has it until the deadline.
    pub async fn lock(&mut self, survey: &Survey, deadline: Instant) -> Result<bool, TurnError> {
        if self.lock.as_ref().is_some_and(|lock| !lock.is_lost()) {
            return Ok(false);
        }
        let key = format!("terraform-provider-etcd/{}/lock", self.cluster);
        self.lock = Some(Lock::take(&survey.voters, &survey.servers, &key, &HOLDER, deadline).await?);
        Ok(true)
    }

    /// Gives the turn to the next one.
    pub async fn end(self) {
        if let Some(lock) = self.lock {
            lock.release().await;
        }
    }
}
