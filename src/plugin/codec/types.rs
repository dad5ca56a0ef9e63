//! Type constraints in go-cty's JSON: `"string"`, `["list","string"]`, `["object",{"name":"string"}]`.

use serde_json::{Value as Json, json};

use super::{CodecError, Place};
use crate::plugin::schema::{Attribute, Kind, Type};

/// The object type of a block with these attributes.
#[must_use]
pub fn attributes_type(attributes: &[Attribute]) -> Type {
    Type::Object(
        attributes
            .iter()
            .map(|one| (one.name.to_owned(), kind_type(&one.kind)))
            .collect(),
    )
}

fn kind_type(kind: &Kind) -> Type {
    match kind {
        Kind::Plain(r#type) => r#type.clone(),
        Kind::Single(attributes) => attributes_type(attributes),
        Kind::List(attributes) => Type::List(Box::new(attributes_type(attributes))),
        Kind::Set(attributes) => Type::Set(Box::new(attributes_type(attributes))),
        Kind::Map(attributes) => Type::Map(Box::new(attributes_type(attributes))),
    }
}

/// A type constraint as JSON.
#[must_use]
pub fn type_to_json(r#type: &Type) -> Json {
    match r#type {
        Type::Bool => "bool".into(),
        Type::Number => "number".into(),
        Type::String => "string".into(),
        Type::Dynamic => "dynamic".into(),
        Type::List(of) => json!(["list", type_to_json(of)]),
        Type::Set(of) => json!(["set", type_to_json(of)]),
        Type::Map(of) => json!(["map", type_to_json(of)]),
        Type::Object(attributes) => {
            let attributes: serde_json::Map<_, _> = attributes
                .iter()
                .map(|(name, of)| (name.clone(), type_to_json(of)))
                .collect();
            json!(["object", attributes])
        }
        Type::Tuple(elements) => json!(["tuple", elements.iter().map(type_to_json).collect::<Vec<_>>()]),
    }
}

/// The type constraint of its JSON.
///
/// # Errors
/// If it is none.
pub fn type_from_json(json: &Json) -> Result<Type, CodecError> {
    let wrong = || CodecError::Type(Place::default());
    match json {
        Json::String(name) => match name.as_str() {
            "bool" => Ok(Type::Bool),
            "number" => Ok(Type::Number),
            "string" => Ok(Type::String),
            "dynamic" => Ok(Type::Dynamic),
            _ => Err(wrong()),
        },
        Json::Array(parts) => match parts.as_slice() {
            [Json::String(name), of] if name == "list" => Ok(Type::List(Box::new(type_from_json(of)?))),
            [Json::String(name), of] if name == "set" => Ok(Type::Set(Box::new(type_from_json(of)?))),
            [Json::String(name), of] if name == "map" => Ok(Type::Map(Box::new(type_from_json(of)?))),
            // A third part names optional attributes, which only constraints in configurations have.
            [Json::String(name), Json::Object(of), ..] if name == "object" => {
                let attributes = of.iter().map(|(name, of)| Ok((name.clone(), type_from_json(of)?)));
                Ok(Type::Object(attributes.collect::<Result<_, CodecError>>()?))
            }
            [Json::String(name), Json::Array(of)] if name == "tuple" => {
                Ok(Type::Tuple(of.iter().map(type_from_json).collect::<Result<_, _>>()?))
            }
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_survive_their_json() {
        let json = json!(["object", {
            "any": "dynamic",
            "flag": "bool",
            "names": ["set", "string"],
            "pair": ["tuple", ["number", ["list", "string"]]],
            "servers": ["map", ["object", { "name": "string" }]],
        }]);
        let parsed = type_from_json(&json).unwrap();
        assert_eq!(type_to_json(&parsed), json);
        assert!(type_from_json(&json!(["list"])).is_err());
        assert!(type_from_json(&json!("text")).is_err());
    }
}
