//! What a machine's clock says, from a script that prints `date_first=$(date +%s.%N)` at its begin and `date_last=…` at its end. PURE.

use std::time::{SystemTime, UNIX_EPOCH};

use super::output::Output;

/// The end of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// A machine's clock against ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// The machine's clock minus ours, in milliseconds.
    pub ms: i64,
    /// How much of that may be wrong: half of what the answer took on its way, and a second where the machine's `date` knows no parts of one.
    pub uncertainty_ms: i64,
}

impl ClockOffset {
    /// From what the script printed and when the answer was there by our clock. `None` if there are no dates in it.
    ///
    /// What the answer took besides the script's own run was spent on the way, half of it in each direction.
    pub fn of(output: &Output, received: SystemTime) -> Option<Self> {
        let (first, _) = output.value("date_first").and_then(milliseconds)?;
        let (last, exact) = output.value("date_last").and_then(milliseconds)?;
        let elapsed = i64::try_from(output.elapsed.as_millis()).unwrap_or(i64::MAX);
        let one_way = elapsed.saturating_sub(last.saturating_sub(first).max(0)).max(0) / 2;
        let ours = received
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        let coarse = if exact { 0 } else { 1000 };
        Some(Self {
            ms: last.saturating_sub(ours.saturating_sub(one_way)),
            uncertainty_ms: one_way + coarse + 1,
        })
    }
}

/// `1700000000.123456789`, or with anything but digits behind the point. The flag says whether there were parts of a second.
fn milliseconds(date: &str) -> Option<(i64, bool)> {
    let (seconds, fraction) = date.trim().split_once('.').unwrap_or((date.trim(), ""));
    // A clock that is beyond this is none, and would not fit into what is computed of it.
    let seconds: i64 = seconds
        .parse()
        .ok()
        .filter(|seconds| (0..=LAST_SECOND).contains(seconds))?;
    let exact = fraction.len() >= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = if exact { fraction[..3].parse().ok()? } else { 0 };
    Some((seconds * 1000 + fraction, exact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn no_date_is_out_of_bounds(first in "[-+0-9.N%]{0,24}", last in "[-+0-9.N%]{0,24}", elapsed in any::<u64>()) {
            let mut output = Output::of_answers(&format!("date_first={first}\ndate_last={last}\n"));
            output.elapsed = Duration::from_millis(elapsed);
            for received in [UNIX_EPOCH, SystemTime::now(), UNIX_EPOCH + Duration::from_secs(1 << 40)] {
                if let Some(offset) = ClockOffset::of(&output, received) {
                    prop_assert!(offset.ms.checked_abs().is_some() && offset.uncertainty_ms > 0);
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_none_is_not_compared() {
        assert_eq!(milliseconds("9223372036854775.999"), None);
        assert_eq!(milliseconds("-9223372036854775.0"), None);
        assert_eq!(milliseconds("0.5"), Some((0, false)));
        assert_eq!(milliseconds("253402300799.999"), Some((253_402_300_799_999, true)));
    }
}
