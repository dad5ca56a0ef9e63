//! What one member says badly is unknown of that member, and of no other.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::look::{self, Look};
use super::{report, schema};
use crate::etcd::metrics::Metrics;
use crate::host::Output;
use crate::membership::health::Fsyncs;
use crate::plugin::codec::{attributes_type, encode};
use crate::plugin::value::Value;
use crate::topology::{ClusterName, Domain, NetworkName, Scheme, Server, ServerName, Topology};

fn topology() -> Topology {
    let server = |name: &str, address: &str| Server {
        name: ServerName::parse(name).unwrap(),
        network: NetworkName::parse("net").unwrap(),
        private_address: address.parse().unwrap(),
        public_address: None,
        egress_addresses: Vec::new(),
        peer_port: 2380,
        client_port: 2379,
    };
    let cluster = ClusterName::parse("main").unwrap();
    let domain = Domain::of_cluster(&cluster);
    let servers = vec![server("a1", "10.0.0.11"), server("b1", "10.0.0.21")];
    Topology::new(cluster, domain, Scheme::Https, servers).unwrap()
}

/// A look at a server that measures these numbers, and whose kernel and clock say these.
fn seen(number: &str, clock: &str) -> Look {
    let metrics = format!(
        "etcd_server_has_leader 1\netcd_disk_wal_fsync_duration_seconds_sum {number}\netcd_disk_wal_fsync_duration_seconds_count 10\n\
         etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"0.064\"}} 10\netcd_server_quota_backend_bytes {number}\n\
         etcd_mvcc_db_total_size_in_bytes 1\netcd_server_leader_changes_seen_total {number}\n"
    );
    let metrics = Metrics::parse(&metrics);
    let mut output = Output::of_answers(&format!(
        "date_first={clock}\nservice=active\nhosts[]=10.0.0.11 a1.main.etcd.internal\nhosts[]=10.0.0.21 b1.main.etcd.internal\n\
         rtt[]=10.0.0.11:2380 {number}/0.1\nrtt[]=10.0.0.21:2380 {number}/0.1\npackets[]=10.0.0.11 {number} {number}\n\
         rejected[]={number} 10.0.0.11 EOF\ndate_last={clock}\n"
    ));
    output.elapsed = Duration::from_millis(10);
    Look {
        server: look::read(&output, &topology(), 2380, SystemTime::now()),
        fsyncs: metrics.fsyncs(None).map(Fsyncs::from),
        metrics: Some(metrics),
        ..Look::default()
    }
}

/// What Terraform gets, if one server says this and the other one what is right.
fn status(number: &str, clock: &str) -> Value {
    let looks = [("a1", seen(number, clock)), ("b1", seen("25", "1700000000.000000000"))];
    let looks: BTreeMap<ServerName, Look> = { looks.into_iter() }
        .map(|(name, look)| (ServerName::parse(name).unwrap(), look))
        .collect();
    let state = report::report(Value::object([]), &topology(), &looks);
    let r#type = attributes_type(&schema::schema().attributes);
    encode(&state, &r#type).expect("Terraform takes it");
    state
}

#[test]
fn a_number_that_is_none_is_unknown_of_that_member_alone() {
    for nonsense in ["NaN", "+Inf", "-1", "1e300"] {
        let state = status(nonsense, "NaN");
        let number = |server: &str, name: &str| state.at(&["members", server, name]).clone();
        for name in ["wal_fsync_ms", "quota", "leader_changes"] {
            assert!(number("a1", name).is_null(), "{nonsense}: {name}");
            assert!(!number("b1", name).is_null(), "{nonsense}: {name}");
        }
        assert!(number("a1", "clock_offset_ms").is_null());
        let links = state.get("links").as_list().unwrap();
        let round_trips: Vec<bool> = links.iter().map(|link| link.get("rtt_ms").is_null()).collect();
        assert_eq!(round_trips, [true, false], "{nonsense}");
        let drawn = state.get("diagram_svg").as_str().unwrap();
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{nonsense}: {drawn}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_number_breaks_the_status(
        number in "([-+]?[0-9]{0,22}([.][0-9]{0,5})?(e[-+]?[0-9]{0,4})?|[-+]?(NaN|Inf|inf|nan))",
        clock in "[-+]?[0-9]{0,20}([.][0-9N%]{0,10})?",
    ) {
        status(&number, &clock);
    }
}
