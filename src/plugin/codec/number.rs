//! Numbers. go-cty's are decimal fractions of 512 bits; on the wire they are integers, doubles where those are
//! exact, and decimal text otherwise.

use crate::plugin::value::Number;

/// The number of a decimal text, in the smallest form that holds it exactly.
pub(super) fn from_text(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Number::Int(whole));
    }
    let fraction: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    // A double stands for its shortest decimal text, which is what was written, as a rule.
    if fraction.to_string() == text {
        Some(Number::Float(fraction))
    } else {
        Some(Number::Decimal(text.to_owned()))
    }
}

/// The number of a double that Terraform holds to be exact.
pub(super) fn from_double(double: f64) -> Option<Number> {
    if !double.is_finite() {
        None
    } else if let Some(whole) = as_whole(double) {
        Some(Number::Int(whole))
    } else if is_exact(double) {
        Some(Number::Float(double))
    } else {
        Some(Number::Decimal(exact_text(double)))
    }
}

/// The whole number that a double is, if it fits.
pub(super) fn as_whole(double: f64) -> Option<i64> {
    // 2^63 itself is a double, and the first that doesn't fit.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    #[allow(clippy::cast_possible_truncation)] // within the limits, and without a fraction
    (double.fract() == 0.0 && (-LIMIT..LIMIT).contains(&double)).then_some(double as i64)
}

/// Whether the shortest decimal text of a double is its whole truth (0.5 is, 0.1 isn't).
pub(super) fn is_exact(double: f64) -> bool {
    exact_text(double) == double.to_string()
}

fn exact_text(double: f64) -> String {
    // No double has more binary, and so decimal, places than this.
    let text = format!("{double:.1074}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_take_the_smallest_form() {
        assert_eq!(from_text("5"), Some(Number::Int(5)));
        assert_eq!(from_text("0.1"), Some(Number::Float(0.1)));
        let long = "0.1000000000000000055511151231257827021181583404541015625";
        assert_eq!(from_text(long), Some(Number::Decimal(long.into())));
        let large = "18446744073709551616";
        assert_eq!(from_text(large), Some(Number::Decimal(large.into())));
        assert_eq!(from_text("many"), None);
        assert_eq!(from_text("inf"), None);
    }

    #[test]
    fn doubles_are_taken_at_their_word() {
        assert_eq!(from_double(2.0), Some(Number::Int(2)));
        assert_eq!(from_double(0.5), Some(Number::Float(0.5)));
        assert!(matches!(from_double(0.1), Some(Number::Decimal(_))));
        assert_eq!(
            from_double(18_446_744_073_709_551_616.0),
            from_text("18446744073709551616")
        );
        assert_eq!(from_double(f64::NAN), None);
        assert_eq!(as_whole(-9_223_372_036_854_775_808.0), Some(i64::MIN));
        assert_eq!(as_whole(9_223_372_036_854_775_808.0), None);
    }
}
