//! etcd's heartbeat interval and election timeout, from the round trips between servers.

/// etcd's own defaults, which fit members that are close to each other.
pub const DEFAULT: Timing = Timing {
    heartbeat_ms: 100,
    election_ms: 1000,
};
/// etcd refuses to start with a longer election timeout (`embed/config.go`).
pub const LONGEST_ELECTION_MS: u32 = 50_000;
/// etcd refuses to start with an election timeout of fewer heartbeats (`embed/config.go`).
pub const HEARTBEATS_IN_ELECTION: u32 = 5;

/// How often the leader says that it is there, and how long a follower waits for that. The same on all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The heartbeat interval in ms.
    pub heartbeat_ms: u32,
    /// The election timeout in ms.
    pub election_ms: u32,
}

impl Timing {
    /// By etcd's rule (its guide on tuning): a heartbeat about as long as the longest round trip, an election timeout ten times as
    /// long or more; never below the defaults, and never above what etcd starts with.
    #[must_use]
    pub fn for_round_trip(longest_ms: f64) -> Self {
        let limit = f64::from(LONGEST_ELECTION_MS / HEARTBEATS_IN_ELECTION);
        // A measurement that makes no sense is none.
        let longest = if longest_ms.is_finite() {
            longest_ms.clamp(0.0, limit)
        } else {
            0.0
        };
        let heartbeat = rounded(longest, 10);
        let election = rounded_up(10.0 * longest, 100);
        Self {
            heartbeat_ms: heartbeat.max(DEFAULT.heartbeat_ms),
            election_ms: election.clamp(DEFAULT.election_ms, LONGEST_ELECTION_MS),
        }
    }

    /// The longer of both, each for itself.
    #[must_use]
    pub fn or_longer(self, other: Self) -> Self {
        Self {
            heartbeat_ms: self.heartbeat_ms.max(other.heartbeat_ms),
            election_ms: self.election_ms.max(other.election_ms),
        }
    }

    /// With what the user chose in the place of what was computed; the other one follows as far as etcd needs it to.
    #[must_use]
    pub fn with(self, heartbeat_ms: Option<u32>, election_ms: Option<u32>) -> Self {
        match (heartbeat_ms, election_ms) {
            (Some(heartbeat_ms), Some(election_ms)) => Self {
                heartbeat_ms,
                election_ms,
            },
            (Some(heartbeat_ms), None) => Self {
                heartbeat_ms,
                election_ms: self
                    .election_ms
                    .max(heartbeat_ms.saturating_mul(10))
                    .min(LONGEST_ELECTION_MS),
            },
            (None, Some(election_ms)) => Self {
                heartbeat_ms: self.heartbeat_ms.min(election_ms / HEARTBEATS_IN_ELECTION),
                election_ms,
            },
            (None, None) => self,
        }
    }
}

/// To the nearest multiple.
fn rounded(ms: f64, multiple: u32) -> u32 {
    to_u32((ms / f64::from(multiple)).round()) * multiple
}

/// To the next multiple.
fn rounded_up(ms: f64, multiple: u32) -> u32 {
    to_u32((ms / f64::from(multiple)).ceil()) * multiple
}

/// Of a number that is small and not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_u32(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timing(heartbeat_ms: u32, election_ms: u32) -> Timing {
        Timing {
            heartbeat_ms,
            election_ms,
        }
    }

    #[test]
    fn members_that_are_close_keep_the_defaults() {
        for ms in [0.0, 0.4, 25.0, 99.9, f64::NAN, -1.0] {
            assert_eq!(Timing::for_round_trip(ms), DEFAULT, "{ms} ms");
        }
    }

    #[test]
    fn members_that_are_far_apart_get_longer_ones() {
        assert_eq!(Timing::for_round_trip(100.4), timing(100, 1100));
        assert_eq!(Timing::for_round_trip(151.0), timing(150, 1600));
        assert_eq!(Timing::for_round_trip(200.0), timing(200, 2000));
        assert_eq!(Timing::for_round_trip(1e9), timing(10_000, 50_000));
    }

    #[test]
    fn what_the_user_chose_stands_and_the_other_one_follows() {
        let measured = Timing::for_round_trip(200.0);
        assert_eq!(measured.with(None, None), measured);
        assert_eq!(measured.with(Some(500), None), timing(500, 5000));
        assert_eq!(measured.with(Some(150), None), timing(150, 2000));
        assert_eq!(measured.with(None, Some(800)), timing(160, 800));
        assert_eq!(measured.with(Some(50), Some(300)), timing(50, 300));
        assert_eq!(DEFAULT.with(Some(9000), None), timing(9000, 50_000));
    }

    proptest! {
        #[test]
        fn etcd_starts_with_it_and_its_rule_holds(ms in 0.0_f64..20_000.0, heartbeat in prop::option::of(1_u32..=10_000)) {
            let computed = Timing::for_round_trip(ms);
            let Timing { heartbeat_ms, election_ms } = computed.with(heartbeat, None);
            prop_assert!(election_ms <= LONGEST_ELECTION_MS);
            prop_assert!(election_ms >= HEARTBEATS_IN_ELECTION * heartbeat_ms);
            prop_assert!(computed.heartbeat_ms >= DEFAULT.heartbeat_ms && election_ms >= DEFAULT.election_ms);
            if ms <= 5000.0 {
                prop_assert!(f64::from(election_ms) >= 10.0 * ms);
            }
            if (100.0..10_000.0).contains(&ms) {
                prop_assert!((0.5..=1.5).contains(&(f64::from(computed.heartbeat_ms) / ms)));
            }
        }
    }
}
