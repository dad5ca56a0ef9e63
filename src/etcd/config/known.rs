//! What each minor version of etcd reads from its configuration file, and in which type.

use serde_json::Value;

use super::super::version::Minor;
use Kind::{Bool, Duration, Integer, List, Text};
use Minor::{V3_4, V3_5, V3_6, V3_7};

/// The type that an option has in etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Integer,
    Text,
    /// Go's `time.Duration`: the file wants an integer of nanoseconds.
    Duration,
    /// Separated by commas.
    List,
}

/// One option.
pub(super) struct Known {
    /// etcd's name of it.
    pub(super) key: &'static str,
    /// The type of its value.
    pub(super) kind: Kind,
    /// The first minor version that reads it.
    pub(super) first: Minor,
    /// The last one; the newest that is known if it is still read.
    pub(super) last: Minor,
}

const fn known(key: &'static str, kind: Kind, first: Minor, last: Minor) -> Known {
    Known { key, kind, first, last }
}

/// Sorted by name.
#[rustfmt::skip]
pub(super) const KNOWN: &[Known] = &[
    known("auth-token", Text, V3_4, V3_7),
    known("auth-token-ttl", Integer, V3_4, V3_7),
    known("auto-compaction-mode", Text, V3_4, V3_7),
    known("auto-compaction-retention", Text, V3_4, V3_7),
    known("backend-batch-interval", Duration, V3_4, V3_7),
    known("backend-batch-limit", Integer, V3_4, V3_7),
    known("backend-bbolt-freelist-type", Text, V3_5, V3_7),
    known("bcrypt-cost", Integer, V3_4, V3_7),
    known("bootstrap-defrag-threshold-megabytes", Integer, V3_6, V3_7),
    known("cipher-suites", List, V3_4, V3_7),
    known("compact-hash-check-time", Duration, V3_6, V3_7),
    known("compaction-batch-limit", Integer, V3_6, V3_7),
    known("compaction-sleep-interval", Duration, V3_6, V3_7),
    known("corrupt-check-time", Duration, V3_6, V3_7),
    known("cors", Text, V3_4, V3_7),
    known("debug", Bool, V3_4, V3_4),
    known("distributed-tracing-address", Text, V3_6, V3_7),
    known("distributed-tracing-instance-id", Text, V3_6, V3_7),
    known("distributed-tracing-sampling-rate", Integer, V3_6, V3_7),
    known("distributed-tracing-service-name", Text, V3_6, V3_7),
    known("downgrade-check-time", Duration, V3_6, V3_7),
    known("enable-distributed-tracing", Bool, V3_6, V3_7),
    known("enable-grpc-gateway", Bool, V3_4, V3_7),
    known("enable-log-rotation", Bool, V3_5, V3_7),
    known("enable-pprof", Bool, V3_4, V3_7),
    known("enable-v2", Bool, V3_4, V3_5),
    known("experimental-backend-bbolt-freelist-type", Text, V3_4, V3_4),
    known("experimental-bootstrap-defrag-threshold-megabytes", Integer, V3_5, V3_6),
    known("experimental-compact-hash-check-enabled", Bool, V3_5, V3_5),
    known("experimental-compact-hash-check-time", Duration, V3_5, V3_6),
    known("experimental-compaction-batch-limit", Integer, V3_4, V3_6),
    known("experimental-compaction-sleep-interval", Duration, V3_5, V3_6),
    known("experimental-corrupt-check-time", Duration, V3_4, V3_6),
    known("experimental-distributed-tracing-address", Text, V3_5, V3_6),
    known("experimental-distributed-tracing-instance-id", Text, V3_5, V3_6),
    known("experimental-distributed-tracing-sampling-rate", Integer, V3_5, V3_6),
    known("experimental-distributed-tracing-service-name", Text, V3_5, V3_6),
    known("experimental-downgrade-check-time", Duration, V3_5, V3_6),
    known("experimental-enable-distributed-tracing", Bool, V3_5, V3_6),
    known("experimental-enable-lease-checkpoint", Bool, V3_4, V3_5),
    known("experimental-enable-lease-checkpoint-persist", Bool, V3_4, V3_5),
    known("experimental-enable-v2v3", Text, V3_4, V3_5),
    known("experimental-initial-corrupt-check", Bool, V3_4, V3_5),
    known("experimental-memory-mlock", Bool, V3_5, V3_6),
    known("experimental-snapshot-catch-up-entries", Integer, V3_5, V3_6),
    known("experimental-stop-grpc-service-on-defrag", Bool, V3_5, V3_5),
    known("experimental-txn-mode-write-with-shared-buffer", Bool, V3_5, V3_5),
    known("experimental-warning-apply-duration", Duration, V3_4, V3_6),
    known("experimental-warning-unary-request-duration", Duration, V3_6, V3_6),
    known("experimental-watch-progress-notify-interval", Duration, V3_4, V3_6),
    known("feature-gates", Text, V3_6, V3_7),
    known("grpc-keepalive-interval", Duration, V3_4, V3_7),
    known("grpc-keepalive-min-time", Duration, V3_4, V3_7),
    known("grpc-keepalive-timeout", Duration, V3_4, V3_7),
    known("host-whitelist", Text, V3_4, V3_7),
    known("initial-election-tick-advance", Bool, V3_4, V3_7),
    known("listen-client-http-urls", Text, V3_5, V3_7),
    known("listen-metrics-urls", Text, V3_4, V3_7),
    known("log-format", Text, V3_6, V3_7),
    known("log-level", Text, V3_4, V3_7),
    known("log-outputs", List, V3_4, V3_7),
    known("log-package-levels", Text, V3_4, V3_4),
    known("log-rotation-config-json", Text, V3_5, V3_7),
    known("logger", Text, V3_4, V3_7),
    known("max-concurrent-streams", Integer, V3_4, V3_7),
    known("max-learners", Integer, V3_6, V3_7),
    known("max-request-bytes", Integer, V3_4, V3_7),
    known("max-snapshots", Integer, V3_4, V3_7),
    known("max-txn-ops", Integer, V3_4, V3_7),
    known("max-wals", Integer, V3_4, V3_7),
    known("memory-mlock", Bool, V3_6, V3_7),
    known("metrics", Text, V3_4, V3_7),
    known("pre-vote", Bool, V3_4, V3_7),
    known("quota-backend-bytes", Integer, V3_4, V3_7),
    known("snapshot-catchup-entries", Integer, V3_6, V3_7),
    known("snapshot-count", Integer, V3_4, V3_7),
    known("tls-max-version", Text, V3_5, V3_7),
    known("tls-min-version", Text, V3_5, V3_7),
    known("unsafe-no-fsync", Bool, V3_4, V3_7),
    known("v2-deprecation", Text, V3_5, V3_7),
    known("warning-apply-duration", Duration, V3_6, V3_7),
    known("warning-unary-request-duration", Duration, V3_6, V3_7),
    known("watch-progress-notify-interval", Duration, V3_6, V3_7),
];

