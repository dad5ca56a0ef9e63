//! Round trips, and the bytes that go-cty itself writes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::plugin::value::Number;

fn object(attributes: &[(&str, Type)]) -> Type {
    Type::Object(
        attributes
            .iter()
            .map(|(name, of)| ((*name).to_owned(), of.clone()))
            .collect(),
    )
}

fn message(msgpack: &[u8]) -> DynamicValue {
    DynamicValue {
        msgpack: Bytes::copy_from_slice(msgpack),
        json: Bytes::new(),
    }
}

#[test]
fn bytes_are_those_of_go_cty() {
    let r#type = object(&[("id", Type::String), ("size", Type::Number)]);
    let value = Value::object([("id", Value::Unknown), ("size", 3.into())]);
    let bytes = b"\x82\xa2id\xd4\x00\x00\xa4size\x03";
    assert_eq!(encode(&value, &r#type).unwrap().msgpack[..], bytes[..]);
    assert_eq!(decode(&message(bytes), &r#type).unwrap(), value);
}

#[test]
fn numbers_are_whole_or_double_or_text() {
    let bytes = |number: Number| encode(&Value::Number(number), &Type::Number).unwrap().msgpack.to_vec();
    assert_eq!(bytes(Number::Int(-1)), b"\xff");
    assert_eq!(bytes(Number::Float(0.5)), b"\xcb\x3f\xe0\0\0\0\0\0\0");
    assert_eq!(bytes(Number::Float(0.1)), b"\xa30.1");
    assert_eq!(
        bytes(Number::Decimal("18446744073709551617".into())),
        b"\xb418446744073709551617"
    );
    assert!(encode(&Value::Number(Number::Float(f64::NAN)), &Type::Number).is_err());
}

#[test]
fn refined_unknowns_are_unknown() {
    // Extension 12 of 3 bytes: a map that says "not null".
    let refined = b"\xc7\x03\x0c\x81\x01\xc2";
    assert_eq!(decode(&message(refined), &Type::String).unwrap(), Value::Unknown);
    assert_eq!(decode(&message(refined), &Type::Dynamic).unwrap(), Value::Unknown);
}

#[test]
fn a_dynamic_value_brings_its_type() {
    let bytes = b"\x92\xc4\x11[\"list\",\"string\"]\x91\xa1a";
    let value = Value::List(vec!["a".into()]);
    assert_eq!(decode(&message(bytes), &Type::Dynamic).unwrap(), value);
    let told = encode(&value, &Type::Dynamic).unwrap();
    assert_eq!(told.msgpack[..], b"\x92\xc4\x14[\"tuple\",[\"string\"]]\x91\xa1a"[..]);
    let json = DynamicValue {
        json: r#"{"type":"bool","value":true}"#.into(),
        ..Default::default()
    };
    assert_eq!(decode(&json, &Type::Dynamic).unwrap(), true.into());
}

#[test]
fn what_does_not_fit_is_named_without_its_value() {
    let r#type = object(&[("servers", Type::Map(Box::new(object(&[("port", Type::Number)]))))]);
    let bad = object(&[("servers", Type::Map(Box::new(object(&[("port", Type::String)]))))]);
    let server = Value::object([("port", "secret".into())]);
    let value = Value::object([("servers", Value::object([("a1", server)]))]);
    let error = encode(&value, &r#type).unwrap_err();
    assert_eq!(
        error.to_string(),
        "servers[\"a1\"].port: a number was expected, but there is a string"
    );
    let error = decode(&encode(&value, &bad).unwrap(), &r#type).unwrap_err();
    assert_eq!(error.to_string(), "servers[\"a1\"].port: not a number");
    let extra = Value::object([("serverz", Value::Null)]);
    assert_eq!(
        encode(&extra, &r#type).unwrap_err().to_string(),
        "value: there is no attribute \"serverz\""
    );
}

#[test]
fn broken_bytes_are_an_error() {
    for bytes in [&b"\xd9"[..], b"\x92\x01", b"\x91\xa1a", b"\xa1a\xa1b"] {
        assert!(decode(&message(bytes), &Type::String).is_err(), "{bytes:?}");
    }
    assert_eq!(decode(&message(b""), &Type::String).unwrap(), Value::Null);
}

#[test]
fn stored_state_may_be_of_another_time() {
    let r#type = object(&[("name", Type::String), ("size", Type::Number), ("on", Type::Bool)]);
    let state = json!({ "name": 5, "size": "2.5", "gone": [] });
    let value = Value::object([
        ("name", "5".into()),
        ("size", Value::Number(Number::Float(2.5))),
        ("on", Value::Null),
    ]);
    assert_eq!(decode_state(&state, &r#type).unwrap(), value);
    let strict = DynamicValue {
        json: state.to_string().into(),
        ..Default::default()
    };
    assert!(decode(&strict, &r#type).is_err());
}

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![Just(Type::Bool), Just(Type::Number), Just(Type::String)];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|of| Type::List(Box::new(of))),
            inner.clone().prop_map(|of| Type::Set(Box::new(of))),
            inner.clone().prop_map(|of| Type::Map(Box::new(of))),
            prop::collection::btree_map("[a-z]{1,3}", inner.clone(), 0..4).prop_map(Type::Object),
            prop::collection::vec(inner, 0..4).prop_map(Type::Tuple),
        ]
    })
}

fn numbers() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i64>().prop_map(Number::Int),
        any::<f64>()
            .prop_filter("not whole", |number| number.is_finite() && number.fract() != 0.0)
            .prop_map(Number::Float),
        "[1-9][0-9]{30}1".prop_map(Number::Decimal),
    ]
}

fn values(r#type: &Type) -> BoxedStrategy<Value> {
    let known = match r#type {
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::Number => numbers().prop_map(Value::Number).boxed(),
        Type::String => any::<String>().prop_map(Value::String).boxed(),
        Type::Dynamic => Just(Value::Null).boxed(),
        Type::List(of) | Type::Set(of) => prop::collection::vec(values(of), 0..4).prop_map(Value::List).boxed(),
        Type::Map(of) => prop::collection::btree_map(any::<String>(), values(of), 0..4)
            .prop_map(Value::Map)
            .boxed(),
        Type::Object(of) => {
            let (names, of): (Vec<_>, Vec<_>) = of.iter().map(|(name, of)| (name.clone(), values(of))).unzip();
            of.prop_map(move |values| Value::Map(names.iter().cloned().zip(values).collect::<BTreeMap<_, _>>()))
                .boxed()
        }
        Type::Tuple(of) => of.iter().map(values).collect::<Vec<_>>().prop_map(Value::List).boxed(),
    };
    prop_oneof![8 => known, 1 => Just(Value::Null), 1 => Just(Value::Unknown)].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_value_survives_msgpack((r#type, value) in types().prop_flat_map(|of| (Just(of.clone()), values(&of)))) {
        let message = encode(&value, &r#type).unwrap();
        prop_assert_eq!(decode(&message, &r#type).unwrap(), value);
    }

    #[test]
    fn every_type_survives_json(r#type in types()) {
        prop_assert_eq!(type_from_json(&type_to_json(&r#type)).unwrap(), r#type);
    }

    #[test]
    fn no_bytes_make_it_panic(r#type in types(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode(&message(&bytes), &r#type);
    }
}
