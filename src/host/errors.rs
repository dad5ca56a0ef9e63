//! What can go wrong on the road to a machine.
//!
//! Every message names the machine, says what was seen, and what to do where that isn't plain.

use std::time::Duration;

use super::known_hosts::HostKey;
use super::methods::Gap;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("{server}: the name {host} can't be resolved: {detail}")]
    Resolve {
        /// `user@host:port`.
        server: String,
        /// The name that was looked up.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// Nothing listens there, or there is no way there.
    #[error(
        "{server}: no TCP connection: {detail}. Is the machine up, is the SSH port right, and does a firewall let it through?"
    )]
    Unreachable {
        /// `user@host:port`.
        server: String,
        /// What the system said.
        detail: String,
    },
    /// No answer within the time given.
    #[error("{server}: no answer within {}s while {step}", waited.as_secs())]
    TimedOut {
        /// `user@host:port`.
        server: String,
        /// What was being waited for.
        step: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The connection ended, or didn't speak SSH.
    #[error("{server}: the SSH connection failed while {step}: {detail}")]
    Broken {
        /// `user@host:port`.
        server: String,
        /// What was being done.
        step: &'static str,
        /// What libssh2 said.
        detail: String,
    },
    /// A machine of which no key is known.
    #[error(
        "{server}: its host key is not known: it showed {} ({}). Compare it with what the machine prints (`ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub`), then pin it or add it to a known_hosts file: {}{}",
        .seen.fingerprint(), .seen.algorithm(), .seen.line(), not_used(.unused)
    )]
    HostKeyUnknown {
        /// `user@host:port`.
        server: String,
        /// The key that it showed.
        seen: Box<HostKey>,
        /// Lines about it in known_hosts files that can't be used, each with the reason.
        unused: Vec<String>,
    },
    /// Another key than the known one. Never retried.
    #[error(
        "{server}: ITS HOST KEY HAS CHANGED: expected {}, but it showed {}. Either the machine was installed anew, or somebody stands in between. Nothing was sent. When the change is right, remove the old key ({known_from}); the new one is: {}",
        .expected.join(" or "), .seen.fingerprint(), .seen.line()
    )]
    HostKeyChanged {
        /// `user@host:port`.
        server: String,
        /// Fingerprints of the keys that are known.
        expected: Vec<String>,
        /// Where they are known from: a file with line, or the pinned key.
        known_from: String,
        /// The key that it showed.
        seen: Box<HostKey>,
    },
    /// A key that a known_hosts file marks `@revoked`.
    #[error(
        "{server}: its host key {} is marked as revoked ({known_from}). Nothing was sent. Give the machine another host key and pin that one",
        .seen.fingerprint()
    )]
    HostKeyRevoked {
        /// `user@host:port`.
        server: String,
        /// File and line.
        known_from: String,
        /// The key that it showed.
        seen: Box<HostKey>,
    },
    /// What should say which host key is right can't be read.
    #[error("{server}: {detail}")]
    HostKeySource {
        /// `user@host:port`.
        server: String,
        /// Which file or text, and why.
        detail: String,
    },
    /// Both sides have no method in common. Nothing was sent.
    #[error("{server}: {}. Enable one of these in its sshd_config", .gaps.iter().map(describe).collect::<Vec<_>>().join("; "))]
    NothingInCommon {
        /// `user@host:port`.
        server: String,
        /// Each kind of method that is missing.
        gaps: Vec<Gap>,
    },
    /// The machine let none of the credentials in.
    #[error("{server}: authentication failed. Tried: {}. The server accepts: {offered}", if .tried.is_empty() { "nothing (no credentials were given)".to_owned() } else { .tried.join("; ") })]
    Authentication {
        /// `user@host:port`.
        server: String,
        /// Each method, with why it failed.
        tried: Vec<String>,
        /// The methods that the server names.
        offered: String,
    },
    /// None of the credentials could be tried: what is wrong with them is wrong here, and waiting changes nothing.
    #[error(
        "{server}: nothing to log in with: {}. The server accepts: {offered}. Nothing was sent. Set the credentials right in `ssh`",
        if .tried.is_empty() { "no credentials were given".to_owned() } else { .tried.join("; ") }
    )]
    Unusable {
        /// `user@host:port`.
        server: String,
        /// Each credential, with what is wrong with it.
        tried: Vec<String>,
        /// The methods that the server names.
        offered: String,
    },
    /// The bastion can't be entered, or doesn't lead further.
    #[error("{server}: its bastion: {source}")]
    Bastion {
        /// `user@host:port`.
        server: String,
        /// What went wrong there.
        #[source]
        source: Box<ConnectError>,
    },
    /// The bastion refused to open a connection to the machine.
    #[error("{server}: the bastion {bastion} could not reach it: {detail}")]
    BastionRefused {
        /// `user@host:port`.
        server: String,
        /// The bastion.
        bastion: String,
        /// What it said.
        detail: String,
    },
    /// Patience ran out. `last` is the reason of the last attempt.
    #[error("{last} (gave up after {attempts} attempts in {}s)", waited.as_secs())]
    GaveUp {
        /// How often it was tried.
        attempts: u32,
        /// How long.
        waited: Duration,
        /// The last attempt's error.
        #[source]
        last: Box<ConnectError>,
    },
    /// The user asked to stop.
    #[error("{server}: stopped on request while connecting")]
    Cancelled {
        /// `user@host:port`.
        server: String,
    },
}

