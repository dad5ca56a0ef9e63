use proptest::prelude::*;

use super::*;

const NEXT: Remembered = Remembered {
    revision: "place_revision",
    carried: "place_carried",
};

fn schema() -> Schema {
    let house = vec![Attribute::number("number").default(1), Attribute::string("door")];
    let place = vec![
        Attribute::string("name"),
        Attribute::map_of("houses", house),
        Attribute::string("key").write_only(),
        Attribute::list("roads", Type::String),
    ];
    Schema {
        attributes: vec![
            Attribute::object("place", place).required().remembered(NEXT),
            Attribute::string("place_revision").computed().use_state(),
            Attribute::string("place_carried").computed().sensitive(),
            Attribute::string("note"),
        ],
        ..Schema::default()
    }
}

fn texts() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), ".{0,8}".prop_map(Value::from)]
}

fn places() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9f64)
            .prop_filter("Terraform has no fraction that is whole", |one| one.fract() != 0.0)
            .prop_map(Value::from),
        Just(Value::Null)
    ];
    let house = (number, texts()).prop_map(|(number, door)| Value::object([("number", number), ("door", door)]));
    let houses = prop::collection::btree_map("[a-z]{1,4}", house, 0..4).prop_map(Value::Map);
    let roads = prop::collection::vec(".{0,5}".prop_map(Value::from), 0..3).prop_map(Value::List);
    (texts(), houses, roads).prop_map(|(name, houses, roads)| {
        Value::object([
            ("name", name),
            ("houses", houses),
            ("key", Value::Null),
            ("roads", roads),
        ])
    })
}

fn state_of(place: Value) -> Value {
    Value::object([
        ("place", place),
        ("place_revision", Value::Null),
        ("place_carried", Value::Null),
        ("note", "n".into()),
    ])
}

/// As Terraform compares.
fn means(one: &Value, other: &Value) -> bool {
    plan::same(&attributes_type(&schema().attributes), one, other)
}

proptest! {
    #[test]
    fn what_goes_through_comes_back_unchanged(
        place in places(), private in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let (schema, state) = (schema(), state_of(place));
        let mut stored = state.clone();
        revise(&schema, &mut stored, &[]);
        let revised = stored.clone();
        let sealed = seal(&hide(&schema, &mut stored), &private);
        prop_assert!(stored.get("place").is_null());
        let back = recall(&schema, stored, &sealed);
        prop_assert!(means(&back.state, &revised), "{:?}", back.state);
        prop_assert_eq!(&back.own, &private);
        prop_assert_eq!(back.missing, None);
        // Again, and sealed again: nothing piles up.
        let mut again = back.state.clone();
        prop_assert_eq!(seal(&hide(&schema, &mut again), &back.own), sealed);
    }

    #[test]
    fn what_an_older_state_has_comes_over_without_private_state(place in places(), private in "[a-z= ]{0,9}") {
        let (schema, state) = (schema(), state_of(place));
        let mut upgraded = state.clone();
        carry(&schema, &mut upgraded);
        prop_assert!(upgraded.get("place").is_null());
        let back = recall(&schema, upgraded.clone(), private.as_bytes());
        prop_assert!(means(&Value::object([("place", back.state.get("place").clone())]),
            &Value::object([("place", state.get("place").clone())])));
        prop_assert_eq!(back.own, private.as_bytes());
        prop_assert_eq!(back.missing, None);
        // An upgrade of what was upgraded changes nothing: Terraform asks for it at each run.
        let mut twice = upgraded.clone();
        carry(&schema, &mut twice);
        prop_assert_eq!(twice, upgraded);
    }

    #[test]
    fn the_revision_changes_with_the_value(one in places(), other in places()) {
        let schema = schema();
        let (mut before, mut after) = (state_of(one), state_of(other));
        revise(&schema, &mut before, &[]);
        let known = before.clone();
        revise(&schema, &mut after, &[&known]);
        let same = before.get("place") == after.get("place");
        prop_assert_eq!(before.get("place_revision") == after.get("place_revision"), same);
    }
}

#[test]
fn a_revision_is_for_people() {
    let house = || Value::object([("number", 1.into())]);
    let with = |houses: Vec<&str>| {
        let houses = houses.into_iter().map(|name| (name.to_owned(), house())).collect();
        let mut state = state_of(Value::object([("name", "main".into()), ("houses", Value::Map(houses))]));
        revise(&schema(), &mut state, &[]);
        state.get("place_revision").as_str().unwrap().to_owned()
    };
    assert!(with(vec!["a", "b", "c"]).starts_with("main, 3 houses, "));
    assert!(with(vec!["a"]).starts_with("main, 1 house, "));
    assert_eq!(with(vec![]).len(), "main, 0 houses, ".len() + 8);
}

#[test]
fn two_values_with_one_text_are_told_apart() {
    let place = |name: &str| Value::object([("name", name.into())]);
    let mut other = state_of(place("b"));
    revise(&schema(), &mut other, &[]);
    let text = other.get("place_revision").clone();
    let mut before = state_of(place("a"));
    before.set("place_revision", text.clone());
    revise(&schema(), &mut other, &[&before]);
    assert_ne!(other.get("place_revision"), &text);
}

#[test]
fn what_is_not_known_yet_has_no_revision() {
    let mut state = state_of(Value::object([("name", Value::Unknown)]));
    revise(&schema(), &mut state, &[]);
    assert!(state.get("place_revision").is_unknown());
}

#[test]
fn the_configuration_is_taken_without_secrets_and_with_defaults() {
    let house = Value::object([("number", Value::Null), ("door", "d".into())]);
    let config = state_of(Value::object([
        ("name", "main".into()),
        ("houses", Value::object([("a", house)])),
        ("key", "hush".into()),
        ("roads", Value::Null),
    ]));
    let mut planned = state_of(Value::Null);
    assert!(are_left_out(&schema(), &config, &planned));
    take_from_configuration(&schema(), &mut planned, &config);
    assert_eq!(planned.at(&["place", "key"]), &Value::Null);
    assert_eq!(planned.at(&["place", "houses", "a", "number"]), &1.into());
    assert!(!are_left_out(&schema(), &config, &planned));
}

#[test]
fn what_is_nowhere_is_missing() {
    let state = state_of(Value::Null);
    assert_eq!(recall(&schema(), state.clone(), b"x").missing, Some("place"));
    assert_eq!(recall(&schema(), Value::Null, b"x").missing, None);
    // What was cut off, or is no text of ours, is the block's own, or nothing.
    for private in [&b"remembered=!!\nx"[..], b"remembered=e30=\nx"] {
        let recalled = recall(&schema(), state.clone(), private);
        assert_eq!((recalled.missing, recalled.own), (Some("place"), b"x".to_vec()));
    }
}
