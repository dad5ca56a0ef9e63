//! The road from a block to the servers: the provider's SSH configuration and the connections of this process.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::alike::Alike;
use super::connection::{ConfigError, Pins, SshConfig};
use super::objects::Newest;
use super::server::model::ServerModel;
use super::unreached::Unreached;
use crate::host::{ConnectError, ConnectOptions, Host, HostKey, Hosts, Target};
use crate::membership::k3s::shared::Shared;
use crate::membership::refounding::Clusters;
use crate::plugin::block::Deferral;
use crate::reconcile::limits::{Limits, Stopped};
use crate::reconcile::session::{Session, Sessions};

/// What the provider was configured with, shared by its blocks. Empty until then.
#[derive(Default)]
pub struct Road {
    configured: RwLock<Option<Arc<Configured>>>,
    sessions: Sessions,
}

/// What is said once in a run, by the first block to see it.
#[derive(PartialEq, Eq, Hash)]
enum Saying {
    Configuration,
    Unreached(Target),
    Refusing(Target),
}

struct Configured {
    ssh: SshConfig,
    authorities: BTreeMap<String, AuthorityKeys>,
    hosts: Hosts,
    stop: CancellationToken,
    /// Hosts that were reached in this process, by their target without a pinned key: a server that `etcd_server`
    /// has just reached without a pin and one that `etcd_cluster` asks for with it share a connection.
    reached: Mutex<HashMap<Target, Host>>,
    unreached: Unreached,
    /// Servers that answered and refused us, or that we must refuse, by their targets without pinned keys.
    refusing: Mutex<HashMap<Target, ConnectError>>,
    alike: Alike,
    /// The clusters of the plan that is being made, by their kind.
    clusters: Mutex<HashMap<&'static str, Clusters>>,
    newest: Arc<Newest>,
    /// What this run has said already.
    said: Mutex<HashSet<Saying>>,
    allow_unreachable: bool,
}

/// The private keys of certificate authorities that were given to the provider.
#[derive(Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct AuthorityKeys {
    /// Of the authority for peers, in PEM.
    pub peer_private_key: Option<String>,
    /// Of the authority for clients, in PEM.
    pub client_private_key: Option<String>,
}

impl fmt::Debug for AuthorityKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorityKeys(…)")
    }
}

/// Why a server can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum RoadError {
    /// The provider has no configuration, or one that is not known yet.
    #[error("the provider's configuration is not known yet, so servers can't be reached")]
    NotConfigured,
    /// The SSH configuration is of no use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Terraform asked to stop.
    #[error("{Stopped}")]
    Stopped,
}

