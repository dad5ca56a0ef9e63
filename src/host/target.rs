//! Where a machine is, and who may enter it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::identity::Identity;
use super::secret::Secret;

/// One machine, and everything that is needed to enter it. Two targets that differ in pinned keys only share one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Name or IP address, as the bastion (or, without one, this machine) resolves it. IPv6 without brackets.
    pub host: String,
    /// Port of the SSH server; 22 as a rule.
    pub port: u16,
    /// User to log in as.
    pub user: String,
    /// Ways to authenticate, tried in this order.
    pub credentials: Vec<Credential>,
    /// Which host keys are right.
    pub host_keys: HostKeyPolicy,
    /// How this user becomes root. Ignored where the user is root, which the machine itself is asked.
    pub sudo: Sudo,
    /// The machine to jump over. It may have a bastion of its own.
    pub bastion: Option<Box<Target>>,
    /// A keep-alive is sent this often (whole seconds, 2 at least; zero: never); a peer from which nothing came for three of them is dead.
    pub keep_alive: Duration,
}

impl Target {
    /// Port 22, `sudo` without password, keep-alive each 15 s, no bastion and nothing to authenticate with.
    pub fn new(host: impl Into<String>, user: impl Into<String>, host_keys: HostKeyPolicy) -> Self {
        Self {
            host: host.into(),
            port: 22,
            user: user.into(),
            credentials: Vec::new(),
            host_keys,
            sudo: Sudo::Yes { password: None },
            bastion: None,
            keep_alive: Duration::from_secs(15),
        }
    }

    /// `host:port`, with brackets around IPv6: how messages call this machine.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.user, self.address())?;
        match &self.bastion {
            Some(bastion) => write!(formatter, " (through {bastion})"),
            None => Ok(()),
        }
    }
}

/// One way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A running ssh-agent.
    Agent {
        /// The agent's socket. `None`: the one that `SSH_AUTH_SOCK` names.
        socket: Option<PathBuf>,
        /// The keys that may be offered. `None`: every key that the agent has.
        only: Option<Vec<Identity>>,
    },
    /// A private key in PEM or OpenSSH form (the text, not a path).
    PrivateKey {
        /// The key's text.
        key: Secret,
        /// What it is encrypted with.
        passphrase: Option<Secret>,
    },
    /// A password; given to `keyboard-interactive` too.
    Password(Secret),
}

/// Which host keys are right.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostKeyPolicy {
    /// Only a key that is pinned or, when none is, listed in a known_hosts file. One that such a file revokes is never right.
    Strict {
        /// Files in the format of `sshd(8)`; those that don't exist are skipped.
        known_hosts: Vec<PathBuf>,
        /// An OpenSSH line, `ssh-ed25519 AAAA…`. When there is one, only that is right.
        pinned: Option<String>,
    },
    /// As `Strict`, but a machine of which no key is known is believed; it is for the caller to keep [`HostKey`](super::HostKey) and pin it.
    AcceptNew {
        /// As in `Strict`.
        known_hosts: Vec<PathBuf>,
        /// As in `Strict`.
        pinned: Option<String>,
    },
}

impl HostKeyPolicy {
    /// The known_hosts files to read.
    pub fn known_hosts(&self) -> &[PathBuf] {
        match self {
            Self::Strict { known_hosts, .. } | Self::AcceptNew { known_hosts, .. } => known_hosts,
        }
    }

    /// The one key that is right, if it has been said.
    pub fn pinned(&self) -> Option<&str> {
        match self {
            Self::Strict { pinned, .. } | Self::AcceptNew { pinned, .. } => pinned.as_deref(),
        }
    }

    /// Has only `key` be right, unless the one key that is right has been said.
    pub fn pin_if_open(&mut self, key: &str) {
        let (Self::Strict { pinned, .. } | Self::AcceptNew { pinned, .. }) = self;
        pinned.get_or_insert_with(|| key.to_owned());
    }

    /// Whether a machine of which no key is known is believed.
    pub fn accepts_new(&self) -> bool {
        matches!(self, Self::AcceptNew { .. })
    }
}

impl Target {
    /// The same target with no pinned key, neither of its own nor of its bastion.
    #[must_use]
    pub fn without_pins(mut self) -> Self {
        let (HostKeyPolicy::Strict { pinned, .. } | HostKeyPolicy::AcceptNew { pinned, .. }) = &mut self.host_keys;
        *pinned = None;
        self.bastion = self.bastion.map(|bastion| Box::new(bastion.without_pins()));
        self
    }
}

/// How the user becomes root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sudo {
    /// Not at all: the user must be root already.
    No,
    /// With `sudo`, unless the machine says that the user is root.
    Yes {
        /// The user's password, where sudo asks for one. It travels over standard input.
        password: Option<Secret>,
    },
}
