//! What a value is that stands in a file without a type: YAML's core schema.

use saphyr_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

/// The value of a scalar; else the tag that is not one of the core schema's.
pub(super) fn value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match tag {
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None => Ok(text.into()),
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" => Ok(text.into()),
            "null" | "bool" | "int" | "float" => Ok(plain(text)),
            _ => Err(tag.to_string()),
        },
        // `!` alone says that it is a text.
        Some(tag) if tag.handle.len() + tag.suffix.len() == 1 => Ok(text.into()),
        Some(tag) => Err(tag.to_string()),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => number(text).map_or_else(|| text.into(), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, radix) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, radix)))
        .unwrap_or((digits, 10));
    if !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)) {
        if radix == 10 && digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        let size = u64::from_str_radix(digits, radix).ok()?;
        return if text.starts_with('-') {
            Some(i64::try_from(-i128::from(size)).ok()?.into())
        } else {
            Some(size.into())
        };
    }
    // Rust reads `nan` and `inf` too, which are texts here; JSON has no number for them.
    Number::from_f64(text.parse().ok()?)
}
