//! The lock of a cluster: a key with a lease, kept alive through whichever member is up, gone by itself when its holder
//! dies. It keeps two processes from changing one cluster at the same time, wherever they run.

mod on_servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::api::{Api, ApiError, Created};
use on_servers::Holder;
pub use on_servers::Servers;

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
    /// An alarm is raised, and too few servers gave theirs.
    #[error(
        "an alarm keeps etcd from writing (NOSPACE or CORRUPT), so it takes no lock, and too few of the servers of its voters could be \
         asked for one"
    )]
    TooFew,
    /// There is nobody to ask.
    #[error("the cluster's lock could not be taken: no member answers")]
    Nobody,
}

/// The lock, held until it is released. Dropped without that it ends by itself after [`OUTLIVES`].
#[derive(Debug)]
pub struct Lock {
    held: Held,
    lost: Arc<AtomicBool>,
    keeping: JoinHandle<()>,
}

/// How it is held.
#[derive(Debug)]
enum Held {
    /// By the lease of a key.
    Key { apis: Vec<Api>, lease: i64 },
    /// On the servers.
    Servers { servers: Servers, holder: Holder },
}

impl Lock {
    /// Takes the lock, or waits for it until the deadline. What was known of the cluster before is old then: another holder may
    /// just have given it back.
    ///
    /// While an alarm is raised etcd takes no key, and what heals it must go on: then the lock is one of the servers.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn take(
        apis: &[Api],
        servers: &Servers,
        key: &str,
        holder: &str,
        deadline: Instant,
    ) -> Result<Self, LockError> {
        loop {
            let by_key = match Self::lease(apis).await {
                Ok(lock) => lock.by_key(apis, key, holder, deadline).await,
                Err(error) => Err(error),
            };
            match by_key {
                Err(LockError::Api(error)) if error.is_of_an_alarm() => {}
                taken => return taken,
            }
            match Self::on_servers(apis, servers, key, holder).await {
                Err(last) if Instant::now() < deadline => tracing::info!(%last, "waiting for the cluster's lock"),
                taken => return taken,
            }
            sleep(RETRY).await;
        }
    }

    async fn by_key(self, apis: &[Api], key: &str, holder: &str, deadline: Instant) -> Result<Self, LockError> {
        loop {
            let last = match self.create(apis, key, holder).await {
                Ok(()) => return Ok(self),
                Err(error) => error,
            };
            let full = matches!(&last, LockError::Api(error) if error.is_of_an_alarm());
            if full || Instant::now() >= deadline || self.is_lost() {
                self.release().await;
                return Err(last);
            }
            tracing::debug!(%last, "waiting for the cluster's lock");
            sleep(RETRY).await;
        }
    }

    async fn lease(apis: &[Api]) -> Result<Self, LockError> {
        let lease = through(apis, |api| async move { api.lease_grant(OUTLIVES, QUESTION).await }).await?;
        let lost = Arc::new(AtomicBool::new(false));
        Ok(Self {
            keeping: tokio::spawn(keep(apis.to_vec(), lease, Arc::clone(&lost))),
            held: Held::Key {
                apis: apis.to_vec(),
                lease,
            },
            lost,
        })
    }

    async fn create(&self, apis: &[Api], key: &str, holder: &str) -> Result<(), LockError> {
        let Held::Key { lease, .. } = self.held else {
            return Ok(());
        };
        let created = through(
            apis,
            |api| async move { api.create(key, holder, lease, QUESTION).await },
        );
        match created.await? {
            Created::Now => Ok(()),
            // An answer got lost, and the key had been created.
            Created::Exists { lease: own, .. } if own == lease => Ok(()),
            Created::Exists { value, .. } => Err(LockError::Held { holder: value }),
        }
    }

    async fn on_servers(apis: &[Api], servers: &Servers, key: &str, who: &str) -> Result<Self, LockError> {
        // One that was taken before the alarm holds.
        if let Some(value) = through(apis, |api| async move { api.get(key, QUESTION).await }).await? {
            let holder = String::from_utf8_lossy(&value).into_owned();
            return Err(LockError::Held { holder });
        }
        let holder = Holder::new(who).map_err(|_| LockError::TooFew)?;
        if let Err(held_by) = servers.hold(&holder).await {
            servers.give_back(&holder).await;
            return Err(held_by.map_or(LockError::TooFew, |holder| LockError::Held { holder }));
        }
        tracing::debug!("an alarm is raised: the cluster's lock is held on its servers");
        let lost = Arc::new(AtomicBool::new(false));
        let watched = Watched {
            apis: apis.to_vec(),
            key: key.to_owned(),
            servers: servers.clone(),
            holder: holder.clone(),
        };
        Ok(Self {
            keeping: tokio::spawn(watched.keep(Arc::clone(&lost))),
            held: Held::Servers {
                servers: servers.clone(),
                holder,
            },
            lost,
        })
    }

    /// Whether an alarm had it taken on the servers.
    pub fn is_under_alarm(&self) -> bool {
        matches!(self.held, Held::Servers { .. })
    }

    /// Whether it has ended, or could not be kept alive for so long that it may have.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Gives it back at once.
    pub async fn release(self) {
        self.keeping.abort();
        match &self.held {
            Held::Key { apis, lease } => {
                let revoke = through(apis, |api| async move { api.lease_revoke(*lease, QUESTION).await });
                if let Err(error) = revoke.await {
                    tracing::debug!(%error, "the cluster's lock was not given back; it ends by itself");
                }
            }
            Held::Servers { servers, holder } => servers.give_back(holder).await,
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

/// A lock on the servers, and the key that takes its place.
struct Watched {
    apis: Vec<Api>,
    key: String,
    servers: Servers,
    holder: Holder,
}

impl Watched {
    /// Keeps it. Once etcd writes again, somebody may have the key: then this is a lock no longer.
    async fn keep(self, lost: Arc<AtomicBool>) {
        let key = self.key.as_str();
        let mut alive = Instant::now();
        loop {
            sleep(KEEP_ALIVE).await;
            let asked = Instant::now();
            if self.servers.hold(&self.holder).await.is_ok() {
                alive = asked;
            } else if alive.elapsed() + KEEP_ALIVE * 2 > OUTLIVES {
                break;
            }
            let there = through(&self.apis, |api| async move { api.get(key, QUESTION).await });
            if there.await.is_ok_and(|found| found.is_some()) {
                break;
            }
        }
        lost.store(true, Ordering::Relaxed);
    }
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
