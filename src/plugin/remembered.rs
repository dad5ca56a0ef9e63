//! Attributes that Terraform passes with the configuration and does not store. Pure.
//!
//! A block that takes a whole other object would have all of it in its state, and every plan would show it. Such an attribute is write-only
//! for Terraform: it is null in each plan and state. Between runs its value is in private state, which no plan shows. Before a block is
//! called [`recall`] puts the value in its place, and afterwards [`hide`] takes it out again, so blocks see it as any other attribute.
//! Terraform decides by what it sees whether there is something to change: a short computed text, the revision, changes with the value.
//!
//! State of an older version of the provider has the value itself. An upgrade of state has no private state, so [`carry`] puts the value
//! into a sensitive attribute until the next refresh or change.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::codec::{attributes_type, decode_state};
use super::path::{Path, Step};
use super::plan;
use super::schema::{Attribute, Kind, Remembered, Schema, Type};
use super::value::{Value, from_value};

/// How private state begins that has remembered values; they end with the line, and the block's own follows.
const WORD: &[u8] = b"remembered=";

/// The values of remembered attributes by name, as private state has them.
pub type Kept = BTreeMap<String, Json>;

/// A state as its block is to see it.
pub struct Recalled {
    /// With all values.
    pub state: Value,
    /// What of private state is the block's own.
    pub own: Vec<u8>,
    /// What was kept there of the values.
    pub kept: Kept,
    /// An attribute whose value is nowhere.
    pub missing: Option<&'static str>,
}

fn all(schema: &Schema) -> impl Iterator<Item = (&Attribute, Remembered)> {
    schema.attributes.iter().filter_map(|one| Some((one, one.remembered?)))
}

fn type_of(one: &Attribute) -> Type {
    match attributes_type(std::slice::from_ref(one)) {
        Type::Object(mut types) => types.remove(one.name).unwrap_or(Type::Dynamic),
        other => other,
    }
}

/// Whether a schema has such attributes.
#[must_use]
pub fn has_any(schema: &Schema) -> bool {
    all(schema).next().is_some()
}

/// Whether Terraform leaves the values out that the configuration has.
#[must_use]
pub fn are_left_out(schema: &Schema, config: &Value, value: &Value) -> bool {
    !value.is_null() && all(schema).any(|(one, _)| !config.get(one.name).is_null() && value.get(one.name).is_null())
}

