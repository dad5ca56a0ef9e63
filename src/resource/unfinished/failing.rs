//! Updates that fail on every server, in process: what each block gives back as its state.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::plugin::block::{ApplyRequest, ApplyResponse, Context, Resource};
use crate::plugin::value::Value;
use crate::resource::cluster::ClusterResource;
use crate::resource::k3s_cluster::K3sClusterResource;
use crate::resource::member::MemberResource;
use crate::resource::road::Road;
use crate::resource::server::ServerResource;

const NAMES: [&str; 5] = ["a1", "b1", "c1", "d1", "e1"];

/// A server whose address is the one of an apply.
fn server(name: &str, apply: usize) -> Value {
    let place = NAMES.iter().position(|other| *other == name).unwrap_or_default();
    Value::object([
        ("name", name.into()),
        ("network", "A".into()),
        ("private_address", format!("10.0.{apply}.{place}").into()),
        ("peer_port", 2380.into()),
        ("client_port", 2379.into()),
        ("host_key", Value::Null),
    ])
}

/// A cluster that was founded, with these servers.
fn cluster(servers: &BTreeSet<String>, apply: usize) -> Value {
    let each = |of: &dyn Fn(&str) -> Value| Value::Map(servers.iter().map(|name| (name.clone(), of(name))).collect());
    Value::object([
        ("id", "main".into()),
        ("name", "main".into()),
        ("token", "t".into()),
        ("domain", "main.etcd.internal".into()),
        ("tls", Value::object([("enabled", false.into())])),
        ("founding", "founded".into()),
        ("servers", each(&|name| server(name, apply))),
        ("members", each(&|name| format!("view of {name}, {apply}").into())),
        ("rules", each(&|name| format!("rules of {name}, {apply}").into())),
        ("addresses", Value::Map([].into())),
        ("restored", Value::Null),
    ])
}

/// No server is reached: the provider has no configuration.
fn fails(block: &dyn Resource, prior: &Value, planned: &Value, private: &[u8]) -> ApplyResponse {
    let request = ApplyRequest {
        prior: prior.clone(),
        planned: planned.clone(),
        config: planned.clone(),
        private: private.to_vec(),
    };
    let context = Context {
        stop: CancellationToken::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let response = runtime.expect("a runtime").block_on(block.update(&context, request));
    assert!(response.diagnostics.has_errors(), "{planned:?}");
    response
}

fn some() -> impl Strategy<Value = BTreeSet<String>> {
    proptest::sample::subsequence(NAMES.to_vec(), 1..=NAMES.len())
        .prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Views that were not written are the former ones, and a server of which nobody knows whether its member has a vote stays.
    #[test]
    fn a_cluster_of_which_nothing_was_changed_is_as_it_was(before in some(), after in some(), k3s in any::<bool>()) {
        let road = Arc::new(Road::default());
        let (block, by_server): (Box<dyn Resource>, _) = match k3s {
            true => (Box::new(K3sClusterResource::new(road)), "rules"),
            false => (Box::new(ClusterResource::new(road)), "members"),
        };
        let (prior, planned) = (cluster(&before, 1), cluster(&after, 2));
        let state = fails(&*block, &prior, &planned, b"").state;
        for name in &before {
            prop_assert_eq!(state.at(&[by_server, name]), prior.at(&[by_server, name]));
            prop_assert!(!state.at(&["servers", name]).is_null(), "{} is lost", name);
        }
        for name in after.difference(&before) {
            prop_assert!(state.at(&[by_server, name]).is_null(), "{} has a view", name);
        }
        if !before.is_subset(&after) {
            prop_assert_eq!(state, prior);
        }
    }
}

#[test]
fn a_member_and_a_server_are_as_they_were() {
    let road = Arc::new(Road::default());
    let names = BTreeSet::from(["a1".to_owned(), "b1".to_owned()]);
    let member = |version: &str, apply| {
        Value::object([
            ("id", "main/a1".into()),
            ("server", "a1".into()),
            ("cluster", cluster(&names, apply)),
            ("version", version.into()),
            ("service", "running".into()),
        ])
    };
    let (prior, planned) = (member("3.6.15", 1), member("3.6.16", 2));
    let response = fails(&MemberResource::new(Arc::clone(&road)), &prior, &planned, b"unreached");
    assert_eq!(response.state, prior);
    assert_eq!(
        response.private, b"unreached",
        "the next plan would not show what is still to be done"
    );
    let response = fails(&ServerResource::new(road), &server("a1", 1), &server("a1", 2), b"");
    assert_eq!(response.state, server("a1", 1));
}
