//! The `timeouts` attribute that the resources share.

use std::time::Duration;

use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;

/// The schema of `timeouts` with these operations.
pub fn attribute(operations: &[(&'static str, &'static str)]) -> Attribute {
    let attributes = operations
        .iter()
        .map(|(name, description)| Attribute::string(name).describe(description))
        .collect();
    Attribute::object("timeouts", attributes)
        .describe("How long operations may take, as durations such as `90s` or `10m`.")
}

/// The time-out of an operation, or its default.
pub fn get(block: &Value, operation: &str, default: Duration) -> Duration {
    block
        .at(&["timeouts", operation])
        .as_str()
        .and_then(|text| humantime::parse_duration(text).ok())
        .unwrap_or(default)
}

/// Checks that the time-outs are durations.
pub fn validate(config: &Value) -> Diagnostics {
    let Some(timeouts) = config.get("timeouts").as_map() else {
        return Diagnostics::new();
    };
    timeouts
        .iter()
        .filter_map(|(operation, value)| {
            let text = value.as_str()?;
            let error = humantime::parse_duration(text).err()?;
            Some(
                Diagnostic::error(
                    "Invalid time-out",
                    format!(
                        "{text:?} is not a duration ({error}). Write a number with a unit, such as \"90s\" or \"10m\"."
                    ),
                )
                .at(Path::of("timeouts").attribute(operation)),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_nonsense_is_named() {
        let block = |text: &str| Value::object([("timeouts", Value::object([("create", text.into())]))]);
        assert_eq!(get(&block("90s"), "create", Duration::ZERO), Duration::from_secs(90));
        assert_eq!(
            get(&block("90s"), "delete", Duration::from_secs(5)),
            Duration::from_secs(5)
        );
        let wrong = validate(&block("soon"));
        assert!(
            wrong
                .iter()
                .next()
                .unwrap()
                .detail
                .starts_with("\"soon\" is not a duration")
        );
        assert!(validate(&block("10m")).is_empty());
    }
}
