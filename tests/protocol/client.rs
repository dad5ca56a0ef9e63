//! A client of the real service, with the made-up provider behind it, and how its tests write values.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use terraform_provider_etcd::plugin::block::Provider;
use terraform_provider_etcd::plugin::codec::{attributes_type, decode, encode};
use terraform_provider_etcd::plugin::proto::tfplugin6::provider_client::ProviderClient;
use terraform_provider_etcd::plugin::proto::tfplugin6::{self as pb, apply_resource_change, plan_resource_change};
use terraform_provider_etcd::plugin::schema::Type;
use terraform_provider_etcd::plugin::server;
use terraform_provider_etcd::plugin::service::Service;
use terraform_provider_etcd::plugin::value::Value;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::things::{Things, schema};

pub type Client = ProviderClient<Channel>;

pub async fn client() -> Client {
    client_of(Things::new()).await
}

pub async fn client_of(provider: impl Provider + 'static) -> Client {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let service = Service::new(Arc::new(provider));
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

pub fn thing_type() -> Type {
    attributes_type(&schema().attributes)
}

pub fn message(value: &Value) -> Option<pb::DynamicValue> {
    Some(encode(value, &thing_type()).unwrap())
}

pub fn value(message: Option<&pb::DynamicValue>) -> Value {
    decode(message.expect("a value"), &thing_type()).unwrap()
}

/// A whole object: what isn't given is null.
pub fn thing<const N: usize>(attributes: [(&str, Value); N]) -> Value {
    value(message(&Value::object(attributes)).as_ref())
}

pub const NAME: &str = "things_thing";

pub async fn plan(client: &mut Client, prior: &Value, config: &Value) -> plan_resource_change::Response {
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

pub async fn apply(
    client: &mut Client,
    prior: &Value,
    planned: &Value,
    config: &Value,
) -> apply_resource_change::Response {
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

pub async fn create(client: &mut Client, config: &Value) -> apply_resource_change::Response {
    let planned = plan(client, &Value::Null, config).await;
    assert_eq!(planned.diagnostics, []);
    let planned = value(planned.planned_state.as_ref());
    apply(client, &Value::Null, &planned, config).await
}

pub fn summaries(diagnostics: &[pb::Diagnostic]) -> Vec<&str> {
    diagnostics.iter().map(|one| one.summary.as_str()).collect()
}

pub fn path_text(path: &pb::AttributePath) -> String {
    use pb::attribute_path::step::Selector;
    let step = |step: &pb::attribute_path::Step| match step.selector.as_ref() {
        Some(Selector::AttributeName(name)) => format!(".{name}"),
        Some(Selector::ElementKeyString(key)) => format!("[{key:?}]"),
        Some(Selector::ElementKeyInt(index)) => format!("[{index}]"),
        None => "?".into(),
    };
    path.steps.iter().map(step).collect()
}
