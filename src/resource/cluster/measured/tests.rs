use super::*;
use crate::membership::preflight::{Pair, Trip};
use crate::resource::cluster::model;

const TIMING: [&str; 2] = ["heartbeat_interval", "election_timeout"];

/// A cluster whose servers are at these networks.
fn cluster(servers: &[(&str, &str)]) -> Value {
    let servers = servers.iter().zip(11_u8..).map(|((name, network), last)| {
        let server = Value::object([
            ("name", (*name).into()),
            ("network", (*network).into()),
            ("private_address", format!("10.0.0.{last}").into()),
            ("public_address", format!("203.0.113.{last}").into()),
        ]);
        ((*name).to_owned(), server)
    });
    Value::object([("name", "main".into()), ("servers", Value::Map(servers.collect()))])
}

fn with(mut block: Value, entries: &[(&str, Value)]) -> Value {
    for (name, value) in entries {
        block.set(name, value.clone());
    }
    block
}

fn topology(block: &Value) -> Topology {
    model::topology(block, &Path::root(), &mut Diagnostics::new()).unwrap()
}

/// The plan from one to the other, with what it warns of.
fn planned(prior: &Value, config: &Value) -> (Value, Diagnostics) {
    let mut planned = config.clone();
    for name in TIMING.into_iter().filter(|name| config.get(name).is_null()) {
        planned.set(name, prior.get(name).clone());
    }
    let mut diagnostics = Diagnostics::new();
    refine(prior, &mut planned, config, Some(&topology(config)), &mut diagnostics);
    (planned, diagnostics)
}

fn timing_of(block: &Value) -> [Option<i64>; 2] {
    TIMING.map(|name| block.get(name).as_i64())
}

fn found(topology: &Topology, from: &str, to: &str, ms: f64, source: &str) -> Findings {
    Findings {
        pairs: vec![Pair {
            from: from.to_owned(),
            to: to.to_owned(),
            address: topology.dials(from, to).unwrap(),
            expected_sources: Vec::new(),
            outcome: Outcome::Open(Trip {
                round_trip_ms: Some(ms),
                source: source.parse().ok(),
                packets: Some((50, 1)),
                ..Trip::default()
            }),
        }],
        ..Findings::default()
    }
}

/// What an apply makes of it.
fn applied(prior: &Value, config: &Value, ms: f64, source: &str) -> Value {
    let (mut state, _) = planned(prior, config);
    let topology = topology(config);
    complete(
        &mut state,
        prior,
        &found(&topology, "b1", "a1", ms, source),
        &topology,
        config,
    );
    assert!(state.is_wholly_known(), "{state:?}");
    state
}

#[test]
fn a_new_cluster_is_timed_by_what_is_measured() {
    let config = cluster(&[("a1", "A"), ("b1", "B")]);
    let (plan, warnings) = planned(&Value::Null, &config);
    assert!(TIMING.iter().all(|name| plan.get(name).is_unknown()) && plan.get("measured").is_unknown());
    assert!(warnings.is_empty());
    let state = applied(&Value::Null, &config, 212.34, "203.0.113.29");
    assert_eq!(timing_of(&state), [Some(210), Some(2200)]);
    let link = &state.at(&["measured", "links"]).as_list().unwrap()[0];
    assert_eq!(link.get("round_trip_ms"), &Value::Number(Number::Float(212.3)));
    assert_eq!(link.get("address").as_str(), Some("203.0.113.11:2380"));
    let sources = Value::object([("b1", Value::List(vec!["203.0.113.29".into()]))]);
    assert_eq!(state.get("source_addresses"), &sources);
    let mut servers = config.get("servers").clone();
    let mut server = servers.get("b1").clone();
    server.set("egress_addresses", vec!["203.0.113.29".into()]);
    servers.set("b1", server);
    let (told, _) = planned(&state, &with(config.clone(), &[("servers", servers)]));
    assert_eq!(told.get("source_addresses"), &Value::object([]));
    assert_eq!(told.get("measured"), state.get("measured"));
    let (again, warnings) = planned(&state, &config);
    for name in ["heartbeat_interval", "election_timeout", "measured", "source_addresses"] {
        assert_eq!(again.get(name), state.get(name), "nothing is measured anew: {name}");
    }
    assert!(warnings.is_empty());
}

