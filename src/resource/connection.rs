//! From what the user wrote about SSH to the road to a server.

mod schema;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::known_hosts::lookup_name;
use crate::host::{Credential, Host, HostKey, HostKeyPolicy, Identity, Secret, Sudo, Target};
use crate::plugin::value::Value;
use crate::resource::durations::{CONNECT, KEEP_ALIVE, Range};

pub use schema::{provider_attributes, server_attributes};

/// How `ssh` of the provider says to enter servers. Environment variables are already merged in.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct SshConfig {
    user: Option<String>,
    port: Option<u16>,
    private_key: Option<String>,
    private_key_file: Option<String>,
    private_key_passphrase: Option<String>,
    password: Option<String>,
    agent: Option<bool>,
    identities_only: Option<bool>,
    known_hosts_file: Option<String>,
    host_key_checking: Option<String>,
    host_key: Option<String>,
    host: Option<String>,
    keep_alive: Option<String>,
    connect_timeout: Option<String>,
    sudo: Option<SudoConfig>,
    bastion: Option<Box<SshConfig>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct SudoConfig {
    enabled: Option<bool>,
    password: Option<String>,
}

/// What a server says about its own connection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct SshOverrides {
    /// Name or address to connect to.
    pub host: Option<String>,
    /// Port of its sshd.
    pub port: Option<u16>,
    /// User to log in as.
    pub user: Option<String>,
    /// The only host key that is right.
    pub host_key: Option<String>,
    /// The machine to jump over.
    pub bastion: Option<BastionOverrides>,
}

/// The host keys that a server's state has pinned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pins<'a> {
    /// The server's own, as a line such as `ssh-ed25519 AAAA…`.
    pub server: Option<&'a str>,
    /// Its bastion's, as in [`ShownKeys`].
    pub bastion: Option<&'a str>,
}

/// The host keys that a server and its bastion showed, as the server's state pins them.
#[derive(Clone, Debug, Default)]
pub struct ShownKeys {
    /// The server's own, as a line such as `ssh-ed25519 AAAA…`.
    pub server: String,
    /// Its bastion's, as in a known_hosts file, with the name that it is right for: at another place another key may be.
    pub bastion: Option<String>,
}

impl ShownKeys {
    /// What a connected server and its bastion showed.
    pub fn of(host: &Host) -> Self {
        let bastion = host.target().bastion.as_deref().zip(host.bastion_key());
        Self {
            server: host.host_key().line(),
            bastion: bastion.map(|(at, key)| format!("{} {}", lookup_name(&at.host, at.port), key.line())),
        }
    }

    /// Writes them into a server's attributes.
    pub fn pin(&self, server: &mut Value) {
        server.set("host_key", self.server.as_str());
        server.set("bastion_host_key", self.bastion.clone());
    }
}

/// What a server says about its bastion. Credentials come from the provider.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct BastionOverrides {
    /// Name or address.
    pub host: Option<String>,
    /// Port of its sshd.
    pub port: Option<u16>,
    /// User to log in as.
    pub user: Option<String>,
    /// The only host key that is right.
    pub host_key: Option<String>,
}

/// Why the SSH configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The private key file can't be read.
    #[error("the private key file {path} can't be read: {source}")]
    KeyFile {
        /// The path, with the home folder put in.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// An attribute or environment variable has a value that it can't have.
    #[error("{name} is {value:?}, which is {problem}")]
    Value {
        /// Attribute or variable.
        name: &'static str,
        /// What it is.
        value: String,
        /// Why that is wrong.
        problem: &'static str,
    },
    /// An attribute has a duration that it can't have.
    #[error("ssh.{name}: {problem}")]
    Duration {
        /// The attribute of `ssh`.
        name: &'static str,
        /// Why that is wrong.
        problem: String,
    },
}

