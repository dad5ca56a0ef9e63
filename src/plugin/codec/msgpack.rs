//! go-cty's msgpack: unknown is an extension, a dynamic value is the pair of its type's JSON and itself.

use std::collections::BTreeMap;

use rmpv::ValueRef;

use super::number::{as_whole, from_double, from_text, is_exact};
use super::{CodecError, Place, expectation, form, type_from_json, type_to_json};
use crate::plugin::path::Path;
use crate::plugin::schema::Type;
use crate::plugin::value::{Number, Value};

/// go-cty's "unknown, and nothing more is known of it": extension type 0 of one zero byte.
const UNKNOWN: [u8; 3] = [0xd4, 0, 0];

const MSGPACK: CodecError = CodecError::Encoding("msgpack");

pub(super) fn decode(mut bytes: &[u8], r#type: &Type) -> Result<Value, CodecError> {
    let raw = rmpv::decode::read_value_ref(&mut bytes).map_err(|_| MSGPACK)?;
    if !bytes.is_empty() {
        return Err(MSGPACK);
    }
    read(&raw, r#type, &Path::root())
}

fn read(raw: &ValueRef<'_>, r#type: &Type, path: &Path) -> Result<Value, CodecError> {
    let mismatch = |found| CodecError::Mismatch {
        path: Place(path.clone()),
        expected: expectation(r#type),
        found,
    };
    match (raw, r#type) {
        (ValueRef::Nil, _) => Ok(Value::Null),
        // Type 0 is plain unknown, 12 is unknown with refinements (such as "not null"), which are of no use here.
        (ValueRef::Ext(_, _), _) => Ok(Value::Unknown),
        (_, Type::Dynamic) => read_dynamic(raw, path),
        (ValueRef::Boolean(truth), Type::Bool) => Ok(Value::Bool(*truth)),
        (ValueRef::String(text), Type::String) => {
            text.as_str().map(|text| Value::String(text.to_owned())).ok_or(MSGPACK)
        }
        (_, Type::Number) => read_number(raw, path)?
            .map(Value::Number)
            .ok_or_else(|| mismatch(raw_form(raw))),
        (ValueRef::Array(items), Type::List(of) | Type::Set(of)) => {
            let items = items.iter().zip(0..).map(|(item, at)| read(item, of, &path.index(at)));
            Ok(Value::List(items.collect::<Result<_, _>>()?))
        }
        (ValueRef::Array(items), Type::Tuple(of)) if items.len() == of.len() => {
            let items = items
                .iter()
                .zip(of)
                .zip(0..)
                .map(|((item, of), at)| read(item, of, &path.index(at)));
            Ok(Value::List(items.collect::<Result<_, _>>()?))
        }
        (ValueRef::Map(entries), Type::Map(of)) => {
            let entries = entries.iter().map(|(key, value)| {
                let key = text(key)?;
                Ok((key.to_owned(), read(value, of, &path.key(key))?))
            });
            Ok(Value::Map(entries.collect::<Result<_, CodecError>>()?))
        }
        (ValueRef::Map(entries), Type::Object(of)) => {
            let mut object: BTreeMap<_, _> = of.keys().map(|name| (name.clone(), Value::Null)).collect();
            for (name, value) in entries {
                let name = text(name)?;
                let of = of.get(name).ok_or_else(|| CodecError::UnknownAttribute {
                    path: Place(path.clone()),
                    name: name.to_owned(),
                })?;
                object.insert(name.to_owned(), read(value, of, &path.attribute(name))?);
            }
            Ok(Value::Map(object))
        }
        _ => Err(mismatch(raw_form(raw))),
    }
}

fn read_dynamic(raw: &ValueRef<'_>, path: &Path) -> Result<Value, CodecError> {
    let wrong = || CodecError::Type(Place(path.clone()));
    let ValueRef::Array(pair) = raw else {
        return Err(wrong());
    };
    let [r#type, value] = pair.as_slice() else {
        return Err(wrong());
    };
    let json = match r#type {
        ValueRef::Binary(bytes) => bytes,
        ValueRef::String(text) => text.as_bytes(),
        _ => return Err(wrong()),
    };
    let json = serde_json::from_slice(json).map_err(|_| wrong())?;
    read(value, &type_from_json(&json)?, path)
}

fn read_number(raw: &ValueRef<'_>, path: &Path) -> Result<Option<Number>, CodecError> {
    let number = match raw {
        ValueRef::Integer(number) => number
            .as_i64()
            .map(Number::Int)
            .or_else(|| number.as_u64().map(|large| Number::Decimal(large.to_string()))),
        ValueRef::F32(number) => from_double(f64::from(*number)),
        ValueRef::F64(number) => from_double(*number),
        ValueRef::String(digits) => digits.as_str().and_then(from_text),
        _ => return Ok(None),
    };
    number.map(Some).ok_or_else(|| CodecError::Number(Place(path.clone())))
}

fn text<'a>(raw: &'a ValueRef<'_>) -> Result<&'a str, CodecError> {
    let ValueRef::String(text) = raw else {
        return Err(MSGPACK);
    };
    text.as_str().ok_or(MSGPACK)
}

fn raw_form(raw: &ValueRef<'_>) -> &'static str {
    match raw {
        ValueRef::Nil => "null",
        ValueRef::Ext(_, _) => "an unknown value",
        ValueRef::Boolean(_) => "a bool",
        ValueRef::Integer(_) | ValueRef::F32(_) | ValueRef::F64(_) => "a number",
        ValueRef::String(_) => "a string",
        ValueRef::Binary(_) => "bytes",
        ValueRef::Array(_) => "an array",
        ValueRef::Map(_) => "a map",
    }
}

pub(super) fn encode(value: &Value, r#type: &Type) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    write(&mut out, value, r#type, &Path::root())?;
    Ok(out)
}

fn write(out: &mut Vec<u8>, value: &Value, r#type: &Type, path: &Path) -> Result<(), CodecError> {
    match (value, r#type) {
        (Value::Null, _) => rmp::encode::write_nil(out).map_err(|_| MSGPACK),
        (Value::Unknown, _) => {
            out.extend(UNKNOWN);
            Ok(())
        }
        (_, Type::Dynamic) => {
            let told = own_type(value);
            rmp::encode::write_array_len(out, 2).map_err(|_| MSGPACK)?;
            rmp::encode::write_bin(out, type_to_json(&told).to_string().as_bytes()).map_err(|_| MSGPACK)?;
            write(out, value, &told, path)
        }
        (Value::Bool(truth), Type::Bool) => rmp::encode::write_bool(out, *truth).map_err(|_| MSGPACK),
        (Value::String(text), Type::String) => rmp::encode::write_str(out, text).map_err(|_| MSGPACK),
        (Value::Number(number), Type::Number) => write_number(out, number, path),
        (Value::List(items), Type::List(of) | Type::Set(of)) => {
            rmp::encode::write_array_len(out, length(items.len())?).map_err(|_| MSGPACK)?;
            items
                .iter()
                .zip(0..)
                .try_for_each(|(item, at)| write(out, item, of, &path.index(at)))
        }
        (Value::List(items), Type::Tuple(of)) if items.len() == of.len() => {
            rmp::encode::write_array_len(out, length(items.len())?).map_err(|_| MSGPACK)?;
            let mut items = items.iter().zip(of).zip(0..);
            items.try_for_each(|((item, of), at)| write(out, item, of, &path.index(at)))
        }
        (Value::Map(entries), Type::Map(of)) => {
            rmp::encode::write_map_len(out, length(entries.len())?).map_err(|_| MSGPACK)?;
            entries.iter().try_for_each(|(key, value)| {
                rmp::encode::write_str(out, key).map_err(|_| MSGPACK)?;
                write(out, value, of, &path.key(key))
            })
        }
        (Value::Map(entries), Type::Object(of)) => {
            if let Some(name) = entries.keys().find(|name| !of.contains_key(*name)) {
                return Err(CodecError::UnknownAttribute {
                    path: Place(path.clone()),
                    name: name.clone(),
                });
            }
            rmp::encode::write_map_len(out, length(of.len())?).map_err(|_| MSGPACK)?;
            of.iter().try_for_each(|(name, of)| {
                rmp::encode::write_str(out, name).map_err(|_| MSGPACK)?;
                write(
                    out,
                    entries.get(name).unwrap_or(&Value::Null),
                    of,
                    &path.attribute(name),
                )
            })
        }
        _ => Err(CodecError::Mismatch {
            path: Place(path.clone()),
            expected: expectation(r#type),
            found: form(value),
        }),
    }
}

fn length(length: usize) -> Result<u32, CodecError> {
    u32::try_from(length).map_err(|_| MSGPACK)
}

fn write_number(out: &mut Vec<u8>, number: &Number, path: &Path) -> Result<(), CodecError> {
    match number {
        Number::Int(whole) => rmp::encode::write_sint(out, *whole).map(drop).map_err(|_| MSGPACK),
        Number::Float(double) if !double.is_finite() => Err(CodecError::Number(Place(path.clone()))),
        Number::Float(double) => match as_whole(*double) {
            Some(whole) => rmp::encode::write_sint(out, whole).map(drop).map_err(|_| MSGPACK),
            None if is_exact(*double) => rmp::encode::write_f64(out, *double).map_err(|_| MSGPACK),
            // What was written as 0.1 has to come back as 0.1, not as the double next to it.
            None => rmp::encode::write_str(out, &double.to_string()).map_err(|_| MSGPACK),
        },
        Number::Decimal(digits) => rmp::encode::write_str(out, digits).map_err(|_| MSGPACK),
    }
}

/// The type that a value has by itself: an object rather than a map, a tuple rather than a list.
fn own_type(value: &Value) -> Type {
    match value {
        Value::Null | Value::Unknown => Type::Dynamic,
        Value::Bool(_) => Type::Bool,
        Value::Number(_) => Type::Number,
        Value::String(_) => Type::String,
        Value::List(items) => Type::Tuple(items.iter().map(own_type).collect()),
        Value::Map(entries) => Type::Object(
            entries
                .iter()
                .map(|(name, value)| (name.clone(), own_type(value)))
                .collect(),
        ),
    }
}
