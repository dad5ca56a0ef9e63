//! The lock of a cluster: a key with a lease, kept alive through whichever member is up, gone by itself when its holder
//! dies. It keeps two processes from changing one cluster at the same time, wherever they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::api::{Api, ApiError, Created};

/// How long the lock outlives its holder. A new leader gives every lease its whole time again
/// (etcd's `server/lease/lessor.go`, `Promote`), so an election can't end it.
pub const OUTLIVES: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const QUESTION: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "{holder} is changing this cluster; it had not finished in time. If that run is dead, its lock ends by itself {} \
         after it did: apply again then",
        humantime::format_duration(OUTLIVES)
    )]
    Held {
        /// Who says to have it.
        holder: String,
    },
    /// No member took it.
    #[error("the cluster's lock could not be taken: {0}")]
    Api(#[from] ApiError),
    /// There is nobody to ask.
    #[error("the cluster's lock could not be taken: no member answers")]
    Nobody,
}

/// The lock, held until it is released. Dropped without that it ends by itself after [`OUTLIVES`].
#[derive(Debug)]
pub struct Lock {
    apis: Vec<Api>,
    lease: i64,
    lost: Arc<AtomicBool>,
    keeping: JoinHandle<()>,
}

impl Lock {
    /// Takes the lock, or waits for it until the deadline. What was known of the cluster before is old then: another holder may
    /// just have given it back.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn take(apis: &[Api], key: &str, holder: &str, deadline: Instant) -> Result<Self, LockError> {
        let lease = through(apis, |api| async move { api.lease_grant(OUTLIVES, QUESTION).await }).await?;
        let lost = Arc::new(AtomicBool::new(false));
        let lock = Self {
            keeping: tokio::spawn(keep(apis.to_vec(), lease, Arc::clone(&lost))),
            apis: apis.to_vec(),
            lease,
            lost,
        };
        loop {
            let created = through(
                apis,
                |api| async move { api.create(key, holder, lease, QUESTION).await },
            )
            .await;
            let last = match created {
                Ok(Created::Now) => return Ok(lock),
                // An answer got lost, and the key had been created.
                Ok(Created::Exists { lease: own, .. }) if own == lease => return Ok(lock),
                Ok(Created::Exists { value, .. }) => LockError::Held { holder: value },
                Err(error) => error,
            };
            if Instant::now() >= deadline || lock.is_lost() {
                lock.release().await;
                return Err(last);
            }
            tracing::debug!(%last, "waiting for the cluster's lock");
            sleep(RETRY).await;
        }
    }

    /// Whether it has ended, or could not be kept alive for so long that it may have.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Gives it back at once.
    pub async fn release(self) {
        self.keeping.abort();
        let lease = self.lease;
        let released = through(&self.apis, |api| async move { api.lease_revoke(lease, QUESTION).await }).await;
        if let Err(error) = released {
            tracing::debug!(%error, "the cluster's lock was not given back; it ends by itself");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// Keeps the lease alive, through whichever member answers.
async fn keep(apis: Vec<Api>, lease: i64, lost: Arc<AtomicBool>) {
    let mut alive = Instant::now();
    loop {
        sleep(KEEP_ALIVE).await;
        let asked = Instant::now();
        match through(&apis, |api| async move { api.lease_keep_alive(lease, QUESTION).await }).await {
            Ok(true) => alive = asked,
            Ok(false) => break,
            Err(_) if alive.elapsed() + KEEP_ALIVE * 2 > OUTLIVES => break,
            Err(_) => {}
        }
    }
    lost.store(true, Ordering::Relaxed);
}

/// The first answer, asking one member after the other.
async fn through<'a, T, F>(apis: &'a [Api], ask: impl Fn(&'a Api) -> F) -> Result<T, LockError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut last = LockError::Nobody;
    for api in apis {
        match ask(api).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