/// Puts the values into a state: from private state, or as they were carried over.
#[must_use]
pub fn recall(schema: &Schema, mut state: Value, private: &[u8]) -> Recalled {
    let (kept, own) = open(private);
    let mut missing = None;
    if !state.is_null() {
        for (one, next) in all(schema) {
            let r#type = type_of(one);
            if state.get(one.name).is_null() {
                let carried = state.get(next.carried).as_str();
                let carried = carried.and_then(|text| serde_json::from_str(text).ok());
                let value = { [kept.get(one.name), carried.as_ref()] }
                    .into_iter()
                    .flatten()
                    .find_map(|json| decode_state(json, &r#type).ok())
                    .unwrap_or_default();
                if value.is_null() {
                    missing = Some(one.name);
                }
                state.set(one.name, value);
            }
            state.set(next.carried, Value::Null);
        }
    }
    Recalled {
        state,
        own,
        kept,
        missing,
    }
}

/// Puts the values of the configuration into a plan that has none.
pub fn take_from_configuration(schema: &Schema, planned: &mut Value, config: &Value) {
    if planned.is_null() {
        return;
    }
    for (one, next) in all(schema) {
        if planned.get(one.name).is_null() {
            let this = std::slice::from_ref(one);
            let mut value = Value::object([(one.name, config.get(one.name).clone())]);
            plan::fill_defaults(this, &mut value, config);
            plan::null_write_only(this, &mut value);
            planned.set(one.name, value.get(one.name).clone());
        }
        planned.set(next.carried, Value::Null);
    }
}

/// Sets the texts that represent the values: those of `before` where the value is the same.
pub fn revise(schema: &Schema, value: &mut Value, before: &[&Value]) {
    if value.is_null() {
        return;
    }
    for (one, next) in all(schema) {
        let now = value.get(one.name);
        let text = if now.is_null() {
            Value::Null
        } else if now.is_wholly_known() {
            revision(one, now, next.revision, before).into()
        } else {
            Value::Unknown
        };
        value.set(next.revision, text);
        value.set(next.carried, Value::Null);
    }
}

fn revision(one: &Attribute, now: &Value, named: &str, before: &[&Value]) -> String {
    let former = || { before.iter() }.filter_map(|before| Some((before.get(one.name), before.get(named).as_str()?)));
    if let Some((_, text)) = former().find(|(value, _)| *value == now) {
        return text.to_owned();
    }
    let text = |digits| summary(one, now, digits);
    let short = text(8);
    if former().any(|(_, former)| former == short) {
        return text(32);
    }
    short
}

/// Such as `main, 3 servers, 4f2a91c0`: its name, how many entries its maps of objects have, and a digest of all of it.
fn summary(one: &Attribute, value: &Value, digits: usize) -> String {
    let mut parts: Vec<String> = value.get("name").as_str().map(str::to_owned).into_iter().collect();
    if let Kind::Single(attributes) = &one.kind {
        for map in attributes.iter().filter(|nested| matches!(nested.kind, Kind::Map(_))) {
            let count = value.get(map.name).as_map().map_or(0, BTreeMap::len);
            let name = if count == 1 {
                map.name.trim_end_matches('s')
            } else {
                map.name
            };
            parts.push(format!("{count} {name}"));
        }
    }
    let text = without_nulls(json(value)).to_string();
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.push(digest[..digits].to_owned());
    parts.join(", ")
}

/// Fractions are texts: JSON's way of reading them loses the last digit.
fn json(value: &Value) -> Json {
    fn exact(json: Json) -> Json {
        match json {
            Json::Number(number) if number.is_f64() => number.to_string().into(),
            Json::Array(items) => items.into_iter().map(exact).collect(),
            Json::Object(entries) => { entries.into_iter() }
                .map(|(name, value)| (name, exact(value)))
                .collect(),
            other => other,
        }
    }
    exact(from_value(value).unwrap_or_default())
}

/// A newer version of the provider may know more attributes, which are null.
fn without_nulls(json: Json) -> Json {
    match json {
        Json::Array(items) => items.into_iter().map(without_nulls).collect(),
        Json::Object(entries) => { entries.into_iter() }
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        other => other,
    }
}

/// Takes the values out of a plan or state; gives back what was taken.
pub fn hide(schema: &Schema, value: &mut Value) -> Kept {
    let mut kept = Kept::new();
    if value.is_null() {
        return kept;
    }
    for (one, _) in all(schema) {
        let taken = value.get(one.name);
        if !taken.is_null() {
            kept.insert(one.name.to_owned(), json(&taken.unknown_as_null()));
        }
        value.set(one.name, Value::Null);
    }
    kept
}

/// Takes the values out of an older state into what carries them over.
pub fn carry(schema: &Schema, state: &mut Value) {
    if state.is_null() {
        return;
    }
    revise_those_there(schema, state);
    for (name, json) in hide(schema, state) {
        if let Some((_, next)) = all(schema).find(|(one, _)| one.name == name) {
            state.set(next.carried, json.to_string());
        }
    }
}

/// A plan that changes nothing leaves what was carried over where it is.
pub fn leave_carried(schema: &Schema, stored: &Value, planned: &mut Value) {
    let carries = |(_, next): &(&Attribute, Remembered)| !stored.get(next.carried).is_null();
    if all(schema).any(|one| carries(&one)) {
        let mut same = planned.clone();
        for (_, next) in all(schema) {
            same.set(next.carried, stored.get(next.carried).clone());
        }
        if plan::same(&attributes_type(&schema.attributes), stored, &same) {
            *planned = same;
        }
    }
}

fn revise_those_there(schema: &Schema, state: &mut Value) {
    let before = state.clone();
    revise(schema, state, &[&before]);
    for (one, next) in all(schema) {
        if before.get(one.name).is_null() {
            for name in [next.revision, next.carried] {
                state.set(name, before.get(name).clone());
            }
        }
    }
}

/// Private state with these values and what is the block's own.
#[must_use]
pub fn seal(kept: &Kept, own: &[u8]) -> Vec<u8> {
    if kept.is_empty() {
        return own.to_vec();
    }
    let json = serde_json::to_vec(kept).unwrap_or_default();
    [WORD, STANDARD.encode(json).as_bytes(), b"\n", own].concat()
}

fn open(private: &[u8]) -> (Kept, Vec<u8>) {
    let sealed = private.strip_prefix(WORD);
    let parts = sealed.and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        Some((&rest[..end], &rest[end + 1..]))
    });
    let Some((line, own)) = parts else {
        return (Kept::new(), private.to_vec());
    };
    let json = STANDARD.decode(line).ok();
    let kept = json.and_then(|json| serde_json::from_slice(&json).ok());
    (kept.unwrap_or_default(), own.to_vec())
}

/// All texts that represent the values of a state; none where it has none.
#[must_use]
pub fn revision_of(schema: &Schema, state: &Value) -> Option<String> {
    let texts: Vec<&str> = all(schema)
        .filter_map(|(_, next)| state.get(next.revision).as_str())
        .collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// The values of a state alone.
#[must_use]
pub fn only(schema: &Schema, state: &Value) -> Value {
    let values = all(schema).map(|(one, _)| (one.name.to_owned(), state.get(one.name).clone()));
    Value::Map(values.collect())
}

/// A state or configuration with these values where it has none.
#[must_use]
pub fn with(schema: &Schema, mut state: Value, values: &Value) -> Value {
    for (one, _) in all(schema) {
        if state.get(one.name).is_null() {
            state.set(one.name, values.get(one.name).clone());
        }
    }
    state
}

/// The path that Terraform sees in the place of one in a value that it doesn't.
#[must_use]
pub fn visible(schema: &Schema, path: Path) -> Path {
    let Some(Step::Attribute(first)) = path.steps().first() else {
        return path;
    };
    match all(schema).find(|(one, _)| one.name == first) {
        Some((_, next)) => Path::of(next.revision),
        None => path,
    }
}

#[cfg(test)]
mod tests;
