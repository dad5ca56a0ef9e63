//! No text in any attribute makes a block fail inside itself, and every duration has bounds that its error names.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use terraform_provider_etcd::plugin::block::Provider as _;
use terraform_provider_etcd::plugin::codec::{attributes_type, encode};
use terraform_provider_etcd::plugin::proto::tfplugin6::{
    self as pb, configure_provider, plan_resource_change, validate_action_config, validate_data_resource_config,
    validate_ephemeral_resource_config, validate_list_resource_config, validate_provider_config,
    validate_resource_config,
};
use terraform_provider_etcd::plugin::schema::{Attribute, Kind, Presence, Schema, Type};
use terraform_provider_etcd::plugin::value::{Number, Value};
use terraform_provider_etcd::provider::provider;

use crate::client::{Client, client_of, path_text};

/// What kind of block it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Provider,
    Resource,
    DataSource,
    Ephemeral,
    Action,
    List,
}

struct Block {
    what: What,
    name: &'static str,
    schema: Schema,
}

fn blocks() -> Vec<Block> {
    let provider = provider();
    let block = |what, name, schema| Block { what, name, schema };
    let mut all = vec![block(What::Provider, "provider", provider.schema())];
    all.extend({ provider.resources().iter() }.map(|one| block(What::Resource, one.name(), one.schema())));
    all.extend({ provider.data_sources().iter() }.map(|one| block(What::DataSource, one.name(), one.schema())));
    all.extend({ provider.ephemerals().iter() }.map(|one| block(What::Ephemeral, one.name(), one.schema())));
    all.extend({ provider.actions().iter() }.map(|one| block(What::Action, one.name(), one.schema())));
    all.extend({ provider.lists().iter() }.map(|one| block(What::List, one.name(), one.schema())));
    all
}

/// The way to every text that a user may write, through nested objects.
fn texts(attributes: &[Attribute]) -> Vec<Vec<&'static str>> {
    leaves(attributes, &Type::String)
}

fn leaves(attributes: &[Attribute], of: &Type) -> Vec<Vec<&'static str>> {
    let mut all = Vec::new();
    for one in attributes.iter().filter(|one| one.presence != Presence::Computed) {
        match &one.kind {
            Kind::Plain(own) if own == of => all.push(vec![one.name]),
            // What the cluster says of itself is not written by hand.
            Kind::Single(nested) if one.name != "cluster" => {
                all.extend(
                    leaves(nested, of)
                        .into_iter()
                        .map(|rest| [vec![one.name], rest].concat()),
                );
            }
            _ => {}
        }
    }
    all
}

/// A configuration with this text at the end of the way, and otherwise as little as possible.
fn with(attributes: &[Attribute], way: &[&str], value: impl Into<Value>) -> Value {
    with_value(attributes, way, &value.into())
}

fn with_value(attributes: &[Attribute], way: &[&str], given: &Value) -> Value {
    let entries = attributes.iter().map(|one| {
        let value = match (&one.kind, way) {
            (Kind::Single(nested), [name, rest @ ..]) if *name == one.name && !rest.is_empty() => {
                with_value(nested, rest, given)
            }
            (_, [name]) if *name == one.name => given.clone(),
            _ if one.presence == Presence::Required => Value::Unknown,
            _ => Value::Null,
        };
        (one.name.to_owned(), value)
    });
    Value::Map(entries.collect())
}

async fn validated(client: &mut Client, block: &Block, config: &Value) -> Vec<pb::Diagnostic> {
    let config = Some(encode(config, &attributes_type(&block.schema.attributes)).unwrap());
    let name = block.name.to_owned();
    match block.what {
        What::Provider => {
            let request = validate_provider_config::Request { config };
            client
                .validate_provider_config(request)
                .await
                .unwrap()
                .into_inner()
                .diagnostics
        }
        What::Resource => {
            let request = validate_resource_config::Request {
                type_name: name,
                config,
                ..Default::default()
            };
            client
                .validate_resource_config(request)
                .await
                .unwrap()
                .into_inner()
                .diagnostics
        }
        What::DataSource => {
            let request = validate_data_resource_config::Request {
                type_name: name,
                config,
            };
            client
                .validate_data_resource_config(request)
                .await
                .unwrap()
                .into_inner()
                .diagnostics
        }
        What::Ephemeral => {
            let request = validate_ephemeral_resource_config::Request {
                type_name: name,
                config,
            };
            client
                .validate_ephemeral_resource_config(request)
                .await
                .unwrap()
                .into_inner()
                .diagnostics
        }
        What::Action => {
            let request = validate_action_config::Request {
                action_type: name,
                config,
            };
            client
                .validate_action_config(request)
                .await
                .unwrap()
                .into_inner()
                .diagnostics
        }
        What::List => {
            let request = validate_list_resource_config::Request {
                type_name: name,
                config,
                ..Default::default()
            };
            client
                .validate_list_resource_config(request)
                .await
                .unwrap()
                .into_inner()
                .diagnostics
        }
    }
}

