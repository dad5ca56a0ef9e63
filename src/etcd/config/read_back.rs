//! The user's options out of a configuration file: what [`super::render`] was given as `extra`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::version::Version;
use super::super::yaml;
use super::known::{KNOWN, Kind};
use super::options::owned_option;
use super::{FEATURE_GATES, defaults};

/// The options in `text` that are neither the provider's own nor its defaults, as a user would write them.
#[must_use]
pub fn extra_options(text: &str, version: &Version) -> BTreeMap<String, String> {
    let file = yaml::options(text).unwrap_or_default();
    let ours: BTreeMap<&str, Value> = defaults(version.minor()).into_iter().collect();
    let options = file.iter().filter_map(|(key, value)| {
        let kind = KNOWN.iter().find(|known| known.key == key.as_str())?.kind;
        if owned_option(key).is_some() || ours.get(key.as_str()) == Some(value) {
            return None;
        }
        let mut text = written(kind, value)?;
        if let (FEATURE_GATES, Some(ours)) = (key.as_str(), ours.get(key.as_str()).and_then(Value::as_str)) {
            text = without(&text, ours);
        }
        Some((key.clone(), text))
    });
    options.collect()
}

/// An option of a file as a flag would have it.
#[must_use]
pub fn written_option(key: &str, value: &Value) -> String {
    let kind = KNOWN
        .iter()
        .find(|known| known.key == key)
        .map_or(Kind::Text, |known| known.kind);
    written(kind, value).unwrap_or_default()
}

fn written(kind: Kind, value: &Value) -> Option<String> {
    match (kind, value) {
        (Kind::Duration, Value::Number(number)) => Some(duration(number.as_u64()?)),
        (_, Value::Array(entries)) => {
            let entries: Option<Vec<&str>> = entries.iter().map(Value::as_str).collect();
            Some(entries?.join(","))
        }
        (_, Value::Bool(flag)) => Some(flag.to_string()),
        (_, Value::Number(number)) => Some(number.to_string()),
        (_, value) => value.as_str().map(str::to_owned),
    }
}

/// In the largest unit of which it is a multiple.
fn duration(nanoseconds: u64) -> String {
    let units = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    let fits = units
        .into_iter()
        .find(|(scale, _)| nanoseconds > 0 && nanoseconds.is_multiple_of(*scale));
    fits.map_or_else(
        || format!("{nanoseconds}ns"),
        |(scale, unit)| format!("{}{unit}", nanoseconds / scale),
    )
}

/// The gates that are not ours.
fn without(gates: &str, ours: &str) -> String {
    let ours: Vec<&str> = ours.split(',').collect();
    gates
        .split(',')
        .filter(|gate| !ours.contains(gate))
        .collect::<Vec<_>>()
        .join(",")
}
