//! Terraform's values, with null and unknown as they are, and their way into typed structures and back.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of Terraform's: whole, fractional, or too large for either.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// A fraction.
    Float(f64),
    /// Decimal digits that fit in neither.
    Decimal(String),
}

/// A value of Terraform's. Its `Debug` shows the shape only: values may be secrets.
#[derive(Clone, Default, PartialEq)]
pub enum Value {
    /// Not set.
    #[default]
    Null,
    /// Known after apply.
    Unknown,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    String(String),
    /// A list, set or tuple.
    List(Vec<Value>),
    /// A map or an object.
    Map(BTreeMap<String, Value>),
}

static NULL: Value = Value::Null;

impl Value {
    /// The attribute or element of this name; null where there is none.
    pub fn get(&self, name: &str) -> &Value {
        match self {
            Value::Map(entries) => entries.get(name).unwrap_or(&NULL),
            _ => &NULL,
        }
    }

    /// The value at the end of these names; null where the way ends before.
    pub fn at(&self, names: &[&str]) -> &Value {
        names.iter().fold(self, |value, name| value.get(name))
    }

    /// Sets an attribute of an object; does nothing to what is no object.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Value::Map(entries) = self {
            entries.insert(name.to_owned(), value.into());
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether it is unknown itself.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Value::Unknown)
    }

    /// Whether nothing in it is unknown.
    pub fn is_wholly_known(&self) -> bool {
        match self {
            Value::Unknown => false,
            Value::List(items) => items.iter().all(Value::is_wholly_known),
            Value::Map(entries) => entries.values().all(Value::is_wholly_known),
            _ => true,
        }
    }

    /// The same with null in the place of everything that is not known yet.
    #[must_use]
    pub fn unknown_as_null(&self) -> Value {
        match self {
            Value::Unknown => Value::Null,
            Value::List(items) => Value::List(items.iter().map(Value::unknown_as_null).collect()),
            Value::Map(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(name, value)| (name.clone(), value.unknown_as_null()))
                    .collect(),
            ),
            known => known.clone(),
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(Number::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The elements, if it is a list, set or tuple.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries, if it is a map or an object.
    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// An object of these attributes.
    pub fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Value::Map(
            entries
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Unknown => f.write_str("unknown"),
            Value::Bool(_) => f.write_str("bool"),
            Value::Number(_) => f.write_str("number"),
            Value::String(_) => f.write_str("string"),
            Value::List(items) => f.debug_list().entries(items).finish(),
            Value::Map(entries) => f.debug_map().entries(entries).finish(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Number(Number::Int(number))
    }
}

/// What is no number is unknown to whoever measured it: null. Terraform would refuse all of the answer that it is in.
impl From<f64> for Value {
    fn from(number: f64) -> Self {
        if number.is_finite() {
            Value::Number(Number::Float(number))
        } else {
            Value::Null
        }
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Value::List(items)
    }
}

impl From<BTreeMap<String, Value>> for Value {
    fn from(entries: BTreeMap<String, Value>) -> Self {
        Value::Map(entries)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// A value that may be null or not known yet, for structures that are read from a configuration or a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attr<T> {
    /// Not set.
    #[default]
    Null,
    /// Known after apply.
    Unknown,
    /// Set and known.
    Known(T),
}

impl<T> Attr<T> {
    /// The value, if it is set and known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Attr::Known(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is unknown.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Attr::Unknown)
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Attr::Null)
    }
}

/// How unknown travels through serde: an object with this one key, which no Terraform name can be.
const UNKNOWN: &str = "\u{0}unknown";

/// Why a value does not have the form of a structure.
#[derive(Debug, thiserror::Error)]
#[error("the value does not have the expected form: {0}")]
pub struct FormError(#[from] serde_json::Error);

/// Reads a structure from a value. Unknown fits only in [`Attr`] fields.
///
/// # Errors
/// If the value does not have the structure's form.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, FormError> {
    Ok(serde_json::from_value(to_json(value))?)
}

/// Makes a value of a structure.
///
/// # Errors
/// If the structure has something that Terraform has no value for, such as a map whose keys are no strings.
pub fn to_value<T: Serialize>(structure: &T) -> Result<Value, FormError> {
    Ok(from_json(serde_json::to_value(structure)?))
}

fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Null => Json::Null,
        Value::Unknown => serde_json::json!({ UNKNOWN: true }),
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Number(Number::Int(number)) => (*number).into(),
        Value::Number(Number::Float(number)) => (*number).into(),
        Value::Number(Number::Decimal(digits)) => Json::String(digits.clone()),
        Value::String(text) => Json::String(text.clone()),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(name, value)| (name.clone(), to_json(value)))
            .collect(),
    }
}

fn from_json(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => Value::Number(match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Number::Int(whole),
            (None, Some(fraction)) => Number::Float(fraction),
            (None, None) => Number::Decimal(number.to_string()),
        }),
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        Json::Object(entries) if entries.contains_key(UNKNOWN) => Value::Unknown,
        Json::Object(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(name, value)| (name, from_json(value)))
                .collect(),
        ),
    }
}

impl<T: Serialize> Serialize for Attr<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Attr::Null => serializer.serialize_none(),
            Attr::Unknown => BTreeMap::from([(UNKNOWN, true)]).serialize(serializer),
            Attr::Known(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Attr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = serde_json::Value::deserialize(deserializer)?;
        if json.is_null() {
            return Ok(Attr::Null);
        }
        if json.get(UNKNOWN).is_some() {
            return Ok(Attr::Unknown);
        }
        serde_json::from_value(json)
            .map(Attr::Known)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Example {
        name: String,
        port: Attr<u16>,
        address: Option<String>,
    }

    #[test]
    fn structures_keep_null_and_unknown() {
        let value = Value::object([
            ("name", "a1".into()),
            ("port", Value::Unknown),
            ("address", Value::Null),
        ]);
        let example: Example = from_value(&value).unwrap();
        assert_eq!(
            example,
            Example {
                name: "a1".into(),
                port: Attr::Unknown,
                address: None
            }
        );
        assert_eq!(to_value(&example).unwrap(), value);
    }

    #[test]
    fn unknown_does_not_fit_in_a_plain_field() {
        let value = Value::object([("name", Value::Unknown), ("port", 1.into()), ("address", Value::Null)]);
        assert!(from_value::<Example>(&value).is_err());
    }

    #[test]
    fn debug_shows_no_values() {
        assert_eq!(
            format!("{:?}", Value::object([("key", "secret".into())])),
            r#"{"key": string}"#
        );
    }
}
