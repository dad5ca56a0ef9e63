//! etcd's configuration file, by minor version.
//!
//! With a configuration file etcd ignores its flags and environment, and silently ignores keys that it doesn't know.
//! So everything that a member needs is in the file, and what users add is checked here first ([`options`]).

pub mod check;
mod known;
pub mod options;
mod read_back;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

pub use known::{is_option, is_switch};
pub use options::{OptionError, Owned, check_option, owned_option};
pub use read_back::{extra_options, written_option};

use super::version::{Minor, Version};

/// What peers show each other, and whom they trust. Paths on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTls {
    /// The certificate that the member shows to peers who dial it.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The certificate without names that the member shows to peers that it dials. Not read before 3.5, where the
    /// member shows `cert_file` in both directions.
    pub client_cert_file: PathBuf,
    /// Its key.
    pub client_key_file: PathBuf,
    /// The certificate authority of the peers, and of nobody else.
    pub trusted_ca_file: PathBuf,
}

/// What the member shows to its clients, and whom it trusts. Paths on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// The certificate that the member shows to clients.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The certificate authority of the clients.
    pub trusted_ca_file: PathBuf,
}

/// Everything that goes into one member's configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    /// The member's name.
    pub name: String,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The URLs that it listens on for peers; hosts must be IP addresses.
    pub listen_peer_urls: Vec<String>,
    /// The URLs that it listens on for clients; hosts must be IP addresses or `localhost`.
    pub listen_client_urls: Vec<String>,
    /// The peer URLs that it tells the cluster: the stable name, the same text everywhere.
    pub initial_advertise_peer_urls: Vec<String>,
    /// The client URLs that it tells clients.
    pub advertise_client_urls: Vec<String>,
    /// The whole `initial-cluster` string.
    pub initial_cluster: String,
    /// Whether the member founds a cluster or belongs to one.
    pub initial_cluster_state: InitialClusterState,
    /// The cluster's token.
    pub initial_cluster_token: String,
    /// TLS between peers; none: plain text.
    pub peer_tls: Option<PeerTls>,
    /// TLS towards clients; none: plain text.
    pub client_tls: Option<ClientTls>,
    /// The list of certificates that are accepted no more, if there is one.
    pub revoked_file: Option<PathBuf>,
    /// Milliseconds between the leader's heartbeats.
    pub heartbeat_interval_ms: u32,
    /// Milliseconds without a heartbeat after which a follower stands for election.
    pub election_timeout_ms: u32,
    /// Further options by etcd's name, as the user wrote them.
    pub extra: BTreeMap<String, String>,
}

/// `initial-cluster-state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialClusterState {
    /// The member founds the cluster together with the others.
    New,
    /// The cluster exists.
    Existing,
}

impl InitialClusterState {
    fn text(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Existing => "existing",
        }
    }
}

/// A configuration that etcd wouldn't start with, or wouldn't obey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// etcd refuses to listen on names.
    #[error("{option} has {url:?}: etcd listens on IP addresses only")]
    ListenUrl {
        /// etcd's name of the option.
        option: &'static str,
        /// The URL.
        url: String,
    },
    /// etcd's own limits on the two.
    #[error(
        "election_timeout is {election_ms} ms and heartbeat_interval {heartbeat_ms} ms: etcd wants a heartbeat of at least \
         1 ms, and an election timeout of at least five heartbeats and at most 50000 ms"
    )]
    Timing {
        /// The heartbeat interval.
        heartbeat_ms: u32,
        /// The election timeout.
        election_ms: u32,
    },
    /// One of the user's options.
    #[error(transparent)]
    Option(#[from] OptionError),
}

/// Checks the two intervals against etcd's limits (`embed/config.go`, `Validate`).
///
/// # Errors
/// [`ConfigError::Timing`].
pub fn check_timing(heartbeat_ms: u32, election_ms: u32) -> Result<(), ConfigError> {
    let fits = heartbeat_ms >= 1 && u64::from(election_ms) >= 5 * u64::from(heartbeat_ms) && election_ms <= 50_000;
    if fits {
        return Ok(());
    }
    Err(ConfigError::Timing {
        heartbeat_ms,
        election_ms,
    })
}

