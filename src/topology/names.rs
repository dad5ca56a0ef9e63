//! The newtypes of the field: a value of one of these types has been checked.

use std::fmt;
use std::str::FromStr;

/// A name that isn't one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {what}: {why}")]
pub struct NameError {
    /// What was wanted, in words ("server name").
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks `text` and takes it as it is.
            ///
            /// # Errors
            /// [`NameError`] says which rule of the type it breaks.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(why) => Err(NameError { what: $what, value: text.to_owned(), why }),
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name!(
    /// The name of a server, and of the member that runs on it: a DNS label of lower-case letters, digits and
    /// hyphens, 1 to 63 characters. It is the first label of the member's stable peer URL.
    ServerName,
    "server name",
    dns_label
);
name!(
    /// The name of a network: servers of one network reach each other by private address. 1 to 128 printable
    /// characters.
    NetworkName,
    "network name",
    printable
);
name!(
    /// The name of a cluster: a DNS label, because it also becomes part of paths, of the service unit's name and
    /// of the system user's name.
    ClusterName,
    "cluster name",
    dns_label
);
name!(
    /// The domain under which the members of one cluster have their stable names. Lower-case labels, at most 189
    /// characters, so that any server's name still fits in front (a DNS name has 253 at most).
    Domain,
    "domain",
    domain
);
name!(
    /// The `initial-cluster-token`: part of every member ID and of the cluster ID. 1 to 128 printable ASCII
    /// characters without blanks.
    ClusterToken,
    "cluster token",
    token
);

impl Domain {
    /// The domain of a cluster whose user chose none: `<cluster>.etcd.internal`.
    #[must_use]
    pub fn of_cluster(cluster: &ClusterName) -> Self {
        Self(format!("{cluster}.etcd.internal"))
    }

    /// The stable name of a server's member in this domain, the same text on every server.
    #[must_use]
    pub fn stable_name(&self, server: &ServerName) -> String {
        format!("{server}.{self}")
    }
}

fn dns_label(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > 63 {
        return Err("it has more than 63 characters");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err("only lower-case letters, digits and hyphens are allowed");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("it starts or ends with a hyphen");
    }
    Ok(())
}

fn domain(text: &str) -> Result<(), &'static str> {
    if text.len() > 189 {
        return Err("it has more than 189 characters");
    }
    for label in text.split('.') {
        dns_label(label)
            .map_err(|_| "every part between the dots must have 1 to 63 lower-case letters, digits or inner hyphens")?;
    }
    if text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err("its last part is a number, so that names in it look like IP addresses");
    }
    Ok(())
}

fn printable(text: &str) -> Result<(), &'static str> {
    if text.trim().is_empty() {
        return Err("it is empty");
    }
    if text.trim() != text {
        return Err("it starts or ends with a blank");
    }
    if text.len() > 128 {
        return Err("it has more than 128 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("it contains control characters");
    }
    Ok(())
}

fn token(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > 128 {
        return Err("it has more than 128 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("only printable ASCII characters without blanks are allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_dns_labels() {
        for good in ["a", "a1", "site-a-1", "0", &"x".repeat(63)] {
            assert_eq!(ServerName::parse(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "A1", "a.b", "a_b", "-a", "a-", "ä", "a b", &"x".repeat(64)] {
            assert!(ServerName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            ServerName::parse("A1").unwrap_err().to_string(),
            "\"A1\" is not a server name: only lower-case letters, digits and hyphens are allowed"
        );
    }

    #[test]
    fn a_domain_leaves_room_for_a_server_name() {
        let cluster = ClusterName::parse("main").unwrap();
        let domain = Domain::of_cluster(&cluster);
        assert_eq!(domain.as_str(), "main.etcd.internal");
        assert_eq!(
            domain.stable_name(&ServerName::parse("a1").unwrap()),
            "a1.main.etcd.internal"
        );
        for bad in [
            "",
            "a..b",
            ".a",
            "a.",
            "Example.com",
            "10.0.0.1",
            &["abcdefghi"; 20].join("."),
        ] {
            assert!(Domain::parse(bad).is_err(), "{bad}");
        }
        let longest = Domain::of_cluster(&ClusterName::parse(&"c".repeat(63)).unwrap());
        assert_eq!(Domain::parse(longest.as_str()), Ok(longest));
    }

    #[test]
    fn names_are_checked_when_they_are_deserialised() {
        assert!(serde_json::from_str::<ServerName>("\"a1\"").is_ok());
        assert!(serde_json::from_str::<ServerName>("\"a 1\"").is_err());
        assert!(NetworkName::parse("Büro 1").is_ok());
        assert!(NetworkName::parse("a\nb").is_err());
        assert!(ClusterToken::parse("main-6f1c").is_ok());
        assert!(ClusterToken::parse("two words").is_err());
    }
}
