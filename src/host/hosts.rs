//! The pool of connections, and what a caller does with a host.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::authentication::{Shown, fits_pin};
use super::connecting::{DIAL, compare_methods, dial, log_in, pumped, with_patience};
use super::errors::{ConnectError, RunError, TunnelError};
use super::known_hosts::HostKey;
use super::link::{Fate, Link};
use super::output::Output;
use super::root_shell::{RootShell, ShellError};
use super::script::Script;
use super::target::{Sudo, Target};

/// A TCP connection that starts on the machine. It outlives the [`Host`] that opened it.
pub type Tunnel = tokio::net::UnixStream;

/// How patient to be with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// All of it, bastions included, must be done within this time.
    pub timeout: Duration,
    /// Whether to keep trying until then, as with a machine that is only being created: nothing listens yet, no key is written yet.
    /// Whatever a wrong host key says is never retried.
    pub retry: bool,
}

impl Default for ConnectOptions {
    /// One attempt, 30 s.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            retry: false,
        }
    }
}

/// All machines of one process: one connection for each target, whichever keys are pinned, made when it is first asked for, shared and
/// kept. Cheap to clone.
///
/// With the cancellation token, waiting ends at once: connecting, tunnels and uploads break off, and scripts that were not sent yet are
/// not sent. A script that was sent is seen through, so that its caller knows what it did.
#[derive(Clone)]
pub struct Hosts {
    slots: Arc<Mutex<HashMap<Target, Arc<Slot>>>>,
    cancelled: CancellationToken,
}

/// One machine of [`Hosts`]. Cheap to clone. A connection that ended is made anew at the next call (one attempt, 30 s).
#[derive(Clone)]
pub struct Host {
    target: Arc<Target>,
    slot: Arc<Slot>,
    hosts: Hosts,
    shown: Shown,
    bastion: Option<Shown>,
}

#[derive(Default)]
struct Slot {
    connection: tokio::sync::Mutex<Option<Connection>>,
    /// What the machine showed at first: within one run its key may not change.
    shown: OnceLock<Shown>,
}

#[derive(Clone)]
struct Connection {
    link: Arc<Link>,
    shell: RootShell,
}

impl Hosts {
    /// An empty pool. `cancelled` ends all waiting.
    pub fn new(cancelled: CancellationToken) -> Self {
        Self {
            slots: Arc::default(),
            cancelled,
        }
    }

    /// The machine, connected and authenticated. Becoming root is only tried with the first script.
    ///
    /// # Errors
    /// [`ConnectError`]; with `retry` mostly [`ConnectError::GaveUp`] with the last reason.
    pub async fn connect(&self, target: &Target, options: ConnectOptions) -> Result<Host, ConnectError> {
        self.enter(target, options, Role::Destination).await
    }

