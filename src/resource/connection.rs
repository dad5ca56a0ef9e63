//! From what the user wrote about SSH to the road to a server.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::{Credential, HostKeyPolicy, Secret, Sudo, Target};
use crate::plugin::schema::Attribute;
use crate::resource::durations::{CONNECT, KEEP_ALIVE, Range};

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

/// The attributes of a server's `ssh`.
pub fn server_attributes() -> Vec<Attribute> {
    let mut attributes = override_attributes();
    attributes.push(Attribute::object("bastion", override_attributes()).describe(
        "The machine to jump over, in place of the provider's `ssh.bastion`. Its credentials are the provider's.",
    ));
    attributes
}

fn override_attributes() -> Vec<Attribute> {
    vec![
        Attribute::string("host").describe("Name or IP address to connect to."),
        Attribute::number("port").describe("Port of its SSH server."),
        Attribute::string("user").describe("User to log in as."),
        Attribute::string("host_key")
            .describe("Its host key, as a line such as `ssh-ed25519 AAAA…`. Only this key is right then."),
    ]
}

/// The attributes of the provider's `ssh`.
pub fn provider_attributes() -> Vec<Attribute> {
    let mut attributes = credential_attributes();
    attributes.extend([
        Attribute::string("host_key_checking").describe(
            "`strict` (the default): a host key has to be in `known_hosts_file` or given as `ssh.host_key` of the server. \
             `accept_new`: the first key seen is believed and pinned in the server's state. \
             Environment: `ETCD_SSH_HOST_KEY_CHECKING`.",
        ),
        Attribute::string("connect_timeout")
            .describe("How long one attempt to connect may take, from `1s` to `1h`, such as `15s` (the default)."),
        Attribute::string("keep_alive").describe(
            "How often a sign of life is sent, from `1s` to `1h`, such as `15s` (the default). A connection is given up after three without an answer.",
        ),
        Attribute::object("sudo", vec![
            Attribute::bool("enabled").describe("Whether to use sudo where the user is not root. Default: true."),
            Attribute::string("password").sensitive().describe(
                "The user's password, where sudo asks for one; sent over standard input. \
                 Environment: `ETCD_SSH_SUDO_PASSWORD`.",
            ),
        ])
        .describe("How the user becomes root."),
    ]);
    let mut bastion = credential_attributes();
    bastion.extend([
        Attribute::string("host")
            .required()
            .describe("Name or IP address of the bastion."),
        Attribute::string("host_key")
            .describe("Its host key, as a line such as `ssh-ed25519 AAAA…`. Only this key is right then."),
    ]);
    attributes.push(
        Attribute::object("bastion", bastion)
            .describe("A machine to jump over. What it leaves out is taken from `ssh`."),
    );
    attributes
}

