//! The `timeouts` attribute that the resources share.

use std::time::Duration;

use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::path::Path;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;
use crate::resource::durations::WAIT;

/// The schema of `timeouts` with these operations.
pub fn attribute(operations: &[(&'static str, &'static str)]) -> Attribute {
    let attributes = operations
        .iter()
        .map(|(name, description)| Attribute::string(name).describe(description))
        .collect();
    Attribute::object("timeouts", attributes)
        .describe("How long operations may take, as durations such as `90s` or `10m`, from `1s` to `7d`.")
}

/// The time-out of an operation, or its default.
pub fn get(block: &Value, operation: &str, default: Duration) -> Duration {
    block
        .at(&["timeouts", operation])
        .as_str()
        .and_then(|text| WAIT.parse(text).ok())
        .unwrap_or(default)
}

/// Checks that the time-outs are durations within bounds.
pub fn validate(config: &Value) -> Diagnostics {
    let Some(timeouts) = config.get("timeouts").as_map() else {
        return Diagnostics::new();
    };
    timeouts
        .iter()
        .filter_map(|(operation, value)| {
            let at = Path::of("timeouts").attribute(operation);
            WAIT.read(value.as_str()?, "Invalid time-out", at).err()
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
        let long = validate(&block("584554530872y"));
        assert!(long.iter().next().unwrap().detail.contains("from 1s to 7d"));
        // One of a state that was written before there were bounds.
        assert_eq!(get(&block("584554530872y"), "create", Duration::ZERO), Duration::ZERO);
    }
}
