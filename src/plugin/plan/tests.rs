//! The plan's rules, one by one.

use super::*;

fn set_of(name: &'static str, attributes: Vec<Attribute>) -> Attribute {
    Attribute {
        kind: Kind::Set(attributes),
        ..Attribute::string(name)
    }
}

fn schema(attributes: Vec<Attribute>) -> Schema {
    Schema {
        attributes,
        ..Schema::default()
    }
}

fn pair(key: &str, value: impl Into<Value>) -> Value {
    Value::object([("key", key.into()), ("value", value.into())])
}

fn tags(items: Vec<Value>) -> Value {
    Value::object([("tags", items.into())])
}

#[test]
fn elements_of_a_set_belong_together_by_what_is_configured() {
    let value = || Attribute::string("value").or_computed().use_state();
    let schema = schema(vec![
        set_of("tags", vec![Attribute::string("key").required(), value()]),
        Attribute::string("note"),
    ]);
    let config = tags(vec![pair("a", Value::Null), pair("b", "given")]);
    let created = propose(&schema, &Value::Null, config.clone(), &config);
    assert_eq!(
        created.get("tags").as_list().unwrap(),
        [pair("a", Value::Unknown), pair("b", "given")]
    );
    let prior = tags(vec![pair("b", "given"), pair("a", "made")]);
    assert_eq!(
        propose(
            &schema,
            &prior,
            tags(vec![pair("a", "made"), pair("b", "given")]),
            &config
        ),
        prior
    );
    let mut changed = tags(vec![pair("a", Value::Null), pair("b", "given")]);
    changed.set("note", "new");
    let planned = propose(&schema, &prior, changed.clone(), &changed);
    assert_eq!(
        planned.get("tags").as_list().unwrap(),
        [pair("a", "made"), pair("b", "given")]
    );
}

#[test]
fn the_order_in_sets_is_no_change() {
    let of = Type::Set(Box::new(Type::String));
    let set = |items: [&str; 2]| Value::List(items.map(Value::from).to_vec());
    assert!(same(&of, &set(["a", "b"]), &set(["b", "a"])));
    assert!(!same(&of, &set(["a", "a"]), &set(["a", "b"])));
    assert!(!same(
        &Type::List(Box::new(Type::String)),
        &set(["a", "b"]),
        &set(["b", "a"])
    ));
}

#[test]
fn a_default_of_an_object_is_completed() {
    let inner = vec![
        Attribute::number("port").default(22),
        Attribute::string("made").computed(),
    ];
    let mut ssh = Attribute::object("ssh", inner);
    ssh = ssh.default(Value::object([]));
    let config = Value::object([("ssh", Value::Null)]);
    let planned = propose(&schema(vec![ssh]), &Value::Null, config.clone(), &config);
    let expected = Value::object([("port", 22.into()), ("made", Value::Unknown)]);
    assert_eq!(planned.get("ssh"), &expected);
}

#[test]
fn what_is_unknown_is_left_alone() {
    let schema = schema(vec![Attribute::map_of(
        "servers",
        vec![Attribute::number("port").default(22)],
    )]);
    let config = Value::object([("servers", Value::Unknown)]);
    assert_eq!(propose(&schema, &Value::Null, config.clone(), &config), config);
    let config = Value::object([("servers", Value::object([("a1", Value::Unknown)]))]);
    assert_eq!(propose(&schema, &Value::Null, config.clone(), &config), config);
}

#[test]
fn replacement_is_seen_in_lists_and_sets_and_what_comes_and_goes() {
    let key = || Attribute::string("key").requires_replace();
    let schema = schema(vec![
        Attribute::list_of("list", vec![key()]),
        set_of("tags", vec![key(), Attribute::string("value")]),
        Attribute::map_of("map", vec![key()]),
    ]);
    let one = |key: &str| Value::object([("key", key.into())]);
    let prior = Value::object([
        ("list", vec![one("a"), one("b")].into()),
        ("tags", vec![one("a")].into()),
        ("map", Value::object([("gone", one("a")), ("same", one("a"))])),
    ]);
    let planned = Value::object([
        ("list", vec![one("a"), one("c"), one("d")].into()),
        ("tags", vec![one("b")].into()),
        ("map", Value::object([("new", one("a")), ("same", one("a"))])),
    ]);
    let paths: Vec<String> = replacements(&schema, &prior, &planned)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        paths,
        [
            "list[1].key",
            "list[2].key",
            "tags",
            "map[\"gone\"].key",
            "map[\"new\"].key"
        ]
    );
    assert_eq!(replacements(&schema, &prior, &prior), []);
    assert_eq!(replacements(&schema, &Value::Null, &planned), []);
}

#[test]
fn write_only_values_are_found_and_taken_out_at_any_depth() {
    let secret = || Attribute::string("secret").write_only();
    let schema = schema(vec![
        secret(),
        Attribute::object("one", vec![secret()]),
        Attribute::map_of("many", vec![secret()]),
        Attribute::list_of("list", vec![secret()]),
    ]);
    let hush = || Value::object([("secret", "hush".into())]);
    let mut config = Value::object([
        ("secret", "hush".into()),
        ("one", hush()),
        ("many", Value::object([("a", hush())])),
        ("list", vec![hush()].into()),
    ]);
    let found = refuse_write_only(&schema, &config);
    let paths: Vec<String> = found
        .iter()
        .filter_map(|one| one.path.as_ref().map(ToString::to_string))
        .collect();
    assert_eq!(paths, ["secret", "one.secret", "many[\"a\"].secret", "list[0].secret"]);
    null_write_only(&schema.attributes, &mut config);
    assert!(refuse_write_only(&schema, &config).is_empty());
}
