//! The methods of the SSH handshake: those that this side takes, and those that a server offers. PURE.

use ssh2::MethodType;

/// Host key algorithms, the best first. SHA-1 and DSA are left out, as OpenSSH does since 8.8.
pub(super) const HOST_KEYS: &[&str] = &[
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// Key exchanges, the best first; libssh2 leaves out those that it was built without, and adds the mark of a strict exchange itself.
/// SHA-1 and the group of 1024 bits are left out.
const KEY_EXCHANGES: &[&str] = &[
    "mlkem768x25519-sha256",
    "mlkem768nistp256-sha256",
    "mlkem1024nistp384-sha384",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
];

/// Ciphers, the best first. Those in CBC mode are left out (CVE-2008-5161), and so are RC4 and the ones with blocks of 64 bits.
const CIPHERS: &[&str] = &[
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
];

/// MACs, the best first. SHA-1, MD5 and RIPEMD are left out.
const MACS: &[&str] = &[
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
];

/// What libssh2 is told to take, but for host keys, whose order depends on the server.
pub(super) const TAKEN: [(MethodType, &[&str]); 5] = [
    (MethodType::Kex, KEY_EXCHANGES),
    (MethodType::CryptCs, CIPHERS),
    (MethodType::CryptSc, CIPHERS),
    (MethodType::MacCs, MACS),
    (MethodType::MacSc, MACS),
];

/// The longest packet that has to be understood (RFC 4253, 6.1).
const LONGEST: usize = 35_000;
/// Messages that may come before the one that is looked for: IGNORE and DEBUG.
const PASSED_OVER: [u8; 2] = [2, 4];
const KEXINIT: u8 = 20;

/// What a server offers (`SSH_MSG_KEXINIT`; RFC 4253, 7.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    key_exchanges: Vec<String>,
    host_keys: Vec<String>,
    /// To the server, and from it.
    ciphers: [Vec<String>; 2],
    macs: [Vec<String>; 2],
}

/// What the first bytes of a server came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// More has to come.
    Incomplete,
    /// All of it is there.
    Whole(Offer),
    /// It is no offer, and will be none.
    Nonsense,
}

/// A kind of method of which both sides have none in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The kind.
    pub kind: &'static str,
    /// What the server offers.
    pub offered: Vec<String>,
    /// What this side takes.
    pub taken: &'static [&'static str],
}

