//! The options that users may add to a member's configuration file, and those that they may not.
//!
//! etcd reads its file leniently: a misspelt or removed key is ignored without a word. So every key is looked up in a
//! table of what each minor version reads from its file (`json:` tags in `embed/config.go` of 3.4.23, 3.5.33, 3.6.14
//! and 3.7.1), and every value is brought into the type that it has there.

use serde_json::Value;

use super::super::version::{Minor, Version};
use super::known::{GATES, KNOWN, Known, typed};

/// An option that the provider sets itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// The attribute to use instead, if there is one.
    pub attribute: Option<&'static str>,
    /// Why it isn't the user's, in words.
    pub why: &'static str,
}

/// An option that can't be used so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The provider sets it itself.
    #[error("the option {key} is not for config: {}{}", .owned.why, .owned.attribute.map(|a| format!("; use {a}")).unwrap_or_default())]
    Owned {
        /// etcd's name of the option.
        key: String,
        /// Why, and what to use instead.
        owned: Owned,
    },
    /// etcd of this version doesn't read it from its file.
    #[error(
        "etcd {version} doesn't know the option {key} in its configuration file and would ignore it without a word{hint}"
    )]
    Unknown {
        /// What the user wrote.
        key: String,
        /// The version.
        version: Version,
        /// What may have been meant, beginning with "; "; or empty.
        hint: String,
    },
    /// The value isn't of the option's type.
    #[error("the option {key} is {value:?}, but must be {wanted}")]
    Value {
        /// etcd's name of the option.
        key: String,
        /// What the user wrote.
        value: String,
        /// What it should be, in words.
        wanted: &'static str,
    },
}

/// Says whether an option is one that the provider sets itself, and what to use instead.
#[must_use]
pub fn owned_option(key: &str) -> Option<Owned> {
    let (attribute, why) = match key {
        "name" | "server" => (Some("the server's name"), "a member is named after its server"),
        "data-dir" => (
            Some("data_dir"),
            "it is also the path that the service unit may write to",
        ),
        "wal-dir" => (
            None,
            "the write-ahead log belongs into the data directory: the service unit may write nowhere else, and it is how a lost data directory is noticed",
        ),
        "listen-peer-urls" | "initial-advertise-peer-urls" => (
            Some("private_address, public_address and peer_port of the server"),
            "peer URLs are made from the server's addresses",
        ),
        "listen-client-urls" | "advertise-client-urls" => (
            Some("private_address, public_address and client_port of the server"),
            "client URLs are made from the server's addresses",
        ),
        "initial-cluster" | "initial-cluster-state" => (
            Some("servers of the cluster"),
            "every server's own string is computed from the cluster's servers",
        ),
        "initial-cluster-token" => (Some("token of the cluster"), "it is the same on all members"),
        "heartbeat-interval" => (
            Some("heartbeat_interval of the cluster"),
            "it must be the same on all members",
        ),
        "election-timeout" => (
            Some("election_timeout of the cluster"),
            "it must be the same on all members",
        ),
        "client-transport-security"
        | "peer-transport-security"
        | "cert-file"
        | "key-file"
        | "client-cert-file"
        | "client-key-file"
        | "client-cert-auth"
        | "trusted-ca-file"
        | "auto-tls"
        | "peer-cert-file"
        | "peer-key-file"
        | "peer-client-cert-file"
        | "peer-client-key-file"
        | "peer-client-cert-auth"
        | "peer-trusted-ca-file"
        | "peer-auto-tls"
        | "client-crl-file"
        | "peer-crl-file"
        | "self-signed-cert-validity" => (
            Some("tls of the cluster"),
            "certificates are issued and placed by the provider",
        ),
        "peer-cert-allowed-cn"
        | "peer-cert-allowed-hostname"
        | "client-cert-allowed-hostname"
        | "allowed-cn"
        | "allowed-hostname"
        | "peer-skip-client-san-verification"
        | "experimental-peer-skip-client-san-verification"
        | "skip-client-san-verification" => (
            None,
            "members show each other certificates that pass etcd's checks as they are, behind NAT too",
        ),
        "strict-reconfig-check" => (
            None,
            "it keeps membership changes from breaking the quorum, and stays on",
        ),
        "force-new-cluster" => (
            None,
            "it makes a member forget the others; the provider never founds a second cluster",
        ),
        "config-file" => (None, "this is the configuration file"),
        "discovery"
        | "discovery-config"
        | "discovery-fallback"
        | "discovery-proxy"
        | "discovery-srv"
        | "discovery-srv-name"
        | "discovery-endpoints"
        | "discovery-token" => (
            Some("servers of the cluster"),
            "members find each other by the cluster's servers",
        ),
        _ if key == "proxy" || key.starts_with("proxy-") => (None, "the server runs a member, not etcd's old proxy"),
        _ => return None,
    };
    Some(Owned { attribute, why })
}

