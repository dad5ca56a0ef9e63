//! Plan and apply.

use std::time::Duration;

use terraform_provider_etcd::plugin::codec::encode;
use terraform_provider_etcd::plugin::proto::tfplugin6::{
    configure_provider, get_metadata, get_provider_schema, plan_resource_change, stop_provider,
};
use terraform_provider_etcd::plugin::schema::Type;
use terraform_provider_etcd::plugin::value::Value;

use crate::client::{NAME, apply, client, create, message, path_text, plan, summaries, thing, value};

#[tokio::test]
async fn the_schema_on_the_wire() {
    let mut client = client().await;
    let schema = client
        .get_provider_schema(get_provider_schema::Request {})
        .await
        .unwrap()
        .into_inner();
    let metadata = client
        .get_metadata(get_metadata::Request {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(metadata.resources[0].type_name, NAME);
    insta::assert_debug_snapshot!(schema);
}

#[tokio::test]
async fn a_create_has_defaults_and_unknowns_and_no_secrets() {
    let mut client = client().await;
    let config = thing([
        ("name", "one".into()),
        ("secret", "hush".into()),
        ("settings", Value::object([("token", "hush".into())])),
        ("ports", vec![Value::object([("number", 80.into())])].into()),
        ("tags", vec![Value::object([("key", "a".into())])].into()),
        (
            "servers",
            Value::object([("a1", Value::object([("address", "10.0.0.1".into())]))]),
        ),
    ]);
    let answer = plan(&mut client, &Value::Null, &config).await;
    assert_eq!(answer.diagnostics, []);
    let planned = value(answer.planned_state.as_ref());
    assert_eq!(
        planned,
        thing([
            ("name", "one".into()),
            ("size", 3.into()),
            (
                "settings",
                Value::object([
                    ("level", "low".into()),
                    ("token", Value::Null),
                    ("stamp", Value::Unknown)
                ])
            ),
            (
                "ports",
                vec![Value::object([("number", 80.into()), ("open", true.into())])].into()
            ),
            (
                "tags",
                vec![Value::object([("key", "a".into()), ("value", "none".into())])].into()
            ),
            (
                "servers",
                Value::object([(
                    "a1",
                    Value::object([("address", "10.0.0.1".into()), ("serial", Value::Unknown)])
                )])
            ),
            ("id", Value::Unknown),
            ("revision", Value::Unknown),
        ])
    );
    assert_eq!(answer.planned_private, "xp");
    let applied = apply(&mut client, &Value::Null, &planned, &config).await;
    assert_eq!(applied.diagnostics, []);
    let state = value(applied.new_state.as_ref());
    assert_eq!(
        state.get("id"),
        &"id-of-secret".into(),
        "apply sees the write-only value"
    );
    assert_eq!(state.get("secret"), &Value::Null);
    assert!(state.is_wholly_known());
    assert_eq!(applied.private, "xpc");
    assert!(applied.new_identity.is_some());
}

#[tokio::test]
async fn without_a_difference_the_plan_is_the_state() {
    let mut client = client().await;
    let config = thing([("name", "one".into())]);
    let state = value(create(&mut client, &config).await.new_state.as_ref());
    let answer = plan(&mut client, &state, &config).await;
    assert_eq!(value(answer.planned_state.as_ref()), state);
    assert_eq!(answer.requires_replace, []);
}

#[tokio::test]
async fn an_update_keeps_what_it_may_and_marks_the_rest_unknown() {
    let mut client = client().await;
    let state = value(
        create(&mut client, &thing([("name", "one".into())]))
            .await
            .new_state
            .as_ref(),
    );
    let config = thing([("name", "one".into()), ("size", 5.into())]);
    let answer = plan(&mut client, &state, &config).await;
    let planned = value(answer.planned_state.as_ref());
    assert_eq!(planned.get("id"), state.get("id"));
    assert!(planned.get("revision").is_unknown());
    assert_eq!(answer.requires_replace, []);
    let applied = apply(&mut client, &state, &planned, &config).await;
    assert_eq!(value(applied.new_state.as_ref()).get("size"), &5.into());
}

#[tokio::test]
async fn what_makes_a_new_resource_is_told_at_any_depth() {
    let mut client = client().await;
    let servers = |address: &str| Value::object([("a1", Value::object([("address", address.into())]))]);
    let config = thing([("name", "one".into()), ("servers", servers("10.0.0.1"))]);
    let state = value(create(&mut client, &config).await.new_state.as_ref());
    let changed = thing([
        ("name", Value::Unknown),
        ("servers", servers("10.0.0.2")),
        ("note", "replace me".into()),
    ]);
    let answer = plan(&mut client, &state, &changed).await;
    let paths: Vec<String> = answer.requires_replace.iter().map(path_text).collect();
    assert_eq!(paths, [".name", ".servers[\"a1\"].address", ".note"]);
    assert_eq!(
        value(answer.planned_state.as_ref()).get("revision"),
        &1.into(),
        "the block's own plan stands"
    );
}

#[tokio::test]
async fn partial_state_survives_a_failure() {
    let mut client = client().await;
    let answer = create(&mut client, &thing([("name", "half".into())])).await;
    assert_eq!(summaries(&answer.diagnostics), ["Only half made"]);
    assert_eq!(
        answer.diagnostics[0].attribute.as_ref().map(path_text).as_deref(),
        Some(".name")
    );
    let state = value(answer.new_state.as_ref());
    assert_eq!(state.get("id"), &"half-made".into());
    assert!(state.get("revision").is_null(), "no unknowns in state");
    assert_eq!(answer.private, "half");
}

#[tokio::test]
async fn a_panic_is_an_error_that_names_the_block() {
    let mut client = client().await;
    let answer = create(&mut client, &thing([("name", "panic".into())])).await;
    assert_eq!(
        summaries(&answer.diagnostics),
        ["things_thing: the provider failed inside itself"]
    );
    assert!(answer.diagnostics[0].detail.contains("cannot be made"));
    assert_eq!(
        value(answer.new_state.as_ref()).get("name"),
        &"panic".into(),
        "it may be there, so it is kept"
    );
    let config = encode(&Value::object([("endpoint", "panic".into())]), &endpoint_type()).unwrap();
    let request = configure_provider::Request {
        config: Some(config),
        ..Default::default()
    };
    let answer = client.configure_provider(request).await.unwrap().into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        ["provider: the provider failed inside itself"]
    );
}

fn endpoint_type() -> Type {
    Type::Object([("endpoint".to_owned(), Type::String)].into())
}

#[tokio::test]
async fn values_left_unknown_are_a_bug_that_is_told() {
    let mut client = client().await;
    let answer = create(&mut client, &thing([("name", "forgetful".into())])).await;
    assert_eq!(
        summaries(&answer.diagnostics),
        ["things_thing: values are still unknown after apply"]
    );
    assert!(
        answer.diagnostics[0].detail.contains("id, revision"),
        "{}",
        answer.diagnostics[0].detail
    );
}

#[tokio::test]
async fn a_delete_that_fails_keeps_the_state() {
    let mut client = client().await;
    for (name, remains) in [("stubborn", true), ("one", false)] {
        let state = value(
            create(&mut client, &thing([("name", name.into())]))
                .await
                .new_state
                .as_ref(),
        );
        let request = plan_resource_change::Request {
            type_name: NAME.into(),
            prior_state: message(&state),
            proposed_new_state: message(&Value::Null),
            config: message(&Value::Null),
            ..Default::default()
        };
        let planned = client.plan_resource_change(request).await.unwrap().into_inner();
        assert_eq!(summaries(&planned.diagnostics), ["It will be gone"]);
        assert!(value(planned.planned_state.as_ref()).is_null());
        let answer = apply(&mut client, &state, &Value::Null, &Value::Null).await;
        assert_eq!(value(answer.new_state.as_ref()).is_null(), !remains);
        assert_eq!(answer.diagnostics.is_empty(), !remains);
    }
}

#[tokio::test]
async fn stop_reaches_a_running_create() {
    let mut client = client().await;
    let mut other = client.clone();
    let config = thing([("name", "slow".into())]);
    let running = tokio::spawn(async move { create(&mut other, &config).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!running.is_finished());
    client.stop_provider(stop_provider::Request {}).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), running)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(value(answer.new_state.as_ref()).get("id"), &"id-1".into());
}
