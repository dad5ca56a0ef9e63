//! Host keys, and the files that say which are right. PURE but for [`read`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// The public key of a machine.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostKey {
    algorithm: String,
    blob: Vec<u8>,
}

impl HostKey {
    /// From the key's wire form (RFC 4253, 6.6), which starts with the name of its algorithm.
    /// `None` when it doesn't.
    pub fn from_blob(blob: &[u8]) -> Option<Self> {
        let length = u32::from_be_bytes(blob.get(..4)?.try_into().ok()?) as usize;
        let algorithm = std::str::from_utf8(blob.get(4..4usize.checked_add(length)?)?).ok()?;
        let sane = !algorithm.is_empty() && algorithm.bytes().all(|byte| byte.is_ascii_graphic());
        sane.then(|| Self {
            algorithm: algorithm.to_owned(),
            blob: blob.to_vec(),
        })
    }

    /// From an OpenSSH line `ssh-ed25519 AAAA… [comment]`. `None` when it isn't one, or the two parts disagree.
    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let algorithm = words.next()?;
        let key = Self::from_blob(&STANDARD.decode(words.next()?).ok()?)?;
        (key.algorithm == algorithm).then_some(key)
    }

    /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa`, …
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The key's wire form.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The OpenSSH line, `ssh-ed25519 AAAA…`: what is pinned.
    pub fn line(&self) -> String {
        format!("{} {}", self.algorithm, STANDARD.encode(&self.blob))
    }

    /// `SHA256:…`, as OpenSSH prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "HostKey({})", self.line())
    }
}

/// One line of a known_hosts file (`sshd(8)`, "SSH_KNOWN_HOSTS FILE FORMAT").
#[derive(Clone, Debug)]
pub struct Entry {
    /// File and line, for messages.
    origin: String,
    names: Names,
    says: Says,
}

#[derive(Clone, Debug)]
enum Names {
    Patterns(Vec<String>),
    Hashed {
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    /// They may be those of any machine.
    Unreadable,
}

#[derive(Clone, Debug)]
enum Says {
    Right(HostKey),
    Revoked(HostKey),
    /// It can't be used, and what it says could at most have made a key right.
    Unused(&'static str),
    /// It may revoke a key, and which one can't be read.
    MayRevoke(&'static str),
}

impl Entry {
    /// Parses a line. `None` for comments and empty lines; every other line is an entry, whether it can be read or not.
    pub fn parse(line: &str, origin: String) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let blank = [' ', '\t'];
        let (marker, rest) = if line.starts_with('@') {
            let (marker, rest) = line.split_once(blank).unwrap_or((line, ""));
            (Some(marker), rest.trim_start())
        } else {
            (None, line)
        };
        let (names, key) = rest.split_once(blank).unwrap_or((rest, ""));
        let names = Names::parse(names);
        let unreadable = matches!(names, Names::Unreadable);
        let says = match (marker, HostKey::from_line(key)) {
            (Some("@cert-authority"), _) => {
                Says::Unused("it names a certificate authority, and host certificates can't be checked")
            }
            (Some("@revoked"), Some(key)) => Says::Revoked(key),
            (Some("@revoked"), None) => Says::MayRevoke("its key can't be read"),
            (Some(_), _) => Says::MayRevoke("its marker is neither @revoked nor @cert-authority"),
            (None, _) if unreadable => Says::Unused("its names can't be read"),
            (None, Some(key)) => Says::Right(key),
            (None, None) => Says::Unused("its key can't be read"),
        };
        Some(Self { origin, names, says })
    }

    /// Whether this line is about `name`, as made by [`lookup_name`].
    pub fn is_about(&self, name: &str) -> bool {
        match &self.names {
            Names::Unreadable => true,
            Names::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::verify(&key, name.as_bytes(), hash).is_ok()
            }
            Names::Patterns(patterns) => {
                let (refused, named): (Vec<&str>, Vec<&str>) = patterns
                    .iter()
                    .map(String::as_str)
                    .partition(|pattern| pattern.starts_with('!'));
                let refused = refused.into_iter().any(|pattern| matches(&pattern[1..], name));
                !refused && named.into_iter().any(|pattern| matches(pattern, name))
            }
        }
    }
}

impl Names {
    fn parse(text: &str) -> Self {
        let hashed = |text: &str| {
            let (salt, hash) = text.strip_prefix("1|")?.split_once('|')?;
            Some(Self::Hashed {
                salt: STANDARD.decode(salt).ok()?,
                hash: STANDARD.decode(hash).ok()?,
            })
        };
        match text.strip_prefix('|') {
            Some(rest) => hashed(rest).unwrap_or(Self::Unreadable),
            None => Self::Patterns(text.split(',').map(str::to_ascii_lowercase).collect()),
        }
    }
}

/// The name under which a machine stands in known_hosts: the host, or `[host]:port` for another port than 22.
pub fn lookup_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// `*` and `?` as in OpenSSH's patterns.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at_pattern, mut at_name) = (0, 0);
    let mut last_star = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                last_star = Some((at_pattern, at_name));
                at_pattern += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[at_name] => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => match last_star {
                Some((star, taken)) => {
                    last_star = Some((star, taken + 1));
                    at_pattern = star + 1;
                    at_name = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at_pattern..].iter().all(|&byte| byte == b'*')
}

/// What is known of one machine's keys.
#[derive(Clone, Debug, Default)]
pub struct Known {
    right: Vec<(HostKey, String)>,
    revoked: Vec<(HostKey, String)>,
    unused: Vec<String>,
}

/// What to think of the key that a machine showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is known.
    Right,
    /// No key of this machine is known.
    Unknown {
        /// The lines about this machine that can't be used, each with the reason.
        unused: Vec<String>,
    },
    /// Other keys of this machine are known.
    Changed {
        /// Their fingerprints.
        expected: Vec<String>,
        /// Where from.
        known_from: String,
    },
    /// It is marked `@revoked`.
    Revoked {
        /// Where.
        known_from: String,
    },
}

/// A line that may revoke a key, and can't be read. Passing over it could accept the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{origin} may revoke a host key and can't be read: {problem}. A server could show that key, so none is connected to. Correct the line or remove it"
)]
pub struct UnreadableRevocation {
    origin: String,
    problem: &'static str,
}

impl Known {
    /// What `entries` say of the machine.
    ///
    /// # Errors
    /// If a line may revoke a key and can't be read, whichever machine it is about.
    pub fn from_entries(
        entries: impl IntoIterator<Item = Entry>,
        host: &str,
        port: u16,
    ) -> Result<Self, UnreadableRevocation> {
        let name = lookup_name(host, port);
        let without_port = lookup_name(host, 22);
        let mut known = Self::default();
        for entry in entries {
            let about = entry.is_about(&name);
            // A key that was lost is lost at every port.
            let revokes = matches!(entry.says, Says::Revoked(_)) && (about || entry.is_about(&without_port));
            let origin = entry.origin;
            match entry.says {
                Says::MayRevoke(problem) => return Err(UnreadableRevocation { origin, problem }),
                Says::Revoked(key) if revokes => known.revoked.push((key, origin)),
                Says::Right(key) if about => known.right.push((key, origin)),
                Says::Unused(reason) if about => known.unused.push(format!("{origin}: {reason}")),
                Says::Revoked(_) | Says::Right(_) | Says::Unused(_) => {}
            }
        }
        Ok(known)
    }

    /// Only `key` is right, and only as long as it is not revoked.
    #[must_use]
    pub fn pinned(mut self, key: HostKey, origin: &str) -> Self {
        self.right = vec![(key, origin.to_owned())];
        self.unused.clear();
        self
    }

    /// The algorithms of the right keys, to be preferred in the handshake: else a machine with several keys looks changed.
    pub fn algorithms(&self) -> Vec<&str> {
        self.right.iter().map(|(key, _)| key.algorithm()).collect()
    }

    /// Judges the key that the machine showed. Stricter than OpenSSH: a machine of which a key is known, but that now
    /// shows one of another algorithm only, has changed.
    pub fn judge(&self, seen: &HostKey) -> Verdict {
        if let Some((_, origin)) = self.revoked.iter().find(|(key, _)| key == seen) {
            return Verdict::Revoked {
                known_from: origin.clone(),
            };
        }
        if self.right.iter().any(|(key, _)| key == seen) {
            return Verdict::Right;
        }
        if self.right.is_empty() {
            return Verdict::Unknown {
                unused: self.unused.clone(),
            };
        }
        Verdict::Changed {
            expected: self.right.iter().map(|(key, _)| key.fingerprint()).collect(),
            known_from: self
                .right
                .iter()
                .map(|(_, origin)| origin.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

/// Reads known_hosts files; those that don't exist are skipped.
///
/// # Errors
/// The path of the first file that is there and can't be read, and why.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Entry>, (PathBuf, io::Error)> {
    let mut entries = Vec::new();
    for path in paths {
        match std::fs::read(path) {
            Ok(bytes) => entries.extend(parse(&String::from_utf8_lossy(&bytes), path)),
            // HOME may be no folder (`/dev/null`) where nothing is meant to be read.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err((path.clone(), error)),
        }
    }
    Ok(entries)
}

fn parse(text: &str, path: &Path) -> Vec<Entry> {
    text.lines()
        .zip(1..)
        .filter_map(|(line, number)| Entry::parse(line, format!("{}:{number}", path.display())))
        .collect()
}

#[cfg(test)]
mod tests;