impl ConnectError {
    /// Whether the machine, or its bastion, answered and refused us, or is one that we must refuse: that is not for want of an answer.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::HostKeyUnknown { .. }
            | Self::HostKeyChanged { .. }
            | Self::HostKeyRevoked { .. }
            | Self::HostKeySource { .. }
            | Self::NothingInCommon { .. }
            | Self::Unusable { .. }
            | Self::Authentication { .. } => true,
            Self::Bastion { source, .. } => source.is_refusal(),
            Self::GaveUp { last, .. } => last.is_refusal(),
            Self::Resolve { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::BastionRefused { .. }
            | Self::Cancelled { .. } => false,
        }
    }

    /// Whether a machine that is only just being created may fail in this way. Authentication counts: cloud-init may
    /// not have written the key yet. A wrong host key never does.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::Authentication { .. }
            | Self::BastionRefused { .. } => true,
            Self::Bastion { source, .. } => source.may_pass(),
            Self::HostKeyUnknown { .. }
            | Self::HostKeyChanged { .. }
            | Self::HostKeyRevoked { .. }
            | Self::HostKeySource { .. }
            | Self::NothingInCommon { .. }
            | Self::Unusable { .. }
            | Self::GaveUp { .. }
            | Self::Cancelled { .. } => false,
        }
    }
}

/// Why the user can't become root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Not root, and sudo is not to be used.
    #[error("the user isn't root and sudo is switched off")]
    NotRoot,
    /// There is no `sudo` on the machine.
    #[error("the user isn't root and the machine has no sudo")]
    NoSudo,
    /// The sudoers file doesn't let this user run a shell as root.
    #[error("sudo doesn't let the user become root: {said}")]
    NoSudoRights {
        /// sudo's words.
        said: String,
    },
    /// sudo wants a password and none was given.
    #[error("sudo asks for a password and none is configured")]
    SudoPasswordNeeded,
    /// sudo didn't take the password.
    #[error("sudo did not accept the password")]
    SudoPasswordWrong,
    /// `Defaults requiretty`.
    #[error("sudo wants a terminal (`Defaults requiretty` in the sudoers file): switch that off for this user")]
    NeedsTerminal,
    /// Anything else.
    #[error("the root shell did not start: {said}")]
    Other {
        /// The last lines of standard error.
        said: String,
    },
}

