//! Which key of an agent is meant: the public part of a key, from a public key or an OpenSSH private key. PURE.

use std::fmt;

use super::known_hosts::HostKey;

/// What an OpenSSH private key starts with, once decoded.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// A key to log in with, by its public part.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity(HostKey);

impl Identity {
    /// From a public key's line, `ssh-ed25519 AAAA… [comment]`. `None` if it isn't one.
    pub fn of_public(text: &str) -> Option<Self> {
        HostKey::from_line(text.trim()).map(Self)
    }

    /// From a private key in OpenSSH's form, which has its public part unencrypted. `None` for any other form.
    pub fn of_private(text: &str) -> Option<Self> {
        let block = pem::parse(text).ok()?;
        if block.tag() != "OPENSSH PRIVATE KEY" {
            return None;
        }
        let mut rest = block.contents().strip_prefix(MAGIC)?;
        // Cipher, how its key is derived, and the options of that; then the number of keys, which is one.
        for _ in 0..3 {
            take(&mut rest)?;
        }
        let (_, mut rest) = rest.split_at_checked(4)?;
        HostKey::from_blob(take(&mut rest)?).map(Self)
    }

    /// Whether it is the key with this wire form.
    pub fn is(&self, blob: &[u8]) -> bool {
        self.0.blob() == blob
    }

    /// `SHA256:…`, as OpenSSH prints it.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({})", self.fingerprint())
    }
}

/// The next string of SSH's wire form (RFC 4251, 5).
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (taken, next) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = next;
    Some(taken)
}