impl SshConfig {
    /// Fills in what the configuration leaves out from `ETCD_SSH_*`, as `variable` gives it.
    ///
    /// # Errors
    /// If a variable or attribute has a value that it can't have.
    pub fn with_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = |slot: &mut Option<String>, name: &str| {
            if slot.is_none() {
                *slot = variable(name).filter(|value| !value.is_empty());
            }
        };
        text(&mut self.user, "ETCD_SSH_USER");
        if self.private_key.is_none() && self.private_key_file.is_none() {
            text(&mut self.private_key, "ETCD_SSH_PRIVATE_KEY");
            text(&mut self.private_key_file, "ETCD_SSH_PRIVATE_KEY_FILE");
        }
        text(&mut self.private_key_passphrase, "ETCD_SSH_PRIVATE_KEY_PASSPHRASE");
        text(&mut self.password, "ETCD_SSH_PASSWORD");
        text(&mut self.known_hosts_file, "ETCD_SSH_KNOWN_HOSTS_FILE");
        text(&mut self.host_key_checking, "ETCD_SSH_HOST_KEY_CHECKING");
        if self.port.is_none() {
            self.port = parsed("ETCD_SSH_PORT", "no port number", &variable)?;
        }
        if self.agent.is_none() {
            self.agent = parsed("ETCD_SSH_AGENT", "neither true nor false", &variable)?;
        }
        if self.identities_only.is_none() {
            self.identities_only = parsed("ETCD_SSH_IDENTITIES_ONLY", "neither true nor false", &variable)?;
        }
        let mut sudo = self.sudo.take().unwrap_or_default();
        text(&mut sudo.password, "ETCD_SSH_SUDO_PASSWORD");
        self.sudo = Some(sudo);
        if let Some(mode) = self
            .host_key_checking
            .as_deref()
            .filter(|mode| !["strict", "accept_new"].contains(mode))
        {
            return Err(ConfigError::Value {
                name: "ssh.host_key_checking",
                value: mode.to_owned(),
                problem: "neither \"strict\" nor \"accept_new\"",
            });
        }
        for (name, value, range) in [
            ("keep_alive", &self.keep_alive, KEEP_ALIVE),
            ("connect_timeout", &self.connect_timeout, CONNECT),
        ] {
            if let Some(Err(problem)) = value.as_deref().map(|value| range.parse(value)) {
                return Err(ConfigError::Duration { name, problem });
            }
        }
        Ok(self)
    }

    /// What is wrong with the credentials. A key file that is not there yet may be made by the same apply, so only an attempt to
    /// connect says that it is missing.
    pub fn faults(&self) -> Option<ConfigError> {
        let of = |ssh: &Self| match ssh.credentials() {
            Err(ConfigError::KeyFile { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(error @ ConfigError::KeyFile { .. }) => Some(error),
            _ => None,
        };
        of(self).or_else(|| of(self.bastion.as_deref()?))
    }

    /// How long one attempt to connect may take.
    pub fn connect_timeout(&self) -> Duration {
        duration(self.connect_timeout.as_deref(), CONNECT)
    }

    /// The way to a server: what it says itself, then what the provider says.
    ///
    /// # Errors
    /// If a private key file can't be read, or an attribute has a value that it can't have.
    pub fn target(&self, own: &SshOverrides, address: &str, pins: Pins<'_>) -> Result<Target, ConfigError> {
        let bastion = match (&self.bastion, &own.bastion) {
            (None, None) => None,
            (ours, theirs) => {
                let ours = ours.as_deref().cloned().unwrap_or_default();
                let theirs = theirs.clone().unwrap_or_default();
                let merged = ours.inherit(self);
                // The provider's key is that of the provider's bastion.
                let key_of_provider = merged.host_key.clone().filter(|_| theirs.host.is_none());
                let host = theirs.host.or(merged.host.clone()).unwrap_or_default();
                let mut bastion = merged.one(host, theirs.port, theirs.user, theirs.host_key.or(key_of_provider))?;
                bastion.sudo = Sudo::No;
                pin_bastion(&mut bastion, pins.bastion)?;
                Some(Box::new(bastion))
            }
        };
        let host = own.host.clone().unwrap_or_else(|| address.to_owned());
        let key = own.host_key.clone().or_else(|| pins.server.map(str::to_owned));
        let mut target = self.one(host, own.port, own.user.clone(), key)?;
        target.bastion = bastion;
        Ok(target)
    }

    /// A bastion inherits the settings of the servers. But a password goes to the machine that it is for and to no other, and a bastion
    /// that has credentials of its own gets no others.
    fn inherit(mut self, from: &Self) -> Self {
        let has_own = self.private_key.is_some()
            || self.private_key_file.is_some()
            || self.password.is_some()
            || self.agent == Some(true);
        if !has_own {
            self.private_key.clone_from(&from.private_key);
            self.private_key_file.clone_from(&from.private_key_file);
            self.private_key_passphrase = self
                .private_key_passphrase
                .or_else(|| from.private_key_passphrase.clone());
            self.agent = self.agent.or(from.agent);
            self.identities_only = self.identities_only.or(from.identities_only);
        }
        self.user = self.user.or_else(|| from.user.clone());
        self.port = self.port.or(from.port);
        self.known_hosts_file = self.known_hosts_file.or_else(|| from.known_hosts_file.clone());
        self.host_key_checking.clone_from(&from.host_key_checking);
        self.keep_alive.clone_from(&from.keep_alive);
        self
    }

    fn one(
        &self,
        host: String,
        port: Option<u16>,
        user: Option<String>,
        pinned: Option<String>,
    ) -> Result<Target, ConfigError> {
        let known_hosts = match &self.known_hosts_file {
            Some(file) => vec![expand_home(file)],
            None => vec![
                expand_home("~/.ssh/known_hosts"),
                PathBuf::from("/etc/ssh/ssh_known_hosts"),
            ],
        };
        let policy = if self.host_key_checking.as_deref() == Some("accept_new") {
            HostKeyPolicy::AcceptNew { known_hosts, pinned }
        } else {
            HostKeyPolicy::Strict { known_hosts, pinned }
        };
        let user = user.or_else(|| self.user.clone()).unwrap_or_else(|| "root".to_owned());
        let mut target = Target::new(host, user, policy);
        target.port = port.or(self.port).unwrap_or(22);
        target.credentials = self.credentials()?;
        target.keep_alive = duration(self.keep_alive.as_deref(), KEEP_ALIVE);
        let sudo = self.sudo.clone().unwrap_or_default();
        target.sudo = if sudo.enabled == Some(false) {
            Sudo::No
        } else {
            Sudo::Yes {
                password: sudo.password.or_else(|| self.password.clone()).map(Secret::new),
            }
        };
        Ok(target)
    }

    fn credentials(&self) -> Result<Vec<Credential>, ConfigError> {
        let mut credentials = Vec::new();
        let mut named = Vec::new();
        let mut agents = false;
        for key in self.keys()? {
            if let Some(public) = Identity::of_public(&key.text) {
                named.push(public);
                agents = true;
                continue;
            }
            named.extend(Identity::of_private(&key.text).or(key.public_beside));
            credentials.push(Credential::PrivateKey {
                key: Secret::new(key.text),
                passphrase: self.private_key_passphrase.clone().map(Secret::new),
            });
        }
        let wrong = |name, value: bool, problem| ConfigError::Value {
            name,
            value: value.to_string(),
            problem,
        };
        let nothing_else = credentials.is_empty() && self.password.is_none();
        let there_is_one = || std::env::var_os("SSH_AUTH_SOCK").is_some();
        let agent = self.agent.unwrap_or(agents || (nothing_else && there_is_one()));
        if agents && !agent {
            let problem =
                "of no use with a public key as private_key or private_key_file: only an agent can sign with it";
            return Err(wrong("ssh.agent", agent, problem));
        }
        if agent {
            let only = self.identities_only.unwrap_or(agents).then_some(named);
            if only.as_ref().is_some_and(Vec::is_empty) {
                let problem = "of no use with the agent unless a key is named: give private_key_file, as an OpenSSH private key, \
                               as a public key, or with its public key in a file next to it that ends in .pub";
                return Err(wrong("ssh.identities_only", true, problem));
            }
            credentials.push(Credential::Agent { socket: None, only });
        }
        if let Some(password) = &self.password {
            credentials.push(Credential::Password(Secret::new(password.clone())));
        }
        Ok(credentials)
    }

    /// The keys that are given, by their text or by a file.
    fn keys(&self) -> Result<Vec<GivenKey>, ConfigError> {
        let mut keys = Vec::new();
        keys.extend(self.private_key.clone().map(|text| GivenKey {
            text,
            public_beside: None,
        }));
        if let Some(file) = &self.private_key_file {
            let path = expand_home(file);
            let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::KeyFile {
                path: path.display().to_string(),
                source,
            })?;
            let public = std::fs::read_to_string(format!("{}.pub", path.display())).ok();
            keys.push(GivenKey {
                text,
                public_beside: public.as_deref().and_then(Identity::of_public),
            });
        }
        Ok(keys)
    }
}