/// What a plan says of it, where there is one; for the provider, what it says when it is configured.
async fn planned(client: &mut Client, block: &Block, config: &Value) -> Vec<pb::Diagnostic> {
    let r#type = attributes_type(&block.schema.attributes);
    let encoded = |value: &Value| Some(encode(value, &r#type).unwrap());
    match block.what {
        What::Resource => {
            let request = plan_resource_change::Request {
                type_name: block.name.to_owned(),
                prior_state: encoded(&Value::Null),
                proposed_new_state: encoded(config),
                config: encoded(config),
                ..Default::default()
            };
            client
                .plan_resource_change(request)
                .await
                .unwrap()
                .into_inner()
                .diagnostics
        }
        What::Provider => {
            let client_capabilities = Some(pb::ClientCapabilities {
                write_only_attributes_allowed: true,
                ..Default::default()
            });
            let request = configure_provider::Request {
                config: encoded(config),
                client_capabilities,
                ..Default::default()
            };
            client
                .configure_provider(request)
                .await
                .unwrap()
                .into_inner()
                .diagnostics
        }
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn every_duration_has_bounds() {
    let mut client = client_of(provider()).await;
    let mut durations = Vec::new();
    for block in blocks() {
        for way in texts(&block.schema.attributes) {
            let config = with(&block.schema.attributes, &way, "soon");
            let said = validated(&mut client, &block, &config).await;
            if !said.iter().any(|one| one.detail.contains("is not a duration")) {
                continue;
            }
            let name = format!("{} {}", block.name, way.join("."));
            for text in [
                "584554530872y",
                "1ns 99999999999999999999d",
                "18446744073709551615s",
                "106751991167300d",
            ] {
                let config = with(&block.schema.attributes, &way, text);
                let said = validated(&mut client, &block, &config).await;
                let named = said.iter().find(|one| one.detail.contains("it has to be from"));
                let named = named.unwrap_or_else(|| panic!("{name} = {text}: {said:?}"));
                let at = path_text(named.attribute.as_ref().expect("an attribute"));
                assert!(
                    format!(".{}", way.join(".")).starts_with(&at) && !at.is_empty(),
                    "{name}: {at}"
                );
            }
            durations.push(name);
        }
    }
    insta::assert_snapshot!(durations.join("\n"));
}

#[tokio::test]
async fn half_a_second_is_no_keep_alive() {
    let mut client = client_of(provider()).await;
    let block = blocks().remove(0);
    for (text, right) in [
        ("500ms", false),
        ("0s", false),
        ("1s", true),
        ("1h", true),
        ("61m", false),
    ] {
        let config = with(&block.schema.attributes, &["ssh", "keep_alive"], text);
        let said = validated(&mut client, &block, &config).await;
        assert_eq!(said.is_empty(), right, "{text}: {said:?}");
        assert!(said.iter().all(|one| one.detail.contains("from 1s to 1h")), "{said:?}");
    }
}

#[test]
fn no_text_makes_a_block_fail_inside_itself() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let texts_to_try = prop_oneof![
        3 => "[0-9]{1,22} ?(ns|us|ms|s|m|h|d|w|M|y|years)?( ?[0-9]{1,20}(s|h|y))?",
        1 => ".{0,30}",
    ];
    let config = Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    };
    let mut client = runtime.block_on(client_of(provider()));
    let blocks = blocks();
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&texts_to_try, |text| {
        let mut client = client.clone();
        for block in &blocks {
            for way in texts(&block.schema.attributes) {
                let config = with(&block.schema.attributes, &way, text.as_str());
                let said = runtime.block_on(async {
                    let mut said = validated(&mut client, block, &config).await;
                    said.extend(planned(&mut client, block, &config).await);
                    said
                });
                let inside = said.iter().find(|one| one.summary.contains("failed inside itself"));
                prop_assert!(inside.is_none(), "{} {way:?} = {text:?}: {inside:?}", block.name);
            }
        }
        Ok(())
    });
    outcome.unwrap();
    runtime.block_on(async { client.get_metadata(pb::get_metadata::Request::default()).await.unwrap() });
}

#[tokio::test]
async fn no_number_makes_a_block_fail_inside_itself() {
    let mut client = client_of(provider()).await;
    let decimal = |digits: &str| Value::Number(Number::Decimal(digits.to_owned()));
    let mut numbers: Vec<Value> = [0, 1, -1, 5, i64::MAX, i64::MIN, 1 << 40].map(Value::from).into();
    numbers.extend([
        0.5.into(),
        decimal("1e300"),
        decimal("18446744073709551616"),
        decimal("-1e300"),
    ]);
    for block in blocks() {
        for way in leaves(&block.schema.attributes, &Type::Number) {
            for number in &numbers {
                let config = with(&block.schema.attributes, &way, number.clone());
                let mut said = validated(&mut client, &block, &config).await;
                said.extend(planned(&mut client, &block, &config).await);
                let inside = said.iter().find(|one| one.summary.contains("failed inside itself"));
                assert!(inside.is_none(), "{} {way:?} = {number:?}: {inside:?}", block.name);
            }
        }
    }
}
