//! What a member's `/metrics` says. PURE.
//!
//! A member may say anything. A number that makes no sense is unknown, of this member and nothing else: no NaN, no infinity, nothing negative.
//!
//! Names from etcd's `server/etcdserver/metrics.go` and `api/rafthttp/metrics.go` (3.4 to 3.7).

use std::collections::{BTreeMap, BTreeSet};

/// The most peers that are read of. A cluster has a dozen members at most, and those that left are in the metrics until a restart.
const MOST_PEERS: usize = 1000;

/// The metrics of one member that tell whether its cluster is connected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// `etcd_network_active_peers`: by (local, remote) member ID in hexadecimal, whether a stream is active. A peer that was never connected to is
    /// missing; one that was lost is `false`.
    pub active_peers: BTreeMap<(String, String), bool>,
    /// `etcd_network_disconnected_peers_total`: how often the stream to a peer was lost, by (local, remote).
    pub disconnected_peers: BTreeMap<(String, String), u64>,
    /// `etcd_network_peer_round_trip_time_seconds`: by remote member ID. Probed each 5 s, so there is none just after a connection.
    pub round_trips: BTreeMap<String, Durations>,
    /// `etcd_server_has_leader`.
    pub has_leader: bool,
    /// `etcd_server_is_leader`.
    pub is_leader: bool,
    /// `etcd_server_is_learner`.
    pub is_learner: bool,
    /// `etcd_server_leader_changes_seen_total`.
    pub leader_changes: Option<u64>,
    /// `etcd_server_proposals_applied_total`: the index up to which its log is applied, 0 before the first since it started.
    pub applied: u64,
    /// `etcd_disk_wal_fsync_duration_seconds`: synchronous writes of the log since it started.
    pub wal_fsyncs: Durations,
    /// How many of them took 64 ms at most.
    pub wal_fsyncs_quick: Option<u64>,
    /// `etcd_mvcc_db_total_size_in_bytes`.
    pub db_size: Option<u64>,
    /// `etcd_server_quota_backend_bytes`.
    pub quota: Option<u64>,
    /// `server_version` of `etcd_server_version`.
    pub version: Option<String>,
}

/// How long something took each time, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Durations {
    /// All of them together.
    pub sum: Option<f64>,
    /// How many.
    pub count: Option<u64>,
}

impl Durations {
    /// The mean in seconds; `None` before the first.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count.filter(|count| *count > 0)?;
        #[allow(clippy::cast_precision_loss, reason = "such a count is far below 2^52")]
        Some(self.sum? / count as f64)
    }

    /// Those that came after `before`.
    pub fn since(self, before: Self) -> Self {
        let sums = self.sum.zip(before.sum);
        let counts = self.count.zip(before.count);
        Self {
            sum: sums.map(|(now, before)| (now - before).max(0.0)),
            count: counts.map(|(now, before)| now.saturating_sub(before)),
        }
    }
}

impl Metrics {
    /// Its synchronous writes, since an earlier look or since it started: how many, the mean in milliseconds, and how many of them took more than 64 ms.
    /// `None` if there were none.
    pub fn fsyncs(&self, since: Option<&Self>) -> Option<(u64, f64, u64)> {
        let (all, quick) = match since {
            None => (self.wal_fsyncs, self.wal_fsyncs_quick?),
            Some(before) => (
                self.wal_fsyncs.since(before.wal_fsyncs),
                self.wal_fsyncs_quick?.saturating_sub(before.wal_fsyncs_quick?),
            ),
        };
        let (count, mean) = (all.count?, all.mean()?);
        Some((count, mean * 1000.0, count.saturating_sub(quick)))
    }