/// Why a script has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The user can't become root.
    #[error("{server}: {source}")]
    Root {
        /// `user@host:port`.
        server: String,
        /// Why.
        #[source]
        source: RootError,
    },
    /// The connection ended before the script's result came. When `sent`, the script runs to its end over there.
    #[error("{server}: the connection was lost {} \"{title}\": {detail}", if *.sent { "while running" } else { "before it could run" })]
    ConnectionLost {
        /// `user@host:port`.
        server: String,
        /// The script's title.
        title: String,
        /// Whether all of the script was sent.
        sent: bool,
        /// Why.
        detail: String,
    },
    /// The answer was longer than any of the provider's scripts gives. The connection is not used again.
    #[error(
        "{server}: \"{title}\" was answered with {excess}. The connection was closed, and what was sent may have run there all the same. No script of \
         the provider's prints so much: look at that server's login scripts and at its sshd"
    )]
    TooMuch {
        /// `user@host:port`.
        server: String,
        /// The script's title.
        title: String,
        /// What was too much, and how much is allowed.
        excess: String,
    },
    /// No result within the script's time. It may still be running over there.
    #[error("{server}: \"{title}\" did not end within {}s (it may still be running there)", waited.as_secs())]
    TimedOut {
        /// `user@host:port`.
        server: String,
        /// The script's title.
        title: String,
        /// How long.
        waited: Duration,
    },
    /// The script ended with another exit code than 0.
    #[error("{server}: \"{title}\" failed with exit code {exit_code}{}", if .last_lines.is_empty() { String::new() } else { format!(":\n  {}", .last_lines) })]
    Failed {
        /// `user@host:port`.
        server: String,
        /// The script's title.
        title: String,
        /// Its exit code.
        exit_code: i32,
        /// The last lines of its standard error (or output, where that is empty).
        last_lines: String,
    },
    /// What the script answered can't be used. What it did is done.
    #[error(
        "{server}: the answer of \"{title}\" can't be used: {fault}. Either the server is damaged, or it is not the server that you think"
    )]
    Answer {
        /// `user@host:port`.
        server: String,
        /// The script's title.
        title: String,
        /// Why.
        fault: super::answers::AnswerFault,
    },
    /// The user asked to stop, and the script had not been sent.
    #[error("{server}: stopped on request before \"{title}\"")]
    Cancelled {
        /// `user@host:port`.
        server: String,
        /// The script's title.
        title: String,
    },
}

impl RunError {
    /// Whether the server is not reached, or no longer: what was sent may have run there all the same.
    pub fn is_of_the_connection(&self) -> bool {
        matches!(
            self,
            Self::Connect(_) | Self::ConnectionLost { .. } | Self::TooMuch { .. }
        )
    }
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The machine refused to open it, or nobody listens there.
    #[error("{server}: no tunnel to {address} there: {detail}")]
    Refused {
        /// `user@host:port`.
        server: String,
        /// `address:port` on the machine.
        address: String,
        /// What it said.
        detail: String,
    },
    /// The user asked to stop.
    #[error("{server}: stopped on request while opening a tunnel")]
    Cancelled {
        /// `user@host:port`.
        server: String,
    },
}

/// Why a file didn't arrive.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The road there.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The local file.
    #[error("{path}: {source}")]
    Local {
        /// Local path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Other bytes than expected arrived; nothing was put in place.
    #[error("{server}: {path} arrived with sha256 {seen} instead of {expected}; nothing was changed")]
    Checksum {
        /// `user@host:port`.
        server: String,
        /// Remote path.
        path: String,
        /// What it should be, in hex.
        expected: String,
        /// What it is, in hex.
        seen: String,
    },
    /// The connection ended, or the user asked to stop, in the middle; nothing was put in place.
    #[error("{server}: the upload of {path} broke off: {detail}")]
    Broken {
        /// `user@host:port`.
        server: String,
        /// Remote path.
        path: String,
        /// Why.
        detail: String,
    },
}

fn not_used(lines: &[String]) -> String {
    match lines {
        [] => String::new(),
        lines => format!(". Not used: {}", lines.join("; ")),
    }
}

/// A server may offer any number of names of any length.
fn describe(gap: &Gap) -> String {
    let offered: String = gap.offered.join(", ").chars().take(400).collect();
    let offered = if offered.is_empty() { "nothing" } else { &offered };
    format!(
        "no {} in common: it offers {offered}, and the provider takes {}",
        gap.kind,
        gap.taken.join(", ")
    )
}

// Scripts say it in their own words.
pub(super) use super::said::last_lines;