    async fn enter(&self, target: &Target, options: ConnectOptions, role: Role) -> Result<Host, ConnectError> {
        let slot = self.slot(target);
        let deadline = Instant::now() + options.timeout;
        let server = target.to_string();
        let work = async {
            with_patience(&server, deadline, options.retry, |until| {
                self.attempt(target, &slot, until, role)
            })
            .await
        };
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => return Err(ConnectError::Cancelled { server: target.to_string() }),
            connected = work => connected?,
        };
        let shown = slot.shown.get().cloned().ok_or_else(|| ConnectError::Broken {
            server: target.to_string(),
            step: "connecting",
            detail: "no host key".to_owned(),
        })?;
        let bastion = target.bastion.as_deref().map(|bastion| self.slot(bastion));
        let bastion = bastion.and_then(|slot| slot.shown.get().cloned());
        Ok(Host {
            target: Arc::new(target.clone()),
            slot,
            hosts: self.clone(),
            shown,
            bastion,
        })
    }

    /// One slot for each machine, whichever keys are pinned: within one run a machine has one key.
    fn slot(&self, target: &Target) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(target.clone().without_pins()).or_default())
    }

    /// Whether a machine that was entered before, and its bastion, showed the keys that are pinned now.
    fn fits_pins(&self, target: &Target) -> Result<(), ConnectError> {
        if let Some(shown) = self.slot(target).shown.get() {
            fits_pin(target, &shown.key)?;
        }
        let Some(bastion) = &target.bastion else {
            return Ok(());
        };
        self.fits_pins(bastion).map_err(|source| ConnectError::Bastion {
            server: target.to_string(),
            source: Box::new(source),
        })
    }

    /// The slot's connection if it lives, else a new one.
    async fn attempt(
        &self,
        target: &Target,
        slot: &Slot,
        until: Instant,
        role: Role,
    ) -> Result<Connection, ConnectError> {
        let waiting = Instant::now();
        let mut kept = tokio::time::timeout_at(until, slot.connection.lock())
            .await
            .map_err(|_| ConnectError::TimedOut {
                server: target.to_string(),
                step: "waiting for another call's connection",
                waited: waiting.elapsed(),
            })?;
        if let Some(connection) = kept
            .as_ref()
            .filter(|connection| connection.link.fate().reason().is_none())
        {
            self.fits_pins(target)?;
            return Ok(connection.clone());
        }
        *kept = None;
        let fate = Arc::new(Fate::default());
        let socket = self.socket(target, &fate, until).await?;
        // A bastion's first channel is a tunnel: one to run commands would only delay it.
        let spare_channel = role == Role::Destination;
        let seen_before = slot.shown.get().map(|shown| shown.key.clone());
        let (link, shown) = match log_in(target, socket, fate, until, seen_before, spare_channel).await {
            Ok(entered) => entered,
            Err(refusal) if refusal.disagrees => {
                let socket = self.socket(target, &Arc::default(), until).await?;
                return Err(compare_methods(target, socket, until).await.unwrap_or(refusal.error));
            }
            Err(refusal) => return Err(refusal.error),
        };
        let link = Arc::new(link);
        // The first key stays; later ones were compared with it.
        let _ = slot.shown.set(shown);
        let connection = Connection {
            shell: RootShell::new(Arc::clone(&link), target.sudo.clone(), self.cancelled.clone()),
            link,
        };
        tracing::info!(server = %target, millis = u64::try_from(waiting.elapsed().as_millis()).unwrap_or(u64::MAX), "connected");
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// A socket to `target`, from here or from its bastion.
    async fn socket(
        &self,
        target: &Target,
        fate: &Arc<Fate>,
        until: Instant,
    ) -> Result<std::os::unix::net::UnixStream, ConnectError> {
        match &target.bastion {
            None => dial(target, Arc::clone(fate), until).await,
            Some(bastion) => self.through(bastion, target, until, Arc::clone(fate)).await,
        }
    }

    /// A socket to `target`, from its bastion. Boxed because a bastion may have a bastion.
    fn through<'a>(
        &'a self,
        bastion: &'a Target,
        target: &'a Target,
        until: Instant,
        fate: Arc<Fate>,
    ) -> Pin<Box<dyn Future<Output = Result<std::os::unix::net::UnixStream, ConnectError>> + Send + 'a>> {
        Box::pin(async move {
            let server = || target.to_string();
            let options = ConnectOptions {
                timeout: until.saturating_duration_since(Instant::now()),
                retry: false,
            };
            let in_bastion = |source| ConnectError::Bastion {
                server: server(),
                source: Box::new(source),
            };
            let host = self.enter(bastion, options, Role::Bastion).await.map_err(in_bastion)?;
            let refused = |detail: String| ConnectError::BastionRefused {
                server: server(),
                bastion: bastion.to_string(),
                detail,
            };
            let tunnel = tokio::time::timeout_at(until.min(Instant::now() + DIAL), host.tcp(&target.host, target.port))
                .await
                .map_err(|_| refused("no answer in time".to_owned()))?;
            let tunnel = tunnel.map_err(|error| match error {
                TunnelError::Connect(source) => in_bastion(source),
                TunnelError::Refused { detail, .. } => refused(detail),
                TunnelError::Cancelled { .. } => ConnectError::Cancelled { server: server() },
            })?;
            pumped(tunnel, fate).map_err(|error| refused(error.to_string()))
        })
    }
}

/// What a connection is first used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Destination,
    Bastion,
}

impl Host {
    /// Where this machine is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The key that the machine showed.
    pub fn host_key(&self) -> &HostKey {
        &self.shown.key
    }

    /// The key that its bastion showed, if it has one.
    pub fn bastion_key(&self) -> Option<&HostKey> {
        self.bastion.as_ref().map(|shown| &shown.key)
    }

    /// The lines of known_hosts files about this machine and its bastion that can't be used, each with the reason. A machine whose key is
    /// known has none.
    pub fn unused_lines(&self) -> impl Iterator<Item = &str> {
        let shown = std::iter::once(&self.shown).chain(&self.bastion);
        shown.flat_map(|shown| shown.unused.iter().map(String::as_str))
    }

