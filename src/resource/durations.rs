//! Durations in configurations, and how long each may be. A shorter one makes no sense there, and a longer one would be beyond what clocks and
//! calendars can count.

use std::fmt;
use std::time::Duration;

use crate::plugin::diagnostics::Diagnostic;
use crate::plugin::path::Path;

/// How long something may be.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    shortest: (&'static str, u64),
    longest: (&'static str, u64),
    example: &'static str,
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// How long an operation or an answer may take.
pub const WAIT: Range = Range {
    shortest: ("1s", 1),
    longest: ("7d", 7 * DAY),
    example: "90s",
};
/// How long one attempt to connect may take.
pub const CONNECT: Range = Range {
    shortest: ("1s", 1),
    longest: ("1h", HOUR),
    example: "15s",
};
/// How often a sign of life is sent. SSH counts it in seconds, and a connection is given up after three.
pub const KEEP_ALIVE: Range = Range {
    shortest: ("1s", 1),
    longest: ("1h", HOUR),
    example: "15s",
};
/// How long a client's certificate is good for: no longer than the authorities that the provider makes.
pub const LIFETIME: Range = Range {
    shortest: ("1m", 60),
    longest: ("3650d", 3650 * DAY),
    example: "720h",
};
/// How long before its end a client's certificate is renewed.
pub const RENEWAL: Range = Range {
    shortest: ("0s", 0),
    longest: ("3650d", 3650 * DAY),
    example: "240h",
};
/// How long before its end a member's certificate is renewed: half of its year at most.
pub const MEMBER_RENEWAL: Range = Range {
    shortest: ("0s", 0),
    longest: ("182d", 182 * DAY),
    example: "720h",
};

impl Range {
    /// The duration of a text.
    ///
    /// # Errors
    /// Why it is none that may be here.
    pub fn parse(&self, text: &str) -> Result<Duration, String> {
        let parsed = humantime::parse_duration(text).map_err(|error| {
            let example = self.example;
            format!("{text:?} is not a duration ({error}). Write a number with a unit, such as \"{example}\": {self}.")
        })?;
        let (shortest, longest) = (
            Duration::from_secs(self.shortest.1),
            Duration::from_secs(self.longest.1),
        );
        if (shortest..=longest).contains(&parsed) {
            Ok(parsed)
        } else if parsed < shortest {
            Err(format!("{text:?} is too short: {self}."))
        } else {
            Err(format!("{text:?} is too long: {self}."))
        }
    }

    /// As [`Self::parse`], with the error on an attribute.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read(&self, text: &str, summary: &str, at: Path) -> Result<Duration, Diagnostic> {
        self.parse(text).map_err(|why| Diagnostic::error(summary, why).at(at))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it has to be from {} to {}", self.shortest.0, self.longest.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::OffsetDateTime;

    const ALL: [Range; 6] = [WAIT, CONNECT, KEEP_ALIVE, LIFETIME, RENEWAL, MEMBER_RENEWAL];

    #[test]
    fn bounds_are_what_they_say() {
        for range in ALL {
            for (text, seconds) in [range.shortest, range.longest] {
                assert_eq!(range.parse(text), Ok(Duration::from_secs(seconds)));
            }
            let over = format!("{} 1ms", range.longest.0);
            assert!(range.parse(&over).unwrap_err().contains("too long: it has to be from"));
            assert!(range.parse(range.example).is_ok());
        }
        assert_eq!(
            KEEP_ALIVE.parse("500ms").unwrap_err(),
            "\"500ms\" is too short: it has to be from 1s to 1h."
        );
        assert!(
            WAIT.parse("soon")
                .unwrap_err()
                .starts_with("\"soon\" is not a duration (")
        );
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_be_counted(text in "([0-9]{1,25} ?(ns|us|ms|s|sec|m|min|h|hr|d|day|days|w|month|y|year|years)? ?){1,3}|.{0,20}") {
            for range in ALL {
                let Ok(duration) = range.parse(&text) else { continue };
                let now = OffsetDateTime::now_utc();
                let long = time::Duration::try_from(duration).expect("it fits");
                prop_assert!(now.checked_add(long).and_then(|then| then.checked_add(long)).is_some());
                prop_assert!(std::time::Instant::now().checked_add(duration * 1000).is_some());
                prop_assert!(u32::try_from(duration.as_millis() / 1000).is_ok());
            }
        }
    }
}