/// Checks one of the user's options against what etcd of this version reads from its file, and brings its value into
/// the type that it has there.
///
/// # Errors
/// [`OptionError`]. An option that isn't known is let through, as text, number or boolean as it looks, only if the
/// version itself is newer than what is known.
pub fn check_option(key: &str, value: &str, version: &Version) -> Result<Value, OptionError> {
    if let Some(owned) = owned_option(key) {
        let key = key.to_owned();
        return Err(OptionError::Owned { key, owned });
    }
    let minor = version.minor();
    let known = KNOWN.iter().find(|o| o.key == key);
    match known {
        Some(option) if (option.first..=option.last).contains(&minor) => {
            typed(option.kind, value).map_err(|wanted| OptionError::Value {
                key: key.to_owned(),
                value: value.to_owned(),
                wanted,
            })
        }
        None if version.is_newer_than_known() => Ok(guessed(value)),
        _ => Err(OptionError::Unknown {
            key: key.to_owned(),
            version: version.clone(),
            hint: hint(key, value, known, minor),
        }),
    }
}

fn hint(key: &str, value: &str, known: Option<&Known>, minor: Minor) -> String {
    if let Some((_, gate)) = GATES.iter().find(|(old, _)| *old == key)
        && minor >= Minor::V3_6
    {
        return format!("; use feature-gates = \"{gate}={value}\"");
    }
    let exists = |name: &str| {
        KNOWN
            .iter()
            .any(|o| o.key == name && (o.first..=o.last).contains(&minor))
    };
    let renamed = match key {
        "log-output" => "log-outputs".to_owned(),
        "experimental-snapshot-catch-up-entries" | "experimental-snapshot-catchup-entries" if minor >= Minor::V3_6 => {
            "snapshot-catchup-entries".to_owned()
        }
        _ => {
            let dashed = key.trim_start_matches('-').replace('_', "-").to_lowercase();
            let plain = dashed.strip_prefix("experimental-").unwrap_or(&dashed).to_owned();
            if exists(&dashed) {
                dashed
            } else if exists(&plain) {
                plain
            } else {
                format!("experimental-{plain}")
            }
        }
    };
    if exists(&renamed) {
        return format!("; use {renamed}");
    }
    match known {
        Some(o) if o.first > minor => format!("; it came with {}", o.first),
        Some(o) => format!("; {} was the last version that did", o.last),
        None => String::new(),
    }
}

fn guessed(value: &str) -> Value {
    match (value.parse::<bool>(), value.parse::<i64>()) {
        (Ok(flag), _) => flag.into(),
        (_, Ok(number)) => number.into(),
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn said(key: &str, value: &str, version: &str) -> String {
        check_option(key, value, &v(version)).unwrap_err().to_string()
    }

    #[test]
    fn options_of_ours_name_the_attribute() {
        assert_eq!(
            said("heartbeat-interval", "100", "3.5.33"),
            "the option heartbeat-interval is not for config: it must be the same on all members; use heartbeat_interval of the cluster"
        );
        for key in [
            "proxy",
            "proxy-dial-timeout",
            "force-new-cluster",
            "peer-transport-security",
            "discovery-srv",
        ] {
            assert!(owned_option(key).is_some(), "{key}");
        }
        assert_eq!(owned_option("snapshot-count"), None);
        assert!(KNOWN.iter().all(|o| owned_option(o.key).is_none()));
    }

    #[test]
    fn removed_and_misspelt_options_are_refused_with_a_hint() {
        let hint = |key, version| {
            let text = said(key, "true", version);
            text.split_once("without a word").unwrap().1.to_owned()
        };
        assert_eq!(hint("enable-v2", "3.6.14"), "; 3.5 was the last version that did");
        assert_eq!(hint("snapshot_count", "3.6.14"), "; use snapshot-count");
        assert_eq!(hint("--snapshot-count", "3.6.14"), "; use snapshot-count");
        assert_eq!(
            hint("experimental-corrupt-check-time", "3.7.1"),
            "; use corrupt-check-time"
        );
        assert_eq!(
            hint("corrupt-check-time", "3.5.33"),
            "; use experimental-corrupt-check-time"
        );
        assert_eq!(
            hint("experimental-initial-corrupt-check", "3.6.14"),
            "; use feature-gates = \"InitialCorruptCheck=true\""
        );
        assert_eq!(hint("feature-gates", "3.5.33"), "; it came with 3.6");
        assert_eq!(
            hint("backend-bbolt-freelist-type", "3.4.23"),
            "; use experimental-backend-bbolt-freelist-type"
        );
        assert_eq!(hint("no-such-thing", "3.7.1"), "");
    }

    #[test]
    fn values_get_the_type_that_the_file_wants() {
        let typed = |key, value| check_option(key, value, &v("3.6.14")).unwrap();
        assert_eq!(typed("pre-vote", "false"), Value::from(false));
        assert_eq!(
            typed("quota-backend-bytes", "8589934592"),
            Value::from(8_589_934_592_u64)
        );
        assert_eq!(typed("auto-compaction-retention", "1"), Value::from("1"));
        assert_eq!(typed("grpc-keepalive-min-time", "5s"), Value::from(5_000_000_000_u64));
        assert_eq!(
            typed("log-outputs", "stderr, /x"),
            Value::Array(vec!["stderr".into(), "/x".into()])
        );
        assert!(said("grpc-keepalive-min-time", "5", "3.6.14").contains("a duration with a unit"));
        assert!(said("pre-vote", "yes", "3.6.14").contains("true or false"));
        assert!(said("snapshot-count", "-1", "3.6.14").contains("whole number"));
        assert_eq!(check_option("brand-new", "3", &v("3.9.0")), Ok(Value::from(3)));
    }
}