    /// From the Prometheus text format. Lines that aren't known or understood are skipped.
    pub fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for sample in text.lines().filter_map(Sample::parse) {
            metrics.take(&sample);
        }
        metrics
    }

    /// The IDs of the peers to which a stream is active.
    pub fn connected_to(&self) -> impl Iterator<Item = &str> {
        self.active_peers
            .iter()
            .filter(|(_, active)| **active)
            .map(|((_, remote), _)| remote.as_str())
    }

    /// The IDs of the peers that it was connected to, and is no more.
    pub fn lost_ids(&self) -> BTreeSet<u64> {
        let lost = self.active_peers.iter().filter(|(_, active)| !**active);
        lost.filter_map(|((_, remote), _)| u64::from_str_radix(remote, 16).ok())
            .collect()
    }

    /// The IDs of the peers to which a stream is active, as numbers.
    pub fn active_ids(&self) -> BTreeSet<u64> {
        self.connected_to()
            .filter_map(|remote| u64::from_str_radix(remote, 16).ok())
            .collect()
    }

    fn take(&mut self, sample: &Sample<'_>) {
        fn entry<K: Ord, V: Default>(all: &mut BTreeMap<K, V>, key: K) -> Option<&mut V> {
            (all.len() < MOST_PEERS || all.contains_key(&key)).then(|| all.entry(key).or_default())
        }
        let pair = || {
            (
                sample.label("Local").unwrap_or_default(),
                sample.label("Remote").unwrap_or_default(),
            )
        };
        match sample.name {
            "etcd_network_active_peers" => {
                if let Some(active) = entry(&mut self.active_peers, pair()) {
                    *active = sample.value > 0.0;
                }
            }
            "etcd_network_disconnected_peers_total" => {
                if let Some(lost) = entry(&mut self.disconnected_peers, pair()) {
                    *lost = sample.count();
                }
            }
            "etcd_network_peer_round_trip_time_seconds_sum" => {
                if let Some(all) = entry(&mut self.round_trips, sample.label("To").unwrap_or_default()) {
                    all.sum = Some(sample.value);
                }
            }
            "etcd_network_peer_round_trip_time_seconds_count" => {
                if let Some(all) = entry(&mut self.round_trips, sample.label("To").unwrap_or_default()) {
                    all.count = Some(sample.count());
                }
            }
            "etcd_server_has_leader" => self.has_leader = sample.value > 0.0,
            "etcd_server_is_leader" => self.is_leader = sample.value > 0.0,
            "etcd_server_is_learner" => self.is_learner = sample.value > 0.0,
            "etcd_server_leader_changes_seen_total" => self.leader_changes = Some(sample.count()),
            "etcd_server_proposals_applied_total" => self.applied = sample.count(),
            "etcd_disk_wal_fsync_duration_seconds_sum" => self.wal_fsyncs.sum = Some(sample.value),
            "etcd_disk_wal_fsync_duration_seconds_bucket" if sample.label("le").as_deref() == Some("0.064") => {
                self.wal_fsyncs_quick = Some(sample.count());
            }
            "etcd_disk_wal_fsync_duration_seconds_count" => self.wal_fsyncs.count = Some(sample.count()),
            "etcd_mvcc_db_total_size_in_bytes" => self.db_size = Some(sample.count()),
            "etcd_server_quota_backend_bytes" => self.quota = Some(sample.count()),
            "etcd_server_version" => self.version = sample.label("server_version"),
            _ => {}
        }
    }
}

/// To whom each of several members has an active stream.
pub fn active_peers(all: &BTreeMap<String, Metrics>) -> BTreeMap<String, BTreeSet<u64>> {
    { all.iter() }
        .map(|(name, metrics)| (name.clone(), metrics.active_ids()))
        .collect()
}

/// Whom each of several members has lost.
pub fn lost_peers(all: &BTreeMap<String, Metrics>) -> BTreeMap<String, BTreeSet<u64>> {
    { all.iter() }
        .map(|(name, metrics)| (name.clone(), metrics.lost_ids()))
        .collect()
}

/// What no counter reaches, and is too large for Terraform's whole numbers here: 2^63.
const LARGEST: f64 = 9_223_372_036_854_775_808.0;

