//! What servers say that they measured. A server may say anything: what makes no sense was not measured.

/// The longest time that anything here may have taken: a day, in ms.
const LONGEST_MS: f64 = 86_400_000.0;

/// A time in ms, if it is one.
#[must_use]
pub fn milliseconds(text: &str) -> Option<f64> {
    let ms: f64 = text.trim().parse().ok()?;
    (0.0..=LONGEST_MS).contains(&ms).then_some(ms)
}

/// A time in seconds, in ms.
#[must_use]
pub fn seconds(text: &str) -> Option<f64> {
    let seconds: f64 = text.trim().parse().ok()?;
    let ms = seconds * 1000.0;
    (0.0..=LONGEST_MS).contains(&ms).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_makes_no_sense_was_not_measured() {
        assert_eq!((milliseconds("25.4"), seconds("0.25")), (Some(25.4), Some(250.0)));
        for nonsense in [
            "NaN", "nan", "inf", "-inf", "Infinity", "-1", "1e300", "1e9", "", "fast",
        ] {
            assert_eq!((milliseconds(nonsense), seconds(nonsense)), (None, None), "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_time(text in "([-+]?[0-9.]{0,6}(e[-+]?[0-9]{0,3})?|[-+]?(nan|inf|NaN|infinity))") {
            for ms in [milliseconds(&text), seconds(&text)].into_iter().flatten() {
                prop_assert!(ms.is_finite() && ms >= 0.0 && std::time::Duration::try_from_secs_f64(ms / 1000.0).is_ok());
            }
        }
    }
}
