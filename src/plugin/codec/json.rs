//! go-cty's JSON, in which Terraform stores state.

use serde_json::Value as Json;

use super::number::from_text;
use super::{CodecError, Place, expectation, type_from_json};
use crate::plugin::path::Path;
use crate::plugin::schema::Type;
use crate::plugin::value::{Number, Value};

/// What becomes of attributes that the type doesn't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// They are an error.
    Refuse,
    /// They are left out: state of an older schema has them.
    Drop,
}

/// Reads a value of a type from JSON.
///
/// As in go-cty, primitive types convert into each other where nothing is lost: `"1"` is a number, `1` a string.
///
/// # Errors
/// If the JSON isn't of the type.
pub fn from_json(json: &Json, r#type: &Type, extra: Extra) -> Result<Value, CodecError> {
    read(json, r#type, extra, &Path::root())
}

fn read(json: &Json, r#type: &Type, extra: Extra, path: &Path) -> Result<Value, CodecError> {
    let mismatch = || CodecError::Mismatch {
        path: Place(path.clone()),
        expected: expectation(r#type),
        found: json_form(json),
    };
    match (json, r#type) {
        (Json::Null, _) => Ok(Value::Null),
        (Json::Object(pair), Type::Dynamic) => {
            let told = pair.get("type").ok_or_else(|| CodecError::Type(Place(path.clone())))?;
            read(
                pair.get("value").unwrap_or(&Json::Null),
                &type_from_json(told)?,
                extra,
                path,
            )
        }
        (Json::Bool(truth), Type::Bool) => Ok(Value::Bool(*truth)),
        (Json::String(text), Type::Bool) => match text.as_str() {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(mismatch()),
        },
        (Json::String(text), Type::String) => Ok(Value::String(text.clone())),
        (Json::Bool(truth), Type::String) => Ok(Value::String(truth.to_string())),
        (Json::Number(number), Type::String) => Ok(Value::String(number.to_string())),
        (Json::Number(number), Type::Number) => Ok(Value::Number(match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Number::Int(whole),
            (None, Some(large)) => Number::Decimal(large.to_string()),
            (None, None) => number
                .as_f64()
                .and_then(|double| from_text(&double.to_string()))
                .ok_or_else(mismatch)?,
        })),
        (Json::String(text), Type::Number) => from_text(text)
            .map(Value::Number)
            .ok_or_else(|| CodecError::Number(Place(path.clone()))),
        (Json::Array(items), Type::List(of) | Type::Set(of)) => {
            let items = items
                .iter()
                .zip(0..)
                .map(|(item, at)| read(item, of, extra, &path.index(at)));
            Ok(Value::List(items.collect::<Result<_, _>>()?))
        }
        (Json::Array(items), Type::Tuple(of)) if items.len() == of.len() => {
            let items = items.iter().zip(of).zip(0..);
            let items = items.map(|((item, of), at)| read(item, of, extra, &path.index(at)));
            Ok(Value::List(items.collect::<Result<_, _>>()?))
        }
        (Json::Object(entries), Type::Map(of)) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Ok((key.clone(), read(value, of, extra, &path.key(key))?)));
            Ok(Value::Map(entries.collect::<Result<_, CodecError>>()?))
        }
        (Json::Object(entries), Type::Object(of)) => {
            if let (Extra::Refuse, Some(name)) = (extra, entries.keys().find(|name| !of.contains_key(*name))) {
                return Err(CodecError::UnknownAttribute {
                    path: Place(path.clone()),
                    name: name.clone(),
                });
            }
            let entries = of.iter().map(|(name, of)| {
                let value = entries.get(name).unwrap_or(&Json::Null);
                Ok((name.clone(), read(value, of, extra, &path.attribute(name))?))
            });
            Ok(Value::Map(entries.collect::<Result<_, CodecError>>()?))
        }
        _ => Err(mismatch()),
    }
}

fn json_form(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}