struct GivenKey {
    text: String,
    /// From the file of the same name that ends in `.pub`.
    public_beside: Option<Identity>,
}

/// Pins the key that a server's state has for this bastion, unless the configuration gives one.
fn pin_bastion(bastion: &mut Target, line: Option<&str>) -> Result<(), ConfigError> {
    let Some(line) = line else { return Ok(()) };
    let parts = line.trim().split_once(' ');
    let Some((name, key)) = parts.filter(|(_, key)| HostKey::from_line(key).is_some()) else {
        return Err(ConfigError::Value {
            name: "bastion_host_key",
            value: line.to_owned(),
            problem: "no line as in a known_hosts file, such as \"bastion.example.com ssh-ed25519 AAAA…\"",
        });
    };
    if name == lookup_name(&bastion.host, bastion.port) {
        bastion.host_keys.pin_if_open(key);
    }
    Ok(())
}

fn parsed<T: std::str::FromStr>(
    name: &'static str,
    problem: &'static str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = variable(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    value
        .parse()
        .map(Some)
        .map_err(|_| ConfigError::Value { name, value, problem })
}

fn duration(text: Option<&str>, range: Range) -> Duration {
    text.and_then(|text| range.parse(text).ok())
        .unwrap_or(Duration::from_secs(15))
}

fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests;
