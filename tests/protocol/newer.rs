//! Actions, ephemeral resources, list resources, deferral and generated configurations, in process.

use std::time::Duration;

use terraform_provider_etcd::plugin::codec::{attributes_type, decode, encode};
use terraform_provider_etcd::plugin::proto::tfplugin6::{
    self as pb, close_ephemeral_resource, generate_resource_config, get_metadata, get_provider_schema, invoke_action,
    list_resource, open_ephemeral_resource, plan_action, plan_resource_change, renew_ephemeral_resource, stop_provider,
    validate_action_config, validate_ephemeral_resource_config, validate_list_resource_config,
};
use terraform_provider_etcd::plugin::schema::{Schema, Type};
use terraform_provider_etcd::plugin::value::Value;

use crate::client::{Client, NAME, client, message, path_text, summaries, thing, value};
use crate::passing::{pass_schema, shake_schema, shelf_schema};

const ACTION: &str = "things_shake";
const EPHEMERAL: &str = "things_pass";
const WAITS: Option<pb::ClientCapabilities> = Some(pb::ClientCapabilities {
    deferral_allowed: true,
    write_only_attributes_allowed: true,
});

fn config<const N: usize>(schema: &Schema, given: [(&str, Value); N]) -> Option<pb::DynamicValue> {
    Some(encode(&Value::object(given), &attributes_type(&schema.attributes)).unwrap())
}

fn shake(thing: impl Into<Value>) -> Option<pb::DynamicValue> {
    config(&shake_schema(), [("thing", thing.into())])
}

async fn invoke(client: &mut Client, thing: &str) -> tonic::Streaming<invoke_action::Event> {
    let request = invoke_action::Request {
        action_type: ACTION.into(),
        config: shake(thing),
        ..Default::default()
    };
    client.invoke_action(request).await.unwrap().into_inner()
}

/// What was said, and how it ended.
async fn told(mut events: tonic::Streaming<invoke_action::Event>) -> (Vec<String>, Vec<pb::Diagnostic>) {
    let mut said = Vec::new();
    loop {
        match events.message().await.unwrap().and_then(|event| event.r#type) {
            Some(invoke_action::event::Type::Progress(progress)) => said.push(progress.message),
            Some(invoke_action::event::Type::Completed(done)) => {
                assert_eq!(events.message().await.unwrap(), None, "nothing comes after the end");
                return (said, done.diagnostics);
            }
            None => panic!("it ended without saying so"),
        }
    }
}

#[tokio::test]
async fn they_are_announced_with_their_schemas() {
    let mut client = client().await;
    let request = get_metadata::Request::default();
    let metadata = client.get_metadata(request).await.unwrap().into_inner();
    assert_eq!(metadata.actions[0].type_name, ACTION);
    assert_eq!(metadata.ephemeral_resources[0].type_name, EPHEMERAL);
    assert_eq!(metadata.list_resources[0].type_name, NAME);
    let request = get_provider_schema::Request::default();
    let schemas = client.get_provider_schema(request).await.unwrap().into_inner();
    let action = schemas.action_schemas[ACTION].schema.as_ref().unwrap();
    let attributes = &action.block.as_ref().unwrap().attributes;
    assert!(
        attributes.iter().all(|one| !one.computed),
        "an action computes nothing: {attributes:?}"
    );
    let nested = attributes[3].nested_type.as_ref().unwrap();
    assert!(nested.attributes[0].optional && !nested.attributes[0].computed);
    assert!(schemas.ephemeral_resource_schemas.contains_key(EPHEMERAL));
    assert!(schemas.list_resource_schemas.contains_key(NAME));
}

#[tokio::test]
async fn configurations_are_checked() {
    let mut client = client().await;
    let request = validate_action_config::Request {
        action_type: ACTION.into(),
        config: shake(""),
    };
    let answer = client.validate_action_config(request).await.unwrap().into_inner();
    assert_eq!(summaries(&answer.diagnostics), ["Shake what?"]);
    let request = validate_ephemeral_resource_config::Request {
        type_name: EPHEMERAL.into(),
        config: config(&pass_schema(), [("holder", "".into())]),
    };
    let answer = client.validate_ephemeral_resource_config(request).await;
    assert_eq!(
        summaries(&answer.unwrap().into_inner().diagnostics),
        ["A pass for whom?"]
    );
    let request = validate_list_resource_config::Request {
        type_name: NAME.into(),
        config: config(&shelf_schema(), [("shelf", "".into())]),
        ..Default::default()
    };
    let answer = client.validate_list_resource_config(request).await;
    assert_eq!(summaries(&answer.unwrap().into_inner().diagnostics), ["Which shelf?"]);
}