/// The text of the configuration file for this version: the same input always gives the same bytes.
///
/// # Errors
/// All [`ConfigError`]s that there are.
pub fn render(config: &MemberConfig, version: &Version) -> Result<String, Vec<ConfigError>> {
    let mut errors = Vec::new();
    for (option, urls) in [
        ("listen-peer-urls", &config.listen_peer_urls),
        ("listen-client-urls", &config.listen_client_urls),
    ] {
        errors.extend(urls.iter().filter(|url| !is_bindable(url)).map(|url| {
            let url = url.clone();
            ConfigError::ListenUrl { option, url }
        }));
    }
    errors.extend(check_timing(config.heartbeat_interval_ms, config.election_timeout_ms).err());
    let mut extra = BTreeMap::new();
    for (key, value) in &config.extra {
        match check_option(key, value, version) {
            Ok(value) => {
                extra.insert(key.as_str(), value);
            }
            Err(error) => errors.push(error.into()),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }

    let minor = version.minor();
    let mut file = File(Vec::new());
    let mut put = |key: &str, value: Value| file.put(key, value);
    put("name", config.name.as_str().into());
    put("data-dir", path(&config.data_dir));
    put("listen-peer-urls", config.listen_peer_urls.join(",").into());
    put("listen-client-urls", config.listen_client_urls.join(",").into());
    put(
        "initial-advertise-peer-urls",
        config.initial_advertise_peer_urls.join(",").into(),
    );
    put("advertise-client-urls", config.advertise_client_urls.join(",").into());
    put("initial-cluster", config.initial_cluster.as_str().into());
    put("initial-cluster-state", config.initial_cluster_state.text().into());
    put("initial-cluster-token", config.initial_cluster_token.as_str().into());
    put("heartbeat-interval", config.heartbeat_interval_ms.into());
    put("election-timeout", config.election_timeout_ms.into());
    if let Some(tls) = &config.peer_tls {
        file.put_section("peer-transport-security", peer_security(tls, minor));
    }
    if let Some(tls) = &config.client_tls {
        file.put_section("client-transport-security", client_security(tls));
    }
    // There is no option for it in the file. But etcd reads into the structure that its flags are kept in too, and this is that structure's
    // name (seen with 3.4 to 3.7).
    if let Some(revoked) = &config.revoked_file {
        for side in ["ClientTLSInfo", "PeerTLSInfo"] {
            file.put_section(side, vec![("CRLFile", path(revoked))]);
        }
    }
    for (key, default) in defaults(minor) {
        let value = match extra.remove(key) {
            Some(given) if key == FEATURE_GATES => merge_gates(&given, &default),
            Some(given) => given,
            None => default,
        };
        file.put(key, value);
    }
    for (key, value) in extra {
        file.put(key, value);
    }
    Ok(format!(
        "# Managed by Terraform (terraform-provider-etcd) for etcd {minor}. Changes made here are overwritten.\n{}",
        file.text()
    ))
}

/// The file's lines, in the order in which they are put. Every text is in quotes: etcd reads YAML 1.1, where a plain `no` is false, `on` is true
/// and `2001-01-01` a date, so that a member of such a name would be called something else. YAML writers of 1.2 don't quote these.
struct File(Vec<String>);

/// The options of a section.
type Section = Vec<(&'static str, Value)>;

impl File {
    fn put(&mut self, key: &str, value: Value) {
        self.0.push(line(key, &value));
    }

    fn put_section(&mut self, key: &str, section: Section) {
        self.0.push(format!("{key}:\n"));
        let lines = section.iter().map(|(key, value)| format!("  {}", line(key, value)));
        self.0.extend(lines);
    }

    fn text(&self) -> String {
        self.0.concat()
    }
}

/// What JSON makes of texts, numbers and truths means the same in YAML 1.1.
fn line(key: &str, value: &Value) -> String {
    match value {
        Value::Array(entries) => {
            let entries: Vec<String> = entries.iter().map(Value::to_string).collect();
            format!("{key}: [{}]\n", entries.join(", "))
        }
        value => format!("{key}: {value}\n"),
    }
}

const FEATURE_GATES: &str = "feature-gates";

/// What we want otherwise than etcd's defaults; the user's options win.
fn defaults(minor: Minor) -> Vec<(&'static str, Value)> {
    match minor {
        // Off by default there: without pre-vote a member that comes back from a partition makes the leader step down.
        // The old logger writes no JSON.
        Minor::V3_4 => vec![
            ("pre-vote", true.into()),
            ("logger", "zap".into()),
            ("log-outputs", Value::Array(vec!["stderr".into()])),
        ],
        Minor::V3_5 => vec![
            ("experimental-initial-corrupt-check", true.into()),
            ("experimental-compact-hash-check-enabled", true.into()),
        ],
        Minor::V3_6 | Minor::V3_7 => vec![(FEATURE_GATES, "CompactHashCheck=true,InitialCorruptCheck=true".into())],
    }
}

/// What an option has in files of ours where the user gives none.
#[must_use]
pub fn default_option(key: &str, version: &Version) -> Option<Value> {
    let ours = defaults(version.minor());
    ours.into_iter().find(|(ours, _)| *ours == key).map(|(_, value)| value)
}

/// The user's gates and those of ours that the user didn't set, sorted.
fn merge_gates(given: &Value, ours: &Value) -> Value {
    let mut gates = BTreeMap::new();
    for text in [ours, given].into_iter().filter_map(Value::as_str) {
        for (gate, setting) in text.split(',').filter_map(|entry| entry.split_once('=')) {
            gates.insert(gate.trim(), setting.trim());
        }
    }
    let entries: Vec<String> = gates
        .iter()
        .map(|(gate, setting)| format!("{gate}={setting}"))
        .collect();
    entries.join(",").into()
}

fn peer_security(tls: &PeerTls, minor: Minor) -> Section {
    let mut security = vec![("cert-file", path(&tls.cert_file)), ("key-file", path(&tls.key_file))];
    if minor >= Minor::V3_5 {
        security.push(("client-cert-file", path(&tls.client_cert_file)));
        security.push(("client-key-file", path(&tls.client_key_file)));
    }
    security.push(("trusted-ca-file", path(&tls.trusted_ca_file)));
    security.push(("client-cert-auth", true.into()));
    security
}

fn client_security(tls: &ClientTls) -> Section {
    vec![
        ("cert-file", path(&tls.cert_file)),
        ("key-file", path(&tls.key_file)),
        ("trusted-ca-file", path(&tls.trusted_ca_file)),
        ("client-cert-auth", true.into()),
    ]
}

fn path(path: &std::path::Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

/// etcd's `checkBindURLs`, without the unix sockets that we never listen on.
fn is_bindable(url: &str) -> bool {
    let Some(authority) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return false;
    };
    authority.parse::<std::net::SocketAddr>().is_ok()
        || authority
            .strip_prefix("localhost:")
            .is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests;