/// Booleans that became feature gates in 3.6. That version still reads the old key, but refuses to start if both are
/// given, and we always write `feature-gates`.
pub(super) const GATES: &[(&str, &str)] = &[
    ("experimental-compact-hash-check-enabled", "CompactHashCheck"),
    ("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    ("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    ("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    ("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    (
        "experimental-txn-mode-write-with-shared-buffer",
        "TxnModeWriteWithSharedBuffer",
    ),
];

/// Whether some version reads an option of this name.
#[must_use]
pub fn is_option(key: &str) -> bool {
    KNOWN.iter().any(|known| known.key == key)
}

/// Whether a flag stands for true when it stands alone.
#[must_use]
pub fn is_switch(key: &str) -> bool {
    let ours = [
        "auto-tls",
        "client-cert-auth",
        "experimental-peer-skip-client-san-verification",
        "force-new-cluster",
        "peer-auto-tls",
        "peer-client-cert-auth",
        "peer-skip-client-san-verification",
        "strict-reconfig-check",
    ];
    let known = KNOWN.iter().find(|known| known.key == key);
    ours.contains(&key) || known.is_some_and(|known| known.kind == Bool)
}

/// The value in the type that the file wants; else what was wanted, in words.
pub(super) fn typed(kind: Kind, value: &str) -> Result<Value, &'static str> {
    match kind {
        Bool => match value {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err("true or false"),
        },
        Integer => value
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| "a whole number, 0 or more"),
        Text => Ok(value.into()),
        Duration => nanoseconds(value)
            .map(Value::from)
            .ok_or("a duration with a unit, like 500ms, 30s, 5m or 1h30m"),
        List => Ok(Value::Array(
            value.split(',').map(|entry| entry.trim().into()).collect(),
        )),
    }
}

/// Go's `time.ParseDuration` for durations that aren't negative, in nanoseconds. A fraction finer than a
/// nanosecond is cut off.
fn nanoseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(scale)?)?;
        let mut place = scale;
        for digit in fraction.chars() {
            place /= 10;
            total = total.checked_add(place * u64::from(digit.to_digit(10)?))?;
        }
        rest = next;
    }
    // Go's durations are signed.
    (!text.is_empty() && i64::try_from(total).is_ok()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, wanted) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("100ms", Some(100_000_000)),
            (".5us", Some(500)),
            ("0", Some(0)),
            ("", None),
            ("s", None),
            (".s", None),
            ("5 s", None),
            ("-5s", None),
            ("5d", None),
            ("1.2.3s", None),
            ("99999999999h", None),
        ] {
            assert_eq!(nanoseconds(text), wanted, "{text:?}");
        }
    }
}
