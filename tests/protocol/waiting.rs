//! What is looked at later while the provider's configuration is not known, by a Terraform that can wait, and by one that can't.

use terraform_provider_etcd::plugin::block::Provider as _;
use terraform_provider_etcd::plugin::codec::{attributes_type, decode, encode};
use terraform_provider_etcd::plugin::proto::tfplugin6::{
    self as pb, configure_provider, deferred::Reason, import_resource_state, open_ephemeral_resource,
    plan_resource_change, read_data_source,
};
use terraform_provider_etcd::plugin::schema::Schema;
use terraform_provider_etcd::plugin::value::Value;
use terraform_provider_etcd::provider::provider;

use crate::client::{Client, client_of, summaries};

const WAITS: Option<pb::ClientCapabilities> = Some(pb::ClientCapabilities {
    deferral_allowed: true,
    write_only_attributes_allowed: true,
});
const STATUS: &str = "etcd_cluster_status";
const TUNNEL: &str = "etcd_tunnel";

const IMPORTED: &str = r#"{"name":"main","servers":{"a1":{"network":"A","private_address":"10.0.0.11","ssh":{"host":"127.0.0.1","port":1}}}}"#;

fn encoded<const N: usize>(schema: &Schema, given: [(&str, Value); N]) -> Option<pb::DynamicValue> {
    Some(encode(&Value::object(given), &attributes_type(&schema.attributes)).unwrap())
}

fn data_schema() -> Schema {
    provider().data_sources()[0].schema()
}

fn tunnel_schema() -> Schema {
    let provider = provider();
    let tunnel = { provider.ephemerals().iter() }.find(|one| one.name() == TUNNEL);
    tunnel.unwrap().schema()
}

/// A cluster of one server where nobody listens.
fn cluster() -> Value {
    let server = Value::object([
        ("name", "a1".into()),
        ("network", "A".into()),
        ("private_address", "10.0.0.11".into()),
        ("ssh", Value::object([("host", "127.0.0.1".into()), ("port", 1.into())])),
    ]);
    Value::object([
        ("name", "main".into()),
        ("token", "t".into()),
        ("domain", "main.etcd.internal".into()),
        ("servers", Value::object([("a1", server)])),
    ])
}

/// A client whose provider was given this private key.
async fn configured(private_key: Value) -> Client {
    let mut client = client_of(provider()).await;
    let ssh = Value::object([("user", "admin".into()), ("private_key", private_key)]);
    let request = configure_provider::Request {
        config: encoded(&provider().schema(), [("ssh", ssh)]),
        ..Default::default()
    };
    let answer = client.configure_provider(request).await.unwrap().into_inner();
    assert_eq!(answer.diagnostics, []);
    client
}

async fn status(
    client: &mut Client,
    client_capabilities: Option<pb::ClientCapabilities>,
) -> read_data_source::Response {
    let request = read_data_source::Request {
        type_name: STATUS.into(),
        config: encoded(&data_schema(), [("cluster", cluster())]),
        client_capabilities,
        ..Default::default()
    };
    client.read_data_source(request).await.unwrap().into_inner()
}

async fn tunnel(
    client: &mut Client,
    client_capabilities: Option<pb::ClientCapabilities>,
) -> open_ephemeral_resource::Response {
    let config = [("cluster", cluster()), ("timeout", "1s".into())];
    let request = open_ephemeral_resource::Request {
        type_name: TUNNEL.into(),
        config: encoded(&tunnel_schema(), config),
        client_capabilities,
    };
    client.open_ephemeral_resource(request).await.unwrap().into_inner()
}

async fn import(
    client: &mut Client,
    client_capabilities: Option<pb::ClientCapabilities>,
) -> import_resource_state::Response {
    let request = import_resource_state::Request {
        type_name: "etcd_cluster".into(),
        id: IMPORTED.into(),
        client_capabilities,
        ..Default::default()
    };
    client.import_resource_state(request).await.unwrap().into_inner()
}

fn read(response: &read_data_source::Response) -> Value {
    decode(
        response.state.as_ref().unwrap(),
        &attributes_type(&data_schema().attributes),
    )
    .unwrap()
}

#[tokio::test]
async fn what_needs_a_server_waits_for_the_providers_configuration() {
    let mut client = configured(Value::Unknown).await;
    let answer = status(&mut client, WAITS).await;
    assert_eq!(answer.diagnostics, []);
    let state = read(&answer);
    assert_eq!(answer.deferred.unwrap().reason(), Reason::ProviderConfigUnknown);
    assert!(state.get("healthy").is_unknown() && state.get("members").is_unknown());
    assert_eq!(state.get("cluster").get("name").as_str(), Some("main"));
    let answer = tunnel(&mut client, WAITS).await;
    assert_eq!(answer.deferred.unwrap().reason(), Reason::ProviderConfigUnknown);
    assert_eq!((answer.diagnostics, answer.result), (Vec::new(), None));
    let answer = import(&mut client, WAITS).await;
    assert_eq!(answer.deferred.unwrap().reason(), Reason::ProviderConfigUnknown);
    assert_eq!(
        (answer.diagnostics, answer.imported_resources),
        (Vec::new(), Vec::new())
    );
}

#[tokio::test]
async fn a_terraform_that_can_not_wait_is_answered_at_once() {
    let mut client = configured(Value::Unknown).await;
    let answer = status(&mut client, None).await;
    assert_eq!(answer.deferred, None);
    assert!(read(&answer).get("healthy").is_null(), "nothing was asked");
    let state = read(&answer);
    let problems = state.get("problems").as_list().unwrap_or_default();
    let problems: Vec<&str> = problems.iter().filter_map(Value::as_str).collect();
    assert!(
        problems
            .iter()
            .any(|one| one.contains("configuration is not known yet")),
        "{problems:?}"
    );
    let answer = tunnel(&mut client, None).await;
    assert_eq!(answer.deferred, None);
    assert_eq!(
        summaries(&answer.diagnostics),
        [
            "There is nobody to tunnel to now",
            "The tunnel is open to every local user"
        ]
    );
    let answer = import(&mut client, None).await;
    assert_eq!((answer.deferred, answer.imported_resources), (None, Vec::new()));
    let detail = &answer.diagnostics[0].detail;
    assert!(detail.contains("configuration is not known yet"), "{detail}");
}

#[tokio::test]
async fn nothing_waits_without_a_reason() {
    // What is known is looked at, by whomever; what is only planned needs no server.
    let mut client = configured("no key".into()).await;
    assert_eq!(status(&mut client, WAITS).await.deferred, None);
    assert_eq!(tunnel(&mut client, WAITS).await.deferred, None);
    assert_eq!(import(&mut client, WAITS).await.deferred, None);
    let mut client = configured(Value::Unknown).await;
    let schema = provider().resources()[0].schema();
    let config = encoded(
        &schema,
        [
            ("name", "a1".into()),
            ("network", "A".into()),
            ("private_address", "127.0.0.1".into()),
        ],
    );
    let request = plan_resource_change::Request {
        type_name: "etcd_server".into(),
        prior_state: Some(encode(&Value::Null, &attributes_type(&schema.attributes)).unwrap()),
        proposed_new_state: config.clone(),
        config,
        client_capabilities: WAITS,
        ..Default::default()
    };
    let answer = client.plan_resource_change(request).await.unwrap().into_inner();
    assert_eq!((answer.deferred, answer.diagnostics), (None, Vec::new()));
}