/// One line of the text format: `name{label="value",…} number`. The number is one that a counter, a size or a time can have.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim();
        if line.starts_with('#') {
            return None;
        }
        let (name, labels, rest) = match line.split_once('{') {
            Some((name, rest)) => {
                let (labels, rest) = rest.rsplit_once('}')?;
                (name, labels, rest)
            }
            None => {
                let (name, rest) = line.split_once(' ')?;
                (name, "", rest)
            }
        };
        Some(Self {
            name: name.trim(),
            labels,
            value: rest
                .split_ascii_whitespace()
                .next()?
                .parse()
                .ok()
                .filter(|value| (0.0..LARGEST).contains(value))?,
        })
    }

    /// A label's value, its escapes undone.
    fn label(&self, wanted: &str) -> Option<String> {
        let mut rest = self.labels;
        loop {
            let (name, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = after.char_indices();
            let end = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => match characters.next()?.1 {
                        'n' => value.push('\n'),
                        other => value.push(other),
                    },
                    (_, other) => value.push(other),
                }
            };
            if name.trim_start_matches([',', ' ']).trim() == wanted {
                return Some(value);
            }
            rest = &after[end + 1..];
        }
    }

    /// A counter's value; Prometheus writes large ones as `1.5e+06`.
    fn count(&self) -> u64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, which is right"
        )]
        {
            self.value as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = r#"# HELP etcd_network_active_peers The current number of active peer connections.
# TYPE etcd_network_active_peers gauge
etcd_network_active_peers{Local="8e9e05c52164694d",Remote="91bc3c398fb3c146"} 1
etcd_network_active_peers{Local="8e9e05c52164694d",Remote="fd422379fda50e48"} 0
etcd_network_disconnected_peers_total{Local="8e9e05c52164694d",Remote="fd422379fda50e48"} 3
etcd_network_peer_round_trip_time_seconds_bucket{To="91bc3c398fb3c146",le="0.0001"} 0
etcd_network_peer_round_trip_time_seconds_sum{To="91bc3c398fb3c146"} 0.2
etcd_network_peer_round_trip_time_seconds_count{To="91bc3c398fb3c146"} 4
etcd_server_has_leader 1
etcd_server_is_leader 0
etcd_server_leader_changes_seen_total 2
etcd_server_proposals_applied_total 1.234567e+06
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 3
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.064"} 9
etcd_disk_wal_fsync_duration_seconds_sum 0.25
etcd_disk_wal_fsync_duration_seconds_count 10
etcd_mvcc_db_total_size_in_bytes 1.5994880e+07
etcd_server_quota_backend_bytes 2.147483648e+09
etcd_server_version{server_version="3.5.30"} 1
"#;

    #[test]
    fn a_members_metrics() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!(metrics.connected_to().collect::<Vec<_>>(), ["91bc3c398fb3c146"]);
        assert_eq!(metrics.lost_ids(), BTreeSet::from([0xfd42_2379_fda5_0e48]));
        assert_eq!(metrics.disconnected_peers.values().copied().collect::<Vec<_>>(), [3]);
        assert_eq!(metrics.round_trips["91bc3c398fb3c146"].mean(), Some(0.05));
        let durations = |sum, count| Durations {
            sum: Some(sum),
            count: Some(count),
        };
        assert_eq!(
            (metrics.wal_fsyncs.mean(), metrics.wal_fsyncs_quick),
            (Some(0.025), Some(9))
        );
        assert_eq!(durations(1.25, 12).since(metrics.wal_fsyncs).mean(), Some(0.5));
        assert_eq!(
            durations(0.0, 0).since(metrics.wal_fsyncs).mean(),
            None,
            "it was restarted in between"
        );
        assert_eq!(metrics.fsyncs(None), Some((10, 25.0, 1)));
        assert_eq!(metrics.fsyncs(Some(&metrics)), None);
        assert!(metrics.has_leader && !metrics.is_leader && !metrics.is_learner);
        assert_eq!(
            (metrics.leader_changes, metrics.applied, metrics.db_size, metrics.quota),
            (Some(2), 1_234_567, Some(15_994_880), Some(2_147_483_648))
        );
        assert_eq!(metrics.version.as_deref(), Some("3.5.30"));
    }

    #[test]
    fn labels_may_hold_anything() {
        let sample = Sample::parse(r#"name{a="x\"},y=\"",b="two"} 7 1700000000"#).expect("a sample");
        assert_eq!(
            (sample.label("a"), sample.label("b"), sample.label("c")),
            (Some(r#"x"},y=""#.to_owned()), Some("two".to_owned()), None)
        );
        assert_eq!(sample.count(), 7);
    }

    #[test]
    fn a_number_that_makes_no_sense_is_unknown() {
        for nonsense in ["NaN", "+Inf", "-Inf", "-1", "1e300", "9.3e18", "much"] {
            let mut lines: Vec<String> = TEXT.lines().map(str::to_owned).collect();
            for line in lines.iter_mut().filter(|line| !line.starts_with('#')) {
                let at = line.rfind(' ').expect("a number");
                line.replace_range(at + 1.., nonsense);
            }
            let metrics = Metrics::parse(&lines.join("\n"));
            assert_eq!(metrics, Metrics::default(), "{nonsense}");
            assert_eq!(metrics.fsyncs(None), None);
        }
        let half = Metrics::parse(&TEXT.replace("duration_seconds_sum 0.25", "duration_seconds_sum NaN"));
        assert_eq!((half.wal_fsyncs.mean(), half.fsyncs(None)), (None, None));
        assert_eq!(half.quota, Some(2_147_483_648), "the others are as they were");
    }

    #[test]
    fn peers_without_end_are_not_kept() {
        let line = |at: usize| format!("etcd_network_active_peers{{Local=\"a\",Remote=\"{at:x}\"}} 1\n");
        let metrics = Metrics::parse(&(0..10_000).map(line).collect::<String>());
        assert_eq!(metrics.active_peers.len(), MOST_PEERS);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[ -~\n]{0,200}") {
            Metrics::parse(&text);
        }

        #[test]
        fn whatever_is_measured_is_a_number(value in "([-+]?[0-9.]{0,20}(e[-+]?[0-9]{0,3})?|[-+]?(NaN|Inf|inf))", other in "[0-9]{1,3}") {
            let text = format!("etcd_disk_wal_fsync_duration_seconds_sum {value}\netcd_disk_wal_fsync_duration_seconds_count {other}\n\
                etcd_network_peer_round_trip_time_seconds_sum{{To=\"a\"}} {value}\netcd_network_peer_round_trip_time_seconds_count{{To=\"a\"}} {other}\n");
            let metrics = Metrics::parse(&text);
            let means = metrics.round_trips.values().chain([&metrics.wal_fsyncs]).filter_map(Durations::mean);
            prop_assert!(means.into_iter().all(|mean| mean.is_finite() && mean >= 0.0));
        }
    }
}
