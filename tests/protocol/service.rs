//! The real service over a duplex stream, with a made-up provider behind it.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use terraform_provider_etcd::plugin::codec::{attributes_type, decode, encode};
use terraform_provider_etcd::plugin::proto::tfplugin6::provider_client::ProviderClient;
use terraform_provider_etcd::plugin::proto::tfplugin6::{
    self as pb, apply_resource_change, call_function, configure_provider, get_metadata, get_provider_schema,
    import_resource_state, invoke_action, list_resource, plan_resource_change, read_data_source, read_resource,
    stop_provider, upgrade_resource_state, validate_resource_config,
};
use terraform_provider_etcd::plugin::schema::Type;
use terraform_provider_etcd::plugin::server;
use terraform_provider_etcd::plugin::service::Service;
use terraform_provider_etcd::plugin::value::Value;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::things::{Things, schema};

type Client = ProviderClient<Channel>;

async fn client() -> Client {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let service = Service::new(Arc::new(Things::new()));
    // The listener goes on listening: a stream of connections that ends would end the server.
    let connections = tokio_stream::once(Ok(theirs)).chain(tokio_stream::pending());
    tokio::spawn(server::run(service, connections, CancellationToken::new()));
    let mut ours = Some(ours);
    let connector = tower::service_fn(move |_| {
        let stream = ours.take().ok_or_else(|| std::io::Error::other("one connection only"));
        async move { stream.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap();
    ProviderClient::new(channel)
}

fn thing_type() -> Type {
    attributes_type(&schema().attributes)
}

fn message(value: &Value) -> Option<pb::DynamicValue> {
    Some(encode(value, &thing_type()).unwrap())
}

fn value(message: Option<&pb::DynamicValue>) -> Value {
    decode(message.expect("a value"), &thing_type()).unwrap()
}

/// A whole object: what isn't given is null.
fn thing<const N: usize>(attributes: [(&str, Value); N]) -> Value {
    value(message(&Value::object(attributes)).as_ref())
}

const NAME: &str = "things_thing";

async fn plan(client: &mut Client, prior: &Value, config: &Value) -> plan_resource_change::Response {
    // Terraform's merge, as far as these tests need it: computed attributes keep their prior values.
    let mut proposed = config.clone();
    if let (Value::Map(entries), false) = (&mut proposed, prior.is_null()) {
        for name in ["id", "revision", "size"] {
            if entries[name].is_null() {
                entries.insert(name.into(), prior.get(name).clone());
            }
        }
    }
    let request = plan_resource_change::Request {
        type_name: NAME.into(),
        prior_state: message(prior),
        proposed_new_state: message(&proposed),
        config: message(config),
        prior_private: "x".into(),
        ..Default::default()
    };
    client.plan_resource_change(request).await.unwrap().into_inner()
}

async fn apply(client: &mut Client, prior: &Value, planned: &Value, config: &Value) -> apply_resource_change::Response {
    let request = apply_resource_change::Request {
        type_name: NAME.into(),
        prior_state: message(prior),
        planned_state: message(planned),
        config: message(config),
        planned_private: "xp".into(),
        ..Default::default()
    };
    client.apply_resource_change(request).await.unwrap().into_inner()
}

async fn create(client: &mut Client, config: &Value) -> apply_resource_change::Response {
    let planned = plan(client, &Value::Null, config).await;
    assert_eq!(planned.diagnostics, []);
    let planned = value(planned.planned_state.as_ref());
    apply(client, &Value::Null, &planned, config).await
}

fn summaries(diagnostics: &[pb::Diagnostic]) -> Vec<&str> {
    diagnostics.iter().map(|one| one.summary.as_str()).collect()
}

fn path_text(path: &pb::AttributePath) -> String {
    use pb::attribute_path::step::Selector;
    let step = |step: &pb::attribute_path::Step| match step.selector.as_ref() {
        Some(Selector::AttributeName(name)) => format!(".{name}"),
        Some(Selector::ElementKeyString(key)) => format!("[{key:?}]"),
        Some(Selector::ElementKeyInt(index)) => format!("[{index}]"),
        None => "?".into(),
    };
    path.steps.iter().map(step).collect()
}

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

#[tokio::test]
async fn write_only_values_need_a_terraform_that_knows_them() {
    let mut client = client().await;
    let config = thing([
        ("name", "one".into()),
        ("settings", Value::object([("token", "hush".into())])),
    ]);
    let mut request = validate_resource_config::Request {
        type_name: NAME.into(),
        config: message(&config),
        client_capabilities: None,
    };
    let answer = client
        .validate_resource_config(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        ["Write-only attributes need Terraform 1.11"]
    );
    assert_eq!(
        answer.diagnostics[0].attribute.as_ref().map(path_text).as_deref(),
        Some(".settings.token")
    );
    request.client_capabilities = Some(pb::ClientCapabilities {
        write_only_attributes_allowed: true,
        ..Default::default()
    });
    let answer = client.validate_resource_config(request).await.unwrap().into_inner();
    assert_eq!(answer.diagnostics, []);
}

async fn upgrade(client: &mut Client, version: i64, json: &str) -> upgrade_resource_state::Response {
    let request = upgrade_resource_state::Request {
        type_name: NAME.into(),
        version,
        raw_state: Some(pb::RawState {
            json: json.to_owned().into(),
            ..Default::default()
        }),
    };
    client.upgrade_resource_state(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn older_state_is_brought_over_and_newer_state_refused() {
    let mut client = client().await;
    let answer = upgrade(&mut client, 1, r#"{"title":"one","size":4,"gone_since":true}"#).await;
    assert_eq!(
        value(answer.upgraded_state.as_ref()),
        thing([("name", "one".into()), ("size", 4.into())])
    );
    let answer = upgrade(&mut client, 2, r#"{"name":"one","gone_since":true}"#).await;
    assert_eq!(value(answer.upgraded_state.as_ref()), thing([("name", "one".into())]));
    let answer = upgrade(&mut client, 0, "{}").await;
    assert_eq!(summaries(&answer.diagnostics), ["Too old"]);
    let answer = upgrade(&mut client, 3, "{}").await;
    assert_eq!(
        summaries(&answer.diagnostics),
        ["things_thing: the state was written by a newer version of the provider"]
    );
    let answer = upgrade(&mut client, 2, r#"{"size":"many"}"#).await;
    assert_eq!(
        summaries(&answer.diagnostics),
        ["things_thing: the stored state doesn't fit the schema"]
    );
    let request = upgrade_resource_state::Request {
        type_name: NAME.into(),
        version: 1,
        raw_state: Some(pb::RawState {
            flatmap: [("a".into(), "b".into())].into(),
            ..Default::default()
        }),
    };
    let answer = client.upgrade_resource_state(request).await.unwrap().into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        ["things_thing: the state is in a form from before Terraform 0.12"]
    );
}

#[tokio::test]
async fn imports_by_identifier_and_by_identity() {
    let mut client = client().await;
    let mut request = import_resource_state::Request {
        type_name: NAME.into(),
        id: "one".into(),
        ..Default::default()
    };
    let answer = client
        .import_resource_state(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        value(answer.imported_resources[0].state.as_ref()).get("name"),
        &"one".into()
    );
    request.id = "nobody".into();
    let answer = client
        .import_resource_state(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(summaries(&answer.diagnostics), ["things_thing: nothing to import"]);
    let identity = Type::Object([("name".to_owned(), Type::String)].into());
    let identity = encode(&Value::object([("name", "two".into())]), &identity).unwrap();
    request.id = String::new();
    request.identity = Some(pb::ResourceIdentityData {
        identity_data: Some(identity),
    });
    let answer = client.import_resource_state(request).await.unwrap().into_inner();
    assert_eq!(
        value(answer.imported_resources[0].state.as_ref()).get("name"),
        &"two".into()
    );
}

#[tokio::test]
async fn what_is_gone_reads_as_null() {
    let mut client = client().await;
    let request = |note: &str| read_resource::Request {
        type_name: NAME.into(),
        current_state: message(&thing([("name", "one".into()), ("note", note.into())])),
        private: "kept".into(),
        ..Default::default()
    };
    let there = client.read_resource(request("there")).await.unwrap().into_inner();
    assert_eq!(there.private, "kept");
    assert!(there.new_identity.is_some());
    let gone = client.read_resource(request("gone")).await.unwrap().into_inner();
    assert!(value(gone.new_state.as_ref()).is_null());
}

#[tokio::test]
async fn functions_answer_or_name_the_argument() {
    let mut client = client().await;
    let mut call = async |number: i64| {
        let argument = encode(&number.into(), &Type::Number).unwrap();
        let request = call_function::Request {
            name: "half".into(),
            arguments: vec![argument],
        };
        client.call_function(request).await.unwrap().into_inner()
    };
    let answer = call(8).await;
    assert_eq!(decode(&answer.result.unwrap(), &Type::Number).unwrap(), 4.into());
    let error = call(7).await.error.unwrap();
    assert_eq!(
        (error.text.as_str(), error.function_argument),
        ("it must be even", Some(0))
    );
    let error = call(0).await.error.unwrap();
    assert!(error.text.contains("half of nothing"), "{}", error.text);
    let unknown = call_function::Request {
        name: "third".into(),
        arguments: Vec::new(),
    };
    let error = client.call_function(unknown).await.unwrap().into_inner().error.unwrap();
    assert!(error.text.contains("third"));
}

#[tokio::test]
async fn blocks_that_are_not_there_are_said_to_be_unknown() {
    let mut client = client().await;
    let request = read_data_source::Request {
        type_name: "things_nothing".into(),
        ..Default::default()
    };
    let answer = client.read_data_source(request).await.unwrap().into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        ["Unknown data source type \"things_nothing\""]
    );
    let request = list_resource::Request {
        type_name: NAME.into(),
        ..Default::default()
    };
    let mut events = client.list_resource(request).await.unwrap().into_inner();
    let event = events.message().await.unwrap().unwrap();
    assert_eq!(
        summaries(&event.diagnostic),
        ["Unknown list resource type \"things_thing\""]
    );
    assert_eq!(events.message().await.unwrap(), None);
    let request = invoke_action::Request {
        action_type: "things_do".into(),
        ..Default::default()
    };
    let mut events = client.invoke_action(request).await.unwrap().into_inner();
    assert!(matches!(
        events.message().await.unwrap().unwrap().r#type,
        Some(invoke_action::event::Type::Completed(done)) if done.diagnostics.len() == 1
    ));
    let request = plan_resource_change::Request {
        type_name: "things_nothing".into(),
        ..Default::default()
    };
    let answer = client.plan_resource_change(request).await.unwrap().into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        ["Unknown resource type \"things_nothing\""]
    );
}

#[tokio::test]
async fn messages_may_be_larger_than_usual() {
    let mut client = client().await.max_decoding_message_size(server::LARGEST_MESSAGE);
    client = client.max_encoding_message_size(server::LARGEST_MESSAGE);
    let large = thing([("name", "one".into()), ("note", "x".repeat(8 << 20).into())]);
    let answer = create(&mut client, &large).await;
    assert_eq!(answer.diagnostics, []);
    assert_eq!(
        value(answer.new_state.as_ref()).get("note").as_str().map(str::len),
        Some(8 << 20)
    );
}