#[test]
fn nobody_to_dial_means_the_defaults_at_once() {
    let (plan, _) = planned(&Value::Null, &cluster(&[("a1", "A")]));
    assert_eq!(timing_of(&plan), [Some(100), Some(1000)]);
    assert!(plan.is_wholly_known());
    let off = Value::object([("peer_ports", false.into())]);
    let (plan, _) = planned(
        &Value::Null,
        &with(cluster(&[("a1", "A"), ("b1", "B")]), &[("preflight", off)]),
    );
    assert_eq!(timing_of(&plan), [Some(100), Some(1000)]);
    let untimed = Value::object([("round_trips", false.into())]);
    let config = with(cluster(&[("a1", "A"), ("b1", "B")]), &[("preflight", untimed)]);
    let (plan, _) = planned(&Value::Null, &config);
    assert_eq!(timing_of(&plan), [Some(100), Some(1000)]);
    assert!(plan.get("measured").is_unknown());
}

#[test]
fn what_the_user_chose_is_known_in_the_plan() {
    let servers = [("a1", "A"), ("b1", "B")];
    let config = with(cluster(&servers), &[("heartbeat_interval", 300.into())]);
    let (plan, _) = planned(&Value::Null, &config);
    assert_eq!(plan.get("heartbeat_interval").as_i64(), Some(300));
    assert!(plan.get("election_timeout").is_unknown());
    assert_eq!(
        timing_of(&applied(&Value::Null, &config, 20.0, "")),
        [Some(300), Some(3000)]
    );
    let config = with(
        cluster(&servers),
        &[("heartbeat_interval", 100.into()), ("election_timeout", 1000.into())],
    );
    let (mut state, _) = planned(&Value::Null, &config);
    let topology = topology(&config);
    let warnings = complete(
        &mut state,
        &Value::Null,
        &found(&topology, "b1", "a1", 180.0, ""),
        &topology,
        &config,
    );
    assert_eq!(timing_of(&state), [Some(100), Some(1000)]);
    assert!(
        warnings
            .iter()
            .next()
            .unwrap()
            .detail
            .contains("1800 ms is ten round trips")
    );
}

#[test]
fn servers_of_a_known_network_change_no_timing_and_those_of_a_new_one_only_raise_it() {
    let two = cluster(&[("a1", "A"), ("b1", "B")]);
    let state = with(
        applied(&Value::Null, &two, 212.0, ""),
        &[("founding", "founded".into())],
    );
    let (plan, warnings) = planned(&state, &cluster(&[("a1", "A"), ("b1", "B"), ("b2", "B")]));
    assert_eq!(timing_of(&plan), [Some(210), Some(2200)]);
    assert!(plan.get("measured").is_unknown() && warnings.is_empty());
    let three = cluster(&[("a1", "A"), ("b1", "B"), ("c1", "C")]);
    let (plan, warnings) = planned(&state, &three);
    assert!(TIMING.iter().all(|name| plan.get(name).is_unknown()));
    assert!(warnings.iter().next().unwrap().detail.starts_with("Network C is new"));
    let topology = topology(&three);
    for (ms, expected) in [(5.0, [Some(210), Some(2200)]), (400.0, [Some(400), Some(4000)])] {
        let (mut after, _) = planned(&state, &three);
        complete(
            &mut after,
            &state,
            &found(&topology, "c1", "a1", ms, ""),
            &topology,
            &three,
        );
        assert_eq!(timing_of(&after), expected);
        assert_eq!(
            after.at(&["measured", "links"]).as_list().unwrap().len(),
            2,
            "earlier ones stay"
        );
    }
}

#[test]
fn links_of_servers_that_went_or_moved_are_dropped() {
    let two = cluster(&[("a1", "A"), ("b1", "B")]);
    let state = with(applied(&Value::Null, &two, 20.0, ""), &[("founding", "founded".into())]);
    let (plan, _) = planned(&state, &cluster(&[("a1", "A")]));
    assert!(plan.get("measured").is_null() && plan.get("source_addresses").is_null());
    assert_eq!(timing_of(&plan), [Some(100), Some(1000)]);
    let moved = with(two, &[("founding", "founded".into())]);
    let mut servers = moved.get("servers").clone();
    let mut server = servers.get("a1").clone();
    server.set("public_address", "203.0.113.99");
    servers.set("a1", server);
    let moved = with(moved, &[("servers", servers)]);
    assert!(links(&state, &topology(&moved)).is_empty());
}

#[test]
fn a_state_without_measurements_stays_without() {
    let two = cluster(&[("a1", "A"), ("b1", "B")]);
    let entries = [
        ("founding", "founded".into()),
        ("heartbeat_interval", 150.into()),
        ("election_timeout", 1500.into()),
    ];
    let imported = with(two.clone(), &entries);
    let (plan, warnings) = planned(&imported, &two);
    assert!(plan.get("measured").is_null() && plan.get("source_addresses").is_null() && warnings.is_empty());
    assert_eq!(timing_of(&plan), [Some(150), Some(1500)]);
}
