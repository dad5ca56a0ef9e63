//! The road from a block to the servers: the provider's SSH configuration and the connections of this process.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::alike::Alike;
use super::connection::{ConfigError, Pins, SshConfig};
use super::departures::Departures;
use super::objects::Newest;
use super::restarts::{Restarting, Restarts};
use super::server::model::ServerModel;
use super::unreached::Unreached;
use crate::host::{ConnectError, ConnectOptions, Host, HostKey, Hosts, Target};
use crate::membership::k3s::shared::Shared;
use crate::membership::refounding::Clusters;
use crate::plugin::block::Deferral;

/// What the provider was configured with, shared by its blocks. Empty until then.
#[derive(Default)]
pub struct Road {
    configured: RwLock<Option<Arc<Configured>>>,
}

/// What is said once in a run, by the first block to see it.
#[derive(PartialEq, Eq, Hash)]
enum Saying {
    Configuration,
    Unreached(Target),
    /// Of the cluster with this token.
    Cluster(String, String),
}

struct Configured {
    ssh: SshConfig,
    authorities: BTreeMap<String, AuthorityKeys>,
    hosts: Hosts,
    stop: CancellationToken,
    /// Hosts that were reached in this process, by their target without a pinned key: a server that `etcd_server`
    /// has just reached without a pin and one that `etcd_cluster` asks for with it share a connection.
    reached: Mutex<HashMap<Target, Host>>,
    /// One line for each cluster: changes that touch its membership go one after the other.
    lines: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    unreached: Unreached,
    /// Servers that answered and refused us, or that we must refuse, by their targets without pinned keys.
    refusing: Mutex<HashMap<Target, ConnectError>>,
    departures: Departures,
    restarts: Arc<Restarts>,
    alike: Alike,
    /// The clusters of the plan that is being made, by their kind.
    clusters: Mutex<HashMap<&'static str, Clusters>>,
    newest: Arc<Newest>,
    /// The longest round trip between servers of a cluster, where this process saw it measured.
    round_trips: Mutex<HashMap<String, Duration>>,
    /// Whether clusters were seen to be founded, by what sets them apart. One that is founded stays so.
    founded: Mutex<HashMap<String, bool>>,
    /// What this run has said already.
    said: Mutex<HashSet<Saying>>,
    /// The first member of each cluster that was not changed for want of others.
    refused: Mutex<HashMap<String, String>>,
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
    #[error("stopped on request")]
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
            lines: Mutex::default(),
            unreached: Unreached::default(),
            refusing: Mutex::default(),
            departures: Departures::default(),
            restarts: Arc::default(),
            alike: Alike::default(),
            clusters: Mutex::default(),
            newest: Arc::default(),
            round_trips: Mutex::default(),
            founded: Mutex::default(),
            said: Mutex::default(),
            refused: Mutex::default(),
            allow_unreachable,
        };
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(configured));
    }

    /// Another run begins in this process: what the last one has said of members, and what its plans did, is no longer true. What was measured
    /// and created is.
    pub fn new_run(&self) {
        if let Ok(configured) = self.configured() {
            configured.departures.forget();
            configured.restarts.forget_failures();
            configured.alike.forget();
            let mut clusters = configured.clusters.lock().unwrap_or_else(PoisonError::into_inner);
            clusters.values_mut().for_each(Clusters::forget);
            let mut founded = configured.founded.lock().unwrap_or_else(PoisonError::into_inner);
            founded.retain(|_, founded| *founded);
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

    /// Notes whether the cluster with this token was seen to be founded.
    pub fn saw_founded(&self, token: &str, founded: bool) {
        if let Ok(configured) = self.configured() {
            let mut all = configured.founded.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(token.to_owned(), founded);
        }
    }

    /// Whether the cluster with this token was founded, as far as this run has seen its servers.
    pub fn is_founded(&self, token: &str) -> Option<bool> {
        let configured = self.configured().ok()?;
        let founded = configured.founded.lock().unwrap_or_else(PoisonError::into_inner);
        founded.get(token).copied()
    }

    /// Whether this was not said yet in this run of the cluster with this token. The caller says it.
    pub fn says_first_of(&self, token: &str, what: &str) -> bool {
        let Ok(configured) = self.configured() else { return true };
        let mut said = configured.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(Saying::Cluster(token.to_owned(), what.to_owned()))
    }

    /// Notes that a member was not changed for want of others, and says which one of its cluster was the first.
    pub fn refused_before(&self, token: &str, member: &str) -> Option<String> {
        let configured = self.configured().ok()?;
        let mut refused = configured.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let first = refused.entry(token.to_owned()).or_insert_with(|| member.to_owned());
        (first != member).then(|| first.clone())
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

    /// The place in the line of a cluster: who holds it may change the membership.
    ///
    /// # Errors
    /// If the provider is not configured.
    pub async fn line(&self, token: &str) -> Result<tokio::sync::OwnedMutexGuard<()>, RoadError> {
        let line = {
            let configured = self.configured()?;
            let mut lines = configured.lines.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lines.entry(token.to_owned()).or_default())
        };
        Ok(line.lock_owned().await)
    }

    /// Notes the longest round trip between servers of a cluster.
    pub fn measured(&self, token: &str, round_trip: Duration) {
        if let Ok(configured) = self.configured() {
            let mut all = configured.round_trips.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(token.to_owned(), round_trip);
        }
    }

    /// The longest round trip between servers of a cluster, where this process saw it measured.
    pub fn round_trip(&self, token: &str) -> Option<Duration> {
        let configured = self.configured().ok()?;
        let all = configured.round_trips.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(token).copied()
    }

    /// Notes that a member waits to be restarted.
    ///
    /// # Errors
    /// If the provider is not configured.
    pub fn restarting(&self, token: &str, member: &str) -> Result<Restarting, RoadError> {
        Ok(Restarting::new(&self.configured()?.restarts, token, member))
    }

    /// Whether any member of a cluster waits to be restarted.
    pub fn restarts_wait(&self, token: &str) -> bool {
        self.configured()
            .is_ok_and(|configured| configured.restarts.wait(token))
    }

    /// Whether members of a cluster wait to be restarted, and this one is none of them.
    pub fn only_others_restart(&self, token: &str, member: &str) -> bool {
        self.configured()
            .is_ok_and(|configured| configured.restarts.only_others_wait(token, member))
    }

    /// Notes what a plan gives to a server that all of its cluster must have alike, and says what plans of this process give to the others.
    pub fn alike(&self, cluster: &str, server: &str, own: &Shared) -> BTreeMap<String, Shared> {
        self.configured()
            .map(|configured| configured.alike.note(cluster, server, own))
            .unwrap_or_default()
    }

    /// Notes that a member is to leave its cluster for good.
    ///
    /// # Errors
    /// If the provider is not configured.
    pub fn leaves(&self, token: &str, member: &str) -> Result<(), RoadError> {
        self.configured()?.departures.announce(token, member);
        Ok(())
    }

    /// Notes that a member is to be in its cluster.
    ///
    /// # Errors
    /// If the provider is not configured.
    pub fn stays(&self, token: &str, member: &str) -> Result<(), RoadError> {
        self.configured()?.departures.withdraw(token, member);
        Ok(())
    }

    /// The members that are to leave a cluster for good, as far as this process was asked.
    pub fn leaving(&self, token: &str) -> BTreeSet<String> {
        self.configured()
            .map(|configured| configured.departures.of(token))
            .unwrap_or_default()
    }

    /// Notes that a plan of this process has a cluster stay.
    pub fn keeps_cluster(&self, token: &str) {
        if let Ok(configured) = self.configured() {
            configured.departures.keep(token);
        }
    }

    /// Notes that a plan of this process recovers a cluster without these servers.
    pub fn loses(&self, token: &str, servers: &BTreeSet<String>) {
        if let Ok(configured) = self.configured() {
            configured.departures.lose(token, servers);
        }
    }

    /// Whether a plan of this process recovers a cluster without this server.
    pub fn is_lost(&self, token: &str, server: &str) -> bool {
        self.configured()
            .is_ok_and(|configured| configured.departures.is_lost(token, server))
    }

    /// Whether a plan of this process has a cluster stay. That of a destroy has none, and neither has that of another alias.
    pub fn cluster_stays(&self, token: &str) -> bool {
        self.configured()
            .is_ok_and(|configured| configured.departures.stays(token))
    }

    /// The members that are to be in a cluster, as far as this process was asked.
    pub fn coming(&self, token: &str) -> BTreeSet<String> {
        self.configured()
            .map(|configured| configured.departures.coming(token))
            .unwrap_or_default()
    }

    /// Waits until all of `members` are to leave the cluster for good.
    ///
    /// # Errors
    /// If the provider is not configured.
    pub async fn all_leave(&self, token: &str, members: &BTreeSet<String>) -> Result<(), RoadError> {
        let configured = self.configured()?;
        configured.departures.all(token, members).await;
        Ok(())
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