impl Offer {
    /// Reads what a server sends first: its version, and its offer.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Reading {
        let mut rest = bytes;
        // Other lines may come before the version.
        loop {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                return if bytes.len() > LONGEST {
                    Reading::Nonsense
                } else {
                    Reading::Incomplete
                };
            };
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if line.starts_with(b"SSH-") {
                break;
            }
        }
        loop {
            let Some((length, after)) = rest.split_first_chunk::<4>() else {
                return Reading::Incomplete;
            };
            let length = u32::from_be_bytes(*length) as usize;
            if !(2..=LONGEST).contains(&length) {
                return Reading::Nonsense;
            }
            let Some((packet, next)) = after.split_at_checked(length) else {
                return Reading::Incomplete;
            };
            match packet[1..] {
                [KEXINIT, ref lists @ ..] => return Self::of_lists(lists).map_or(Reading::Nonsense, Reading::Whole),
                [message, ..] if PASSED_OVER.contains(&message) => rest = next,
                _ => return Reading::Nonsense,
            }
        }
    }

    fn of_lists(bytes: &[u8]) -> Option<Self> {
        // Sixteen random bytes come first.
        let mut rest = bytes.get(16..)?;
        let mut list = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (names, next) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = next;
            let names = std::str::from_utf8(names).ok()?.split(',');
            // The names go into messages.
            let sane = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            Some(names.filter(sane).map(str::to_owned).collect::<Vec<_>>())
        };
        Some(Self {
            key_exchanges: list()?,
            host_keys: list()?,
            ciphers: [list()?, list()?],
            macs: [list()?, list()?],
        })
    }

    /// The kinds of which this side takes nothing that the server offers.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let mut compare = |kind, offered: &Vec<String>, taken: &'static [&'static str]| {
            let agreed = taken.iter().find(|method| offered.iter().any(|one| one == *method));
            let gap = Gap {
                kind,
                offered: offered.clone(),
                taken,
            };
            if agreed.is_none() && !gaps.contains(&gap) {
                gaps.push(gap);
            }
            agreed.copied()
        };
        compare("key exchange", &self.key_exchanges, KEY_EXCHANGES);
        compare("host key algorithm", &self.host_keys, HOST_KEYS);
        for (ciphers, macs) in self.ciphers.iter().zip(&self.macs) {
            let cipher = compare("cipher", ciphers, CIPHERS);
            // AES in GCM mode needs no MAC of its own.
            if cipher.is_none_or(|cipher| !cipher.contains("-gcm@")) {
                compare("MAC", macs, MACS);
            }
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a server sends it.
    fn sent(lists: [&str; 6]) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; 16]);
        for list in lists.into_iter().chain(["none", "none", "", ""]) {
            payload.extend(u32::try_from(list.len()).expect("short").to_be_bytes());
            payload.extend(list.as_bytes());
        }
        payload.extend([0; 5]);
        let mut bytes = b"a greeting\r\nSSH-2.0-test\r\n".to_vec();
        bytes.extend(packet(&payload));
        bytes
    }

    fn packet(payload: &[u8]) -> Vec<u8> {
        let padding = [0; 4];
        let length = 1 + payload.len() + padding.len();
        let mut bytes = u32::try_from(length).expect("short").to_be_bytes().to_vec();
        bytes.push(4);
        bytes.extend(payload);
        bytes.extend(padding);
        bytes
    }

    fn kinds(lists: [&str; 6]) -> Vec<&'static str> {
        let Reading::Whole(offer) = Offer::read(&sent(lists)) else {
            panic!("it is whole")
        };
        offer.gaps().iter().map(|gap| gap.kind).collect()
    }

    #[test]
    fn what_is_missing_is_told_by_its_kind() {
        let (kex, key, cipher, mac) = ("curve25519-sha256", "ssh-ed25519", "aes128-ctr", "hmac-sha2-256");
        assert!(kinds([kex, key, cipher, cipher, mac, mac]).is_empty());
        assert_eq!(
            kinds(["diffie-hellman-group1-sha1", key, cipher, cipher, mac, mac]),
            ["key exchange"]
        );
        assert_eq!(
            kinds([kex, "ssh-rsa,ssh-dss", cipher, cipher, mac, mac]),
            ["host key algorithm"]
        );
        assert_eq!(kinds([kex, key, "aes256-cbc", "aes256-cbc", mac, mac]), ["cipher"]);
        assert_eq!(kinds([kex, key, cipher, "3des-cbc", mac, mac]), ["cipher"]);
        assert_eq!(kinds([kex, key, cipher, cipher, "hmac-sha1", "hmac-sha1"]), ["MAC"]);
        let gcm = "aes256-gcm@openssh.com";
        assert!(kinds([kex, key, gcm, gcm, "hmac-sha1", "hmac-sha1"]).is_empty());
        assert_eq!(
            kinds(["", "", "", "", "", ""]),
            ["key exchange", "host key algorithm", "cipher", "MAC"]
        );
    }

    #[test]
    fn nothing_old_is_taken() {
        let all = TAKEN.iter().flat_map(|(_, taken)| taken.iter()).chain(HOST_KEYS);
        for method in all {
            let old = [
                "cbc", "sha1", "md5", "ripemd", "arcfour", "3des", "group1-", "ssh-rsa", "ssh-dss",
            ];
            assert!(!old.iter().any(|old| method.contains(old)), "{method}");
        }
    }

    #[test]
    fn an_offer_is_read_as_it_comes() {
        let whole = sent(["a,b", "c", "d", "e", "f", "g\u{1b}[2J,h"]);
        for length in 0..whole.len() - 4 {
            assert_eq!(Offer::read(&whole[..length]), Reading::Incomplete, "{length}");
        }
        let Reading::Whole(offer) = Offer::read(&whole) else {
            panic!("it is whole")
        };
        assert_eq!(offer.key_exchanges, ["a", "b"]);
        assert_eq!(offer.macs[1], ["h"], "a name that would reach the terminal raw");
        let mut later = b"SSH-2.0-test\r\n".to_vec();
        later.extend(packet(&[4, 0, 0]));
        let start = whole.iter().position(|byte| *byte == 0).expect("a length");
        later.extend(&whole[start..]);
        assert_eq!(Offer::read(&later), Reading::Whole(offer));
        assert_eq!(
            Offer::read(b"SSH-2.0-test\r\n\0\0\0\x05\x04\x01\0\0\0"),
            Reading::Nonsense
        );
        assert_eq!(Offer::read(b"SSH-2.0-test\r\n\xff\xff\xff\xff"), Reading::Nonsense);
        assert_eq!(Offer::read(&[b'x'; 40_000]), Reading::Nonsense);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), version in any::<bool>()) {
            let mut all = if version { b"SSH-2.0-x\n".to_vec() } else { Vec::new() };
            all.extend(bytes);
            if let Reading::Whole(offer) = Offer::read(&all) {
                let _ = offer.gaps();
            }
        }
    }
}
