//! Values to and from Terraform's `DynamicValue`, guided by types as go-cty's own encoding is.

mod json;
mod msgpack;
mod number;
mod types;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use json::from_json;
pub use types::{attributes_type, type_from_json, type_to_json};

use super::path::Path;
use super::proto::tfplugin6::DynamicValue;
use super::schema::Type;
use super::value::Value;

/// Why a value can't be read or written. Tells the form, never the value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The value is of another type.
    #[error("{path}: {expected} was expected, but there is {found}")]
    Mismatch {
        /// Where it is.
        path: Place,
        /// What the type asks for.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// There is an attribute that the type doesn't have.
    #[error("{path}: there is no attribute {name:?}")]
    UnknownAttribute {
        /// The object that it is in.
        path: Place,
        /// Its name.
        name: String,
    },
    /// A number that is none.
    #[error("{0}: not a number")]
    Number(Place),
    /// A type constraint that go-cty doesn't know.
    #[error("{0}: not a type constraint")]
    Type(Place),
    /// The bytes are not msgpack, or not JSON.
    #[error("not {0}")]
    Encoding(&'static str),
}

/// Where in a value; the value itself where the path is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(pub Path);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.steps().is_empty() {
            f.write_str("value")
        } else {
            self.0.fmt(f)
        }
    }
}

/// Reads a value of a type. A message without any bytes is null.
///
/// # Errors
/// If the bytes aren't what they should be, or the value isn't of the type.
pub fn decode(message: &DynamicValue, r#type: &Type) -> Result<Value, CodecError> {
    if !message.msgpack.is_empty() {
        msgpack::decode(&message.msgpack, r#type)
    } else if !message.json.is_empty() {
        let json = serde_json::from_slice(&message.json).map_err(|_| CodecError::Encoding("JSON"))?;
        from_json(&json, r#type, json::Extra::Refuse)
    } else {
        Ok(Value::Null)
    }
}

/// The same, where the whole message may be absent.
///
/// # Errors
/// As [`decode`].
pub fn decode_optional(message: Option<&DynamicValue>, r#type: &Type) -> Result<Value, CodecError> {
    message.map_or(Ok(Value::Null), |message| decode(message, r#type))
}

/// Reads stored state, which may be of an older schema: attributes that the type doesn't have are dropped, those
/// that are missing become null.
///
/// # Errors
/// If an attribute is there but of another type.
pub fn decode_state(json: &serde_json::Value, r#type: &Type) -> Result<Value, CodecError> {
    from_json(json, r#type, json::Extra::Drop)
}

/// Reads what a user wrote in JSON: what is missing becomes null, and what the type doesn't have is an error.
///
/// # Errors
/// If it is not of the type.
pub fn decode_given(json: &serde_json::Value, r#type: &Type) -> Result<Value, CodecError> {
    from_json(json, r#type, json::Extra::Refuse)
}

/// Writes a value of a type, as msgpack.
///
/// # Errors
/// If the value isn't of the type.
pub fn encode(value: &Value, r#type: &Type) -> Result<DynamicValue, CodecError> {
    Ok(DynamicValue {
        msgpack: Bytes::from(msgpack::encode(value, r#type)?),
        json: Bytes::new(),
    })
}

/// What a value is, in words.
fn form(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Unknown => "an unknown value",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::List(_) => "a list",
        Value::Map(_) => "a map or object",
    }
}

/// What a type asks for, in words.
fn expectation(r#type: &Type) -> &'static str {
    match r#type {
        Type::Bool => "a bool",
        Type::Number => "a number",
        Type::String => "a string",
        Type::Dynamic => "a value with its type",
        Type::List(_) => "a list",
        Type::Set(_) => "a set",
        Type::Map(_) => "a map",
        Type::Object(_) => "an object",
        Type::Tuple(_) => "a tuple",
    }
}
