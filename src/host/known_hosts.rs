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

/// One line of a known_hosts file that could be understood.
#[derive(Clone, Debug)]
pub struct Entry {
    /// File and line, for messages.
    pub origin: String,
    revoked: bool,
    names: Names,
    /// The key.
    pub key: HostKey,
}

#[derive(Clone, Debug)]
enum Names {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl Entry {
    /// Parses a line of a known_hosts file (`sshd(8)`, "SSH_KNOWN_HOSTS FILE FORMAT"). Comments, `@cert-authority` lines
    /// (libssh2 knows no host certificates) and lines that aren't understood are `None`, as OpenSSH skips them.
    pub fn parse(line: &str, origin: String) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (revoked, rest) = match line.strip_prefix("@revoked") {
            Some(rest) => (true, rest.trim_start()),
            None if line.starts_with('@') => return None,
            None => (false, line),
        };
        let (names, key) = rest.split_once([' ', '\t'])?;
        let names = match names.strip_prefix("|1|") {
            Some(hashed) => {
                let (salt, hash) = hashed.split_once('|')?;
                Names::Hashed {
                    salt: STANDARD.decode(salt).ok()?,
                    hash: STANDARD.decode(hash).ok()?,
                }
            }
            None => Names::Patterns(names.split(',').map(str::to_ascii_lowercase).collect()),
        };
        Some(Self {
            origin,
            revoked,
            names,
            key: HostKey::from_line(key)?,
        })
    }

    /// Whether this line is about `name`, as made by [`lookup_name`].
    pub fn is_about(&self, name: &str) -> bool {
        match &self.names {
            Names::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::verify(&key, name.as_bytes(), hash).is_ok()
            }
            Names::Patterns(patterns) => {
                let refused = patterns
                    .iter()
                    .filter_map(|pattern| pattern.strip_prefix('!'))
                    .any(|pattern| matches(pattern, name));
                !refused
                    && patterns
                        .iter()
                        .filter(|pattern| !pattern.starts_with('!'))
                        .any(|pattern| matches(pattern, name))
            }
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
}

/// What to think of the key that a machine showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is known.
    Right,
    /// No key of this machine is known.
    Unknown,
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

impl Known {
    /// Only `key` is right.
    pub fn pinned(key: HostKey, origin: &str) -> Self {
        Self {
            right: vec![(key, origin.to_owned())],
            revoked: Vec::new(),
        }
    }

    /// What `entries` say of the machine.
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>, host: &str, port: u16) -> Self {
        let name = lookup_name(host, port);
        let mut known = Self::default();
        for entry in entries.into_iter().filter(|entry| entry.is_about(&name)) {
            let list = if entry.revoked {
                &mut known.revoked
            } else {
                &mut known.right
            };
            list.push((entry.key, entry.origin));
        }
        known
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
            return Verdict::Unknown;
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
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
mod tests {
    use super::*;

    const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn key_of(algorithm: &str, rest: &[u8]) -> HostKey {
        let mut blob = u32::try_from(algorithm.len()).expect("short").to_be_bytes().to_vec();
        blob.extend(algorithm.as_bytes());
        blob.extend(rest);
        HostKey::from_blob(&blob).expect("well-formed")
    }

    fn known(text: &str, host: &str, port: u16) -> Known {
        Known::from_entries(parse(text, Path::new("known_hosts")), host, port)
    }

    #[test]
    fn fingerprint_as_openssh_prints_it() {
        // GitHub's published key and fingerprint.
        assert_eq!(
            HostKey::from_line(ED).expect("a key").fingerprint(),
            "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
        );
    }

    #[test]
    fn lines_that_lie_are_refused() {
        assert!(
            HostKey::from_line("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl")
                .is_none()
        );
        assert!(HostKey::from_line("ssh-ed25519").is_none());
        assert!(HostKey::from_line("ssh-ed25519 !!!").is_none());
        assert!(HostKey::from_blob(&[0xff; 8]).is_none());
    }

    #[test]
    fn plain_ports_patterns_and_negation() {
        let key = HostKey::from_line(ED).expect("a key");
        let text = format!(
            "# comment\nhost1,10.0.0.1 {ED} me@there\n[host2]:2222 {ED}\n*.example.org,!bad.example.org {ED}\n"
        );
        for (host, port, verdict) in [
            ("host1", 22, Verdict::Right),
            ("HOST1", 22, Verdict::Right),
            ("10.0.0.1", 22, Verdict::Right),
            ("host1", 2222, Verdict::Unknown),
            ("host2", 2222, Verdict::Right),
            ("host2", 22, Verdict::Unknown),
            ("a.example.org", 22, Verdict::Right),
            ("bad.example.org", 22, Verdict::Unknown),
        ] {
            assert_eq!(known(&text, host, port).judge(&key), verdict, "{host}:{port}");
        }
    }

    #[test]
    fn hashed_names() {
        // Made by `ssh-keygen -H` from "[127.0.0.1]:2222".
        let salt = STANDARD.encode(b"0123456789abcdefghij");
        let mac = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"0123456789abcdefghij"),
            b"[127.0.0.1]:2222",
        );
        let text = format!("|1|{salt}|{} {ED}", STANDARD.encode(mac.as_ref()));
        let key = HostKey::from_line(ED).expect("a key");
        assert_eq!(known(&text, "127.0.0.1", 2222).judge(&key), Verdict::Right);
        assert_eq!(known(&text, "127.0.0.1", 22).judge(&key), Verdict::Unknown);
    }

    #[test]
    fn changed_and_revoked() {
        let seen = key_of("ssh-ed25519", b"other");
        let Verdict::Changed { expected, known_from } = known(&format!("h {ED}"), "h", 22).judge(&seen) else {
            panic!("must be changed")
        };
        assert_eq!(expected, ["SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"]);
        assert_eq!(known_from, "known_hosts:1");
        let key = HostKey::from_line(ED).expect("a key");
        assert!(matches!(
            known(&format!("h {ED}\n@revoked * {ED}"), "h", 22).judge(&key),
            Verdict::Revoked { .. }
        ));
        assert_eq!(
            known(&format!("@cert-authority * {ED}"), "h", 22).judge(&key),
            Verdict::Unknown
        );
    }

    #[test]
    fn wildcards() {
        assert!(
            matches("*", "anything") && matches("a*c", "abbc") && matches("a?c", "abc") && matches("a*b*c", "a1b2b3c")
        );
        assert!(!matches("a*c", "abd") && !matches("a?c", "ac") && !matches("", "a"));
    }
}