#[tokio::test]
async fn an_action_says_what_it_does_and_how_it_ended() {
    let mut client = client().await;
    let (said, diagnostics) = told(invoke(&mut client, "tree").await).await;
    assert_eq!(said, ["tree is shaken, 1", "tree is shaken, 2"]);
    assert_eq!(diagnostics, []);
    let (said, diagnostics) = told(invoke(&mut client, "vase").await).await;
    assert_eq!(said.len(), 2);
    assert_eq!(summaries(&diagnostics), ["It broke"]);
    let path = diagnostics[0].attribute.as_ref().map(path_text);
    assert_eq!(path.as_deref(), Some(".thing"));
    let (said, diagnostics) = told(invoke(&mut client, "panic").await).await;
    assert_eq!(said.len(), 2);
    assert_eq!(
        summaries(&diagnostics),
        ["things_shake: the provider failed inside itself"]
    );
    let request = invoke_action::Request {
        action_type: ACTION.into(),
        config: shake(Value::Unknown),
        ..Default::default()
    };
    let (_, diagnostics) = told(client.invoke_action(request).await.unwrap().into_inner()).await;
    assert_eq!(
        summaries(&diagnostics),
        ["things_shake: something in the configuration is not known yet"]
    );
}

#[tokio::test]
async fn an_action_says_something_before_it_ends_and_stops_on_request() {
    let mut client = client().await;
    let mut events = invoke(&mut client, "slow").await;
    // It does not end by itself: what is seen now is seen while it runs.
    for _ in 0..2 {
        let event = events.message().await.unwrap().unwrap();
        assert!(matches!(event.r#type, Some(invoke_action::event::Type::Progress(_))));
    }
    let request = stop_provider::Request::default();
    client.stop_provider(request).await.unwrap();
    let (_, diagnostics) = tokio::time::timeout(Duration::from_secs(10), told(events))
        .await
        .unwrap();
    assert_eq!(summaries(&diagnostics), ["Stopped"]);
}

#[tokio::test]
async fn an_action_can_be_refused_or_put_off_in_the_plan() {
    let mut client = client().await;
    let mut plan = async |thing: Value, capabilities| {
        let request = plan_action::Request {
            action_type: ACTION.into(),
            config: shake(thing),
            client_capabilities: capabilities,
        };
        client.plan_action(request).await.unwrap().into_inner()
    };
    assert_eq!(
        summaries(&plan("glass".into(), None).await.diagnostics),
        ["Glass breaks"]
    );
    assert_eq!(plan("tree".into(), WAITS).await, plan_action::Response::default());
    assert_eq!(plan(Value::Unknown, None).await, plan_action::Response::default());
    let deferred = plan(Value::Unknown, WAITS).await.deferred.unwrap();
    assert_eq!(deferred.reason(), pb::deferred::Reason::ResourceConfigUnknown);
}

#[tokio::test]
async fn a_pass_is_opened_renewed_and_closed() {
    let mut client = client().await;
    let r#type = attributes_type(&pass_schema().attributes);
    let mut open = async |holder: &str, capabilities| {
        let request = open_ephemeral_resource::Request {
            type_name: EPHEMERAL.into(),
            config: config(&pass_schema(), [("holder", holder.into())]),
            client_capabilities: capabilities,
        };
        client.open_ephemeral_resource(request).await.unwrap().into_inner()
    };
    let opened = open("one", None).await;
    let result = decode(opened.result.as_ref().unwrap(), &r#type).unwrap();
    let expected = [
        ("holder", "one".into()),
        ("door", "front".into()),
        ("code", "open-sesame".into()),
    ];
    assert_eq!(result, Value::object(expected));
    let renew_at = opened.renew_at.unwrap();
    assert_eq!((renew_at.seconds, renew_at.nanos), (1, 500_000_000));
    assert_eq!(
        summaries(&open("stranger", None).await.diagnostics),
        ["Strangers get none"]
    );
    let deferred = open("later", WAITS).await.deferred.unwrap();
    assert_eq!(deferred.reason(), pb::deferred::Reason::AbsentPrereq);
    let request = renew_ephemeral_resource::Request {
        type_name: EPHEMERAL.into(),
        private: opened.private,
    };
    let renewed = client.renew_ephemeral_resource(request).await.unwrap().into_inner();
    assert_eq!(renewed.renew_at, None);
    let request = close_ephemeral_resource::Request {
        type_name: EPHEMERAL.into(),
        private: renewed.private,
    };
    let closed = client.close_ephemeral_resource(request).await.unwrap().into_inner();
    assert_eq!(closed.diagnostics[0].detail, "pass-1+");
}

/// Identities, display names and resources, and what was said.
async fn listed(
    client: &mut Client,
    shelf: &str,
    with: bool,
    limit: i64,
) -> (Vec<(Value, String, Option<Value>)>, Vec<pb::Diagnostic>) {
    let request = list_resource::Request {
        type_name: NAME.into(),
        config: config(&shelf_schema(), [("shelf", shelf.into())]),
        include_resource_object: with,
        limit,
    };
    let mut events = client.list_resource(request).await.unwrap().into_inner();
    let identity_type = Type::Object([("name".to_owned(), Type::String)].into());
    let (mut found, mut said) = (Vec::new(), Vec::new());
    while let Some(event) = events.message().await.unwrap() {
        said.extend(event.diagnostic);
        let Some(identity) = event.identity.and_then(|data| data.identity_data) else {
            continue;
        };
        let resource = event.resource_object.as_ref().map(|one| value(Some(one)));
        found.push((decode(&identity, &identity_type).unwrap(), event.display_name, resource));
    }
    (found, said)
}

#[tokio::test]
async fn what_there_is_is_listed() {
    let mut client = client().await;
    let (found, said) = listed(&mut client, "top", false, 0).await;
    assert_eq!((found.len(), said.len()), (3, 0));
    let identity = Value::object([("name", "top-1".into())]);
    assert_eq!(found[0], (identity, "Thing top-1".into(), None));
    let (found, said) = listed(&mut client, "dusty", true, 2).await;
    assert_eq!(found.len(), 2, "no more than were asked for");
    assert_eq!(summaries(&said), ["Dusty"]);
    let expected = thing([("name", "dusty-1".into()), ("size", 5.into()), ("id", "found".into())]);
    assert_eq!(found[0].2.as_ref(), Some(&expected));
}

#[tokio::test]
async fn a_resource_can_be_put_off() {
    let mut client = client().await;
    let later = thing([("name", "one".into()), ("note", "later".into())]);
    let mut request = plan_resource_change::Request {
        type_name: NAME.into(),
        prior_state: message(&Value::Null),
        proposed_new_state: message(&later),
        config: message(&later),
        client_capabilities: WAITS,
        ..Default::default()
    };
    let answer = client.plan_resource_change(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.deferred.unwrap().reason(), pb::deferred::Reason::AbsentPrereq);
    assert!(value(answer.planned_state.as_ref()).get("id").is_unknown());
    // A Terraform that can't wait gets a plan as ever.
    request.client_capabilities = None;
    let answer = client.plan_resource_change(request).await.unwrap().into_inner();
    assert_eq!(answer.deferred, None);
    assert_eq!(answer.diagnostics, []);
}

#[tokio::test]
async fn a_generated_configuration_has_neither_defaults_nor_what_is_computed() {
    let mut client = client().await;
    let state = thing([
        ("name", "one".into()),
        ("size", 3.into()),
        ("id", "id-1".into()),
        (
            "settings",
            Value::object([("level", "high".into()), ("stamp", "stamp-1".into())]),
        ),
    ]);
    let request = generate_resource_config::Request {
        type_name: NAME.into(),
        state: message(&state),
    };
    let answer = client.generate_resource_config(request).await.unwrap().into_inner();
    assert_eq!(answer.diagnostics, []);
    let expected = thing([
        ("name", "one".into()),
        ("settings", Value::object([("level", "high".into())])),
    ]);
    assert_eq!(value(answer.config.as_ref()), expected);
}
