//! A member's turn: changes of one cluster go one after the other, in this process and in all others.

use std::sync::LazyLock;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::survey::{QUESTION, Survey};
use crate::etcd::api::Alarm;
use crate::etcd::lock::{Lock, LockError};
use crate::membership::upkeep::{NOBODY_KNOWS_WHOSE, differing};
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
    /// The data of members differ, and one of them would be disturbed that may have the right ones.
    #[error(
        "the alarm CORRUPT is raised: the data of the members on {0} differ from the others'. Replace those first \
         (terraform apply -replace), then take the alarm back (the action etcd_disarm_alarms); until then no other member is disturbed"
    )]
    Corrupt(String),
    /// The same, and etcd can't tell whose are right.
    #[error(
        "the alarm CORRUPT is raised, for no member in particular: the data of the members differ, no majority of them agrees, and etcd can't \
         tell whose are right. Find that out (etcdctl endpoint hashkv), take the alarm back (the action etcd_disarm_alarms with corrupt = true), \
         and replace the others one by one (terraform apply -replace); until then no member is disturbed"
    )]
    Undecided,
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
        let lock = Lock::take(&survey.voters, &survey.servers, &key, &HOLDER, deadline).await?;
        if lock.is_under_alarm()
            && let Err(error) = may_disturb(survey).await
        {
            lock.release().await;
            return Err(error);
        }
        self.lock = Some(lock);
        Ok(true)
    }

    /// Gives the turn to the next one.
    pub async fn end(self) {
        if let Some(lock) = self.lock {
            lock.release().await;
        }
    }
}

/// Which data are right nobody can say: those of the members that raised no alarm are not touched.
async fn may_disturb(survey: &Survey) -> Result<(), TurnError> {
    let alarms = survey.api.alarms(QUESTION).await.map_err(LockError::from)?;
    let corrupt = alarms.iter().filter(|(_, alarm)| *alarm == Alarm::Corrupt);
    let corrupt: Vec<u64> = corrupt.map(|(id, _)| *id).collect();
    let listed: Vec<u64> = survey.members.iter().map(|one| one.id).collect();
    let differing = differing(&corrupt, &listed, survey.own);
    if differing.is_empty() {
        return Ok(());
    }
    if differing.contains(&NOBODY_KNOWS_WHOSE) {
        return Err(TurnError::Undecided);
    }
    let name = |id: &u64| survey.names.get(id).cloned().unwrap_or_else(|| format!("{id:x}"));
    Err(TurnError::Corrupt(
        differing.iter().map(name).collect::<Vec<_>>().join(", "),
    ))
}
