//! Data sources: checked, read, and stopped.

use std::time::Duration;

use terraform_provider_etcd::plugin::codec::{attributes_type, decode, encode};
use terraform_provider_etcd::plugin::proto::tfplugin6::{
    self as pb, get_metadata, get_provider_schema, read_data_source, stop_provider, validate_data_resource_config,
};
use terraform_provider_etcd::plugin::schema::Type;
use terraform_provider_etcd::plugin::value::Value;

use crate::client::{Client, client, path_text, summaries};
use crate::things::count_schema;

const NAME: &str = "things_count";

fn count_type() -> Type {
    attributes_type(&count_schema().attributes)
}

fn config(of: &str) -> Option<pb::DynamicValue> {
    let nothing = Value::Null;
    let config = Value::object([("of", of.into()), ("at_least", nothing.clone()), ("count", nothing)]);
    Some(encode(&config, &count_type()).unwrap())
}

async fn read(client: &mut Client, of: &str) -> read_data_source::Response {
    let request = read_data_source::Request {
        type_name: NAME.into(),
        config: config(of),
        ..Default::default()
    };
    client.read_data_source(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn it_is_announced_with_its_schema() {
    let mut client = client().await;
    let request = get_metadata::Request::default();
    let metadata = client.get_metadata(request).await.unwrap().into_inner();
    let names: Vec<&str> = metadata.data_sources.iter().map(|one| one.type_name.as_str()).collect();
    assert_eq!(names, [NAME]);
    let request = get_provider_schema::Request::default();
    let schemas = client.get_provider_schema(request).await.unwrap().into_inner();
    let block = schemas.data_source_schemas[NAME].block.as_ref().unwrap();
    let names: Vec<&str> = block.attributes.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["of", "at_least", "count"]);
}

#[tokio::test]
async fn its_configuration_is_checked() {
    let mut client = client().await;
    let request = validate_data_resource_config::Request {
        type_name: NAME.into(),
        config: config(""),
    };
    let answer = client
        .validate_data_resource_config(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(summaries(&answer.diagnostics), ["Count of what?"]);
    let at = answer.diagnostics[0].attribute.as_ref().map(path_text);
    assert_eq!(at.as_deref(), Some(".of"));
    let request = validate_data_resource_config::Request {
        type_name: "things_nothing".into(),
        ..Default::default()
    };
    let answer = client
        .validate_data_resource_config(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        ["Unknown data source type \"things_nothing\""]
    );
}

#[tokio::test]
async fn it_is_read_with_defaults_and_warnings() {
    let mut client = client().await;
    let answer = read(&mut client, "few").await;
    assert_eq!(summaries(&answer.diagnostics), ["Few"]);
    let state = decode(&answer.state.unwrap(), &count_type()).unwrap();
    assert_eq!((state.get("count"), state.get("at_least")), (&7.into(), &1.into()));
}

#[tokio::test]
async fn its_bugs_are_errors_that_name_it() {
    let mut client = client().await;
    let answer = read(&mut client, "panic").await;
    assert_eq!(
        summaries(&answer.diagnostics),
        ["things_count: the provider failed inside itself"]
    );
    let answer = read(&mut client, "stars").await;
    assert_eq!(
        summaries(&answer.diagnostics),
        ["things_count: something that was read is unknown"]
    );
}

#[tokio::test]
async fn stop_reaches_a_running_read() {
    let mut client = client().await;
    let mut other = client.clone();
    let running = tokio::spawn(async move { read(&mut other, "slow").await });
    client.stop_provider(stop_provider::Request {}).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), running)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.diagnostics, []);
}
