//! The cluster's lock, which a member's turn has, and why it may not be had.

use std::sync::LazyLock;

use async_trait::async_trait;
use tokio::time::Instant;

use super::survey::{QUESTION, Survey};
use crate::etcd::api::Alarm;
use crate::etcd::lock::{Lock, LockError};
use crate::membership::upkeep::{NOBODY_KNOWS_WHOSE, differing};
use crate::reconcile::turn::{self, Late};
use crate::resource::road::RoadError;

/// Why it is not this member's turn.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// Other members of this run took all the time.
    #[error(transparent)]
    Late(#[from] Late),
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

/// The turn of a member of etcd.
pub type Turn = turn::Turn<Lock>;

/// Who this process is, for whoever waits for it.
static HOLDER: LazyLock<String> = LazyLock::new(|| {
    let host = gethostname::gethostname();
    format!(
        "terraform-provider-etcd on {} (process {})",
        host.to_string_lossy(),
        std::process::id()
    )
});

#[async_trait]
impl turn::Lock for Lock {
    fn is_lost(&self) -> bool {
        Lock::is_lost(self)
    }

    async fn release(self) {
        Lock::release(self).await;
    }
}

/// Takes the lock in the cluster, which keeps other processes away. If another process has it, this waits until the deadline.
///
/// # Errors
/// [`TurnError`], if the lock can't be taken, or members' data differ.
pub async fn take_lock(survey: &Survey, deadline: Instant) -> Result<Lock, TurnError> {
    let key = format!("terraform-provider-etcd/{}/lock", survey.servers.cluster);
    let lock = Lock::take(&survey.voters, &survey.servers, &key, &HOLDER, deadline).await?;
    if lock.is_under_alarm()
        && let Err(error) = may_disturb(survey).await
    {
        lock.release().await;
        return Err(error);
    }
    Ok(lock)
}

/// Which data are right nobody can say: those of the members that raised no alarm are not touched.
async fn may_disturb(survey: &Survey) -> Result<(), TurnError> {
    let alarms = survey.api.alarms(QUESTION).await.map_err(LockError::from)?;
    let corrupt = alarms.iter().filter(|(_, alarm)| *alarm == Alarm::Corrupt);
    let corrupt: Vec<u64> = corrupt.map(|(id, _)| *id).collect();
    let listed: Vec<u64> = survey.members.iter().map(|one| one.id).collect();
    let differing = differing(&corrupt, &listed, survey.list.own);
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
