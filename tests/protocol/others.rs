//! Everything that is no plan or apply: checks, upgrades, imports, reads, functions, and what is not there.

use terraform_provider_etcd::plugin::codec::{decode, encode};
use terraform_provider_etcd::plugin::proto::tfplugin6::{
    self as pb, call_function, import_resource_state, invoke_action, list_resource, plan_resource_change,
    read_data_source, read_resource, upgrade_resource_state, validate_resource_config,
};
use terraform_provider_etcd::plugin::schema::Type;
use terraform_provider_etcd::plugin::server;
use terraform_provider_etcd::plugin::value::Value;

use crate::client::{Client, NAME, client, create, message, path_text, summaries, thing, value};

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
        Some(".settings")
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
        type_name: "things_nothing".into(),
        ..Default::default()
    };
    let mut events = client.list_resource(request).await.unwrap().into_inner();
    let event = events.message().await.unwrap().unwrap();
    assert_eq!(
        summaries(&event.diagnostic),
        ["Unknown list resource type \"things_nothing\""]
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