impl Road {
    /// Takes the provider's configuration.
    pub fn configure(
        &self,
        ssh: SshConfig,
        authorities: BTreeMap<String, AuthorityKeys>,
        allow_unreachable: bool,
        stop: CancellationToken,
    ) {
        let configured = Configured {
            ssh,
            authorities,
            hosts: Hosts::new(stop.clone()),
            stop,
            reached: Mutex::default(),
            unreached: Unreached::default(),
            refusing: Mutex::default(),
            alike: Alike::default(),
            clusters: Mutex::default(),
            newest: Arc::default(),
            said: Mutex::default(),
            allow_unreachable,
        };
        self.sessions.clear();
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(configured));
    }

    /// Another run begins in this process: what the last one has said of members, and what its plans did, is no longer true. What was measured
    /// and created is.
    pub fn new_run(&self) {
        self.sessions.new_run();
        if let Ok(configured) = self.configured() {
            configured.alike.forget();
            let mut clusters = configured.clusters.lock().unwrap_or_else(PoisonError::into_inner);
            clusters.values_mut().for_each(Clusters::forget);
            let mut refusing = configured.refusing.lock().unwrap_or_else(PoisonError::into_inner);
            refusing.clear();
        }
    }

    /// The clusters of this kind in the plan that is being made.
    pub fn clusters<T>(&self, kind: &'static str, use_them: impl FnOnce(&mut Clusters) -> T) -> Option<T> {
        let configured = self.configured().ok()?;
        let mut clusters = configured.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        Some(use_them(clusters.entry(kind).or_default()))
    }

    /// Which objects of Terraform's this process has created or planned.
    pub fn newest(&self) -> Option<Arc<Newest>> {
        Some(Arc::clone(&self.configured().ok()?.newest))
    }

    /// That what needs a server has to wait, as long as the provider's configuration is not known.
    pub fn defers(&self) -> Option<Deferral> {
        self.configured().is_err().then_some(Deferral::ProviderUnknown)
    }

    fn configured(&self) -> Result<Arc<Configured>, RoadError> {
        self.configured
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(RoadError::NotConfigured)
    }

    /// The server, connected. With `patient` it is waited for as for a machine that is only just being created.
    ///
    /// # Errors
    /// If it can't be reached within that time.
    pub async fn connect(&self, server: &ServerModel, within: Duration, patient: bool) -> Result<Host, RoadError> {
        let configured = self.configured()?;
        let own = server.ssh.clone().unwrap_or_default();
        let pins = Pins {
            server: server.host_key.as_deref(),
            bastion: server.bastion_host_key.as_deref(),
        };
        let target = configured.ssh.target(&own, server.ssh_address(), pins)?;
        let shared = target.clone().without_pins();
        let reached = || configured.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reached().get(&shared).cloned();
        if let Some(host) = known.filter(|host| shows_what_is_pinned(host, &target)) {
            return Ok(host);
        }
        let timeout = if patient {
            within
        } else {
            within.min(configured.ssh.connect_timeout())
        };
        if let Some(error) = configured.unreached.recently(&shared).filter(|_| !patient) {
            return Err(error.into());
        }
        let options = ConnectOptions {
            timeout,
            retry: patient,
        };
        let connected = configured.hosts.connect(&target, options).await;
        let refusing = || configured.refusing.lock().unwrap_or_else(PoisonError::into_inner);
        let host = connected.inspect_err(|error| {
            configured.unreached.note(&shared, error);
            if error.is_refusal() {
                refusing().insert(shared.clone(), error.clone());
            }
        })?;
        refusing().remove(&shared);
        reached().insert(shared, host.clone());
        Ok(host)
    }

    /// Why this server, asked in this run, answered and refused us, or is one that we must refuse.
    pub fn refused_by(&self, server: &ServerModel) -> Option<ConnectError> {
        let configured = self.configured().ok()?;
        let own = server.ssh.clone().unwrap_or_default();
        let target = configured
            .ssh
            .target(&own, server.ssh_address(), Pins::default())
            .ok()?;
        let refusing = configured.refusing.lock().unwrap_or_else(PoisonError::into_inner);
        refusing.get(&target.without_pins()).cloned()
    }

    /// Whether it was not said yet in this run that this server refuses the login. The caller says it.
    pub fn says_refusal_first(&self, server: &ServerModel) -> bool {
        let Ok(configured) = self.configured() else { return true };
        let own = server.ssh.clone().unwrap_or_default();
        let target = configured.ssh.target(&own, server.ssh_address(), Pins::default());
        let mut said = configured.said.lock().unwrap_or_else(PoisonError::into_inner);
        target.map_or(true, |target| said.insert(Saying::Refusing(target.without_pins())))
    }

    /// Whether it was not said yet in this run that this server can't be reached, or why no server can. The caller says it.
    pub fn says_first(&self, server: &ServerModel) -> bool {
        let Ok(configured) = self.configured() else { return true };
        let own = server.ssh.clone().unwrap_or_default();
        let saying = match configured.ssh.target(&own, server.ssh_address(), Pins::default()) {
            Ok(target) => Saying::Unreached(target.without_pins()),
            Err(_) => Saying::Configuration,
        };
        let mut said = configured.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(saying)
    }

    /// Whether a refresh may go on where no server of a cluster is reached.
    pub fn tolerates_silence(&self) -> bool {
        self.configured().is_ok_and(|configured| configured.allow_unreachable)
    }

    /// Whether nobody answered there a moment ago.
    pub fn is_unreached(&self, server: &ServerModel) -> bool {
        let own = server.ssh.clone().unwrap_or_default();
        let target = self.configured().ok().and_then(|configured| {
            let target = configured
                .ssh
                .target(&own, server.ssh_address(), Pins::default())
                .ok()?;
            configured.unreached.recently(&target.without_pins())
        });
        target.is_some()
    }

    /// What this process knows of the cluster with this token.
    pub fn session(&self, token: &str) -> Arc<Session> {
        self.sessions.of(token)
    }

    /// The limits of a call that must be done by then.
    ///
    /// # Errors
    /// If the provider is not configured.
    pub fn limits(&self, deadline: Instant) -> Result<Limits, RoadError> {
        let stop = self.configured()?.stop.clone();
        Ok(Limits { deadline, stop })
    }

    /// Waits, unless Terraform asks to stop.
    ///
    /// # Errors
    /// [`RoadError::Stopped`].
    pub async fn pause(&self, time: Duration) -> Result<(), RoadError> {
        let configured = self.configured()?;
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = configured.stop.cancelled() => Err(RoadError::Stopped),
        }
    }

    /// Whether Terraform asked to stop.
    pub fn stopped(&self) -> bool {
        self.configured().is_ok_and(|configured| configured.stop.is_cancelled())
    }

    /// The private keys that the provider was given for a cluster.
    pub fn authority_keys(&self, cluster: &str) -> AuthorityKeys {
        self.configured()
            .ok()
            .and_then(|configured| configured.authorities.get(cluster).cloned())
            .unwrap_or_default()
    }

    /// Notes what a plan gives to a server that all of its cluster must have alike, and says what plans of this process give to the others.
    pub fn alike(&self, cluster: &str, server: &str, own: &Shared) -> BTreeMap<String, Shared> {
        self.configured()
            .map(|configured| configured.alike.note(cluster, server, own))
            .unwrap_or_default()
    }
}

/// Whether a connection that another call made is one to the machine, and through the bastion, whose keys are pinned now.
fn shows_what_is_pinned(host: &Host, target: &Target) -> bool {
    let fits = |target: &Target, key: Option<&HostKey>| {
        let pinned = target.host_keys.pinned().map(HostKey::from_line);
        pinned.is_none_or(|pinned| pinned.as_ref() == key)
    };
    fits(target, Some(host.host_key()))
        && target
            .bastion
            .as_deref()
            .is_none_or(|bastion| fits(bastion, host.bastion_key()))
}
