//! What a machine's clock says, from a script that prints `date_first=$(date +%s.%N)` at its begin and `date_last=…` at its end. PURE.

use std::time::{SystemTime, UNIX_EPOCH};

use super::output::Output;

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
    let seconds: i64 = seconds.parse().ok()?;
    let exact = fraction.len() >= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = if exact { fraction[..3].parse().ok()? } else { 0 };
    Some((seconds.checked_mul(1000)? + fraction, exact))
}