    /// Runs a script as root, after those that are queued already, whatever its exit code. It costs one round trip (the first of a connection: two).
    ///
    /// # Errors
    /// [`RunError`], but never [`RunError::Failed`].
    pub async fn run(&self, script: &Script) -> Result<Output, RunError> {
        if self.hosts.cancelled.is_cancelled() {
            return Err(self.explain(script.title(), ShellError::Cancelled));
        }
        let connection = self.connection().await?;
        // One line a step: what a user waits for, and where.
        tracing::info!(server = %self.target, "{}", script.title());
        #[cfg(feature = "acceptance")]
        super::recorded::keep(&self.target, script);
        let ran = connection
            .shell
            .run(script.title(), script.render(), script.allowed_time());
        let output = ran.await.map_err(|error| self.explain(script.title(), error))?;
        match output.fault() {
            None => Ok(output),
            Some(fault) => Err(RunError::Answer {
                server: self.target.to_string(),
                title: script.title().to_owned(),
                fault: fault.clone(),
            }),
        }
    }

    /// As [`Self::run`], and the exit code must be 0.
    ///
    /// # Errors
    /// [`RunError`]; [`RunError::Failed`] has the last lines that the script wrote.
    pub async fn run_checked(&self, script: &Script) -> Result<Output, RunError> {
        let output = self.run(script).await?;
        if output.exit_code == 0 {
            return Ok(output);
        }
        Err(RunError::Failed {
            server: self.target.to_string(),
            title: script.title().to_owned(),
            exit_code: output.exit_code,
            last_lines: output.last_lines(),
        })
    }

    /// Opens a TCP connection from the machine to `address` (a name or an IP address there, `127.0.0.1` for itself).
    ///
    /// # Errors
    /// [`TunnelError::Refused`] when nobody listens there, or the SSH server forbids it (`AllowTcpForwarding`).
    pub async fn tcp(&self, address: &str, port: u16) -> Result<Tunnel, TunnelError> {
        let server = || self.target.to_string();
        let named = || {
            if address.contains(':') {
                format!("[{address}]:{port}")
            } else {
                format!("{address}:{port}")
            }
        };
        let refused = |detail: String| TunnelError::Refused {
            server: server(),
            address: named(),
            detail,
        };
        let connection = self.connection().await?;
        let (tunnel, opened) = connection
            .link
            .tcp(address, port)
            .map_err(|error| refused(error.to_string()))?;
        let lost = || {
            refused(
                connection
                    .link
                    .fate()
                    .reason()
                    .unwrap_or("the connection has ended")
                    .to_owned(),
            )
        };
        tokio::select! {
            opened = opened => opened.map_err(|_| lost())?.map_err(refused)?,
            () = self.hosts.cancelled.cancelled() => return Err(TunnelError::Cancelled { server: server() }),
        }
        Ok(tunnel)
    }

    pub(super) async fn link_and_sudo(&self) -> Result<(Arc<Link>, Sudo), ConnectError> {
        Ok((self.connection().await?.link, self.target.sudo.clone()))
    }

    pub(super) async fn cancelled(&self) {
        self.hosts.cancelled.cancelled().await;
    }

    async fn connection(&self) -> Result<Connection, ConnectError> {
        let until = Instant::now() + ConnectOptions::default().timeout;
        tokio::select! {
            connection = self.hosts.attempt(&self.target, &self.slot, until, Role::Destination) => connection,
            () = self.hosts.cancelled.cancelled() => Err(ConnectError::Cancelled { server: self.target.to_string() }),
        }
    }

    /// Puts names to a shell's error.
    pub(super) fn explain(&self, title: &str, error: ShellError) -> RunError {
        let server = self.target.to_string();
        let title = title.to_owned();
        match error {
            ShellError::Root(source) => RunError::Root { server, source },
            ShellError::Lost { sent, detail } => RunError::ConnectionLost {
                server,
                title,
                sent,
                detail,
            },
            ShellError::TooMuch(excess) => RunError::TooMuch {
                server,
                title,
                excess: excess.to_string(),
            },
            ShellError::TimedOut { waited } => RunError::TimedOut { server, title, waited },
            ShellError::Cancelled => RunError::Cancelled { server, title },
        }
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hosts")
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Host({})", self.target)
    }
}