fn credential_attributes() -> Vec<Attribute> {
    vec![
        Attribute::string("user").describe("User to log in as. Default: `root`. Environment: `ETCD_SSH_USER`."),
        Attribute::number("port").describe("Port of the SSH server. Default: 22. Environment: `ETCD_SSH_PORT`."),
        Attribute::string("private_key")
            .sensitive()
            .describe("A private key in PEM or OpenSSH form. Environment: `ETCD_SSH_PRIVATE_KEY`."),
        Attribute::string("private_key_file")
            .describe("A file with a private key; `~` is your home. Environment: `ETCD_SSH_PRIVATE_KEY_FILE`."),
        Attribute::string("private_key_passphrase").sensitive().describe(
            "What the private key is encrypted with. Environment: `ETCD_SSH_PRIVATE_KEY_PASSPHRASE`.",
        ),
        Attribute::string("password")
            .sensitive()
            .describe("The user's password. Environment: `ETCD_SSH_PASSWORD`."),
        Attribute::bool("agent").describe(
            "Whether to ask the ssh-agent at `SSH_AUTH_SOCK`. Default: where there is one and no key or password is given. \
             Environment: `ETCD_SSH_AGENT`.",
        ),
        Attribute::string("known_hosts_file").describe(
            "The known host keys. Default: `~/.ssh/known_hosts` and `/etc/ssh/ssh_known_hosts`. \
             Environment: `ETCD_SSH_KNOWN_HOSTS_FILE`.",
        ),
    ]
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

    /// How long one attempt to connect may take.
    pub fn connect_timeout(&self) -> Duration {
        duration(self.connect_timeout.as_deref(), CONNECT)
    }

    /// The way to a server: what it says itself, then what the provider says.
    ///
    /// # Errors
    /// If a private key file can't be read.
    pub fn target(&self, own: &SshOverrides, address: &str, pinned: Option<&str>) -> Result<Target, ConfigError> {
        let bastion = match (&self.bastion, &own.bastion) {
            (None, None) => None,
            (ours, theirs) => {
                let ours = ours.as_deref().cloned().unwrap_or_default();
                let theirs = theirs.clone().unwrap_or_default();
                let merged = ours.inherit(self);
                let host = theirs.host.or(merged.host.clone()).unwrap_or_default();
                let key = theirs.host_key.or(merged.host_key.clone());
                Some(Box::new(merged.one(host, theirs.port, theirs.user, key)?))
            }
        };
        let host = own.host.clone().unwrap_or_else(|| address.to_owned());
        let key = own.host_key.clone().or_else(|| pinned.map(str::to_owned));
        let mut target = self.one(host, own.port, own.user.clone(), key)?;
        target.bastion = bastion;
        Ok(target)
    }

    /// What a bastion leaves out is as for the servers, but for sudo, which it needs not.
    fn inherit(mut self, from: &Self) -> Self {
        if self.private_key.is_none() && self.private_key_file.is_none() {
            self.private_key.clone_from(&from.private_key);
            self.private_key_file.clone_from(&from.private_key_file);
            self.private_key_passphrase = self
                .private_key_passphrase
                .or_else(|| from.private_key_passphrase.clone());
        }
        self.user = self.user.or_else(|| from.user.clone());
        self.port = self.port.or(from.port);
        self.password = self.password.or_else(|| from.password.clone());
        self.agent = self.agent.or(from.agent);
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
        let passphrase = || self.private_key_passphrase.clone().map(Secret::new);
        if let Some(key) = &self.private_key {
            credentials.push(Credential::PrivateKey {
                key: Secret::new(key.clone()),
                passphrase: passphrase(),
            });
        }
        if let Some(file) = &self.private_key_file {
            let path = expand_home(file);
            let key = std::fs::read_to_string(&path).map_err(|source| ConfigError::KeyFile {
                path: path.display().to_string(),
                source,
            })?;
            credentials.push(Credential::PrivateKey {
                key: Secret::new(key),
                passphrase: passphrase(),
            });
        }
        let nothing_else = credentials.is_empty() && self.password.is_none();
        if self
            .agent
            .unwrap_or(nothing_else && std::env::var_os("SSH_AUTH_SOCK").is_some())
        {
            credentials.push(Credential::Agent { socket: None });
        }
        if let Some(password) = &self.password {
            credentials.push(Credential::Password(Secret::new(password.clone())));
        }
        Ok(credentials)
    }
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
mod tests {
    use super::*;
    use crate::plugin::value::{Value, from_value};

    fn config(entries: &[(&str, &str)]) -> SshConfig {
        let entries = entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        from_value(&Value::Map(entries)).unwrap()
    }

    #[test]
    fn the_environment_fills_in_what_is_left_out() {
        let environment = |name: &str| match name {
            "ETCD_SSH_USER" => Some("admin".to_owned()),
            "ETCD_SSH_PORT" => Some("2222".to_owned()),
            "ETCD_SSH_PASSWORD" => Some("secret".to_owned()),
            _ => None,
        };
        let ssh = config(&[("user", "root")]).with_environment(environment).unwrap();
        let target = ssh.target(&SshOverrides::default(), "192.0.2.1", None).unwrap();
        assert_eq!((target.user.as_str(), target.port), ("root", 2222));
        assert_eq!(target.credentials, [Credential::Password(Secret::new("secret"))]);
    }

    #[test]
    fn a_wrong_value_is_named() {
        let error = config(&[("host_key_checking", "maybe")])
            .with_environment(|_| None)
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            "ssh.host_key_checking is \"maybe\", which is neither \"strict\" nor \"accept_new\""
        );
        let port = |name: &str| (name == "ETCD_SSH_PORT").then(|| "ssh".to_owned());
        assert!(
            config(&[])
                .with_environment(port)
                .err()
                .unwrap()
                .to_string()
                .contains("no port number")
        );
    }

    #[test]
    fn a_server_overrides_and_the_bastion_inherits() {
        let mut ssh = config(&[("user", "admin"), ("password", "secret")]);
        ssh.bastion = Some(Box::new(config(&[("host", "198.51.100.1")])));
        let own = SshOverrides {
            port: Some(2200),
            ..SshOverrides::default()
        };
        let target = ssh.target(&own, "10.0.0.11", Some("ssh-ed25519 AAAA")).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("10.0.0.11", 2200));
        assert_eq!(target.host_keys.pinned(), Some("ssh-ed25519 AAAA"));
        let bastion = target.bastion.unwrap();
        assert_eq!(
            (bastion.host.as_str(), bastion.user.as_str(), bastion.port),
            ("198.51.100.1", "admin", 22)
        );
        assert_eq!(bastion.credentials.len(), 1);
    }
}
