use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

pub(crate) fn server(name: &str, network: &str, private: &str, public: &str) -> Server {
    Server {
        name: ServerName::parse(name).unwrap(),
        network: NetworkName::parse(network).unwrap(),
        private_address: private.parse().unwrap(),
        public_address: (!public.is_empty()).then(|| public.parse().unwrap()),
        egress_addresses: Vec::new(),
        peer_port: 2380,
        client_port: 2379,
    }
}

fn topology(servers: Vec<Server>) -> Result<Topology, Vec<TopologyError>> {
    let main = ClusterName::parse("main").unwrap();
    let domain = Domain::of_cluster(&main);
    Topology::new(main, domain, Scheme::Https, servers)
}

fn two_sites() -> Vec<Server> {
    vec![
        server("b1", "b", "10.0.0.11", "203.0.113.21"),
        server("a1", "a", "10.0.0.11", "203.0.113.11"),
        server("a2", "a", "10.0.0.12", "203.0.113.12"),
    ]
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn said(servers: Vec<Server>) -> Vec<String> {
    let errors = topology(servers).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn every_server_has_its_own_view() {
    let t = topology(two_sites()).unwrap();
    let a1 = t.view(&name("a1")).unwrap();
    assert_eq!(
        a1.initial_cluster,
        "a1=https://10.0.0.11:2380,a2=https://10.0.0.12:2380,b1=https://203.0.113.21:2380"
    );
    assert_eq!(
        t.view(&name("b1")).unwrap().initial_cluster,
        "a1=https://203.0.113.11:2380,a2=https://203.0.113.12:2380,b1=https://10.0.0.11:2380"
    );
    assert_eq!(
        a1.hosts_lines,
        [
            "10.0.0.11 a1.main.etcd.internal",
            "10.0.0.12 a2.main.etcd.internal",
            "203.0.113.21 b1.main.etcd.internal"
        ]
    );
    assert_eq!(
        t.name_form(),
        "a1=https://a1.main.etcd.internal:2380,a2=https://a2.main.etcd.internal:2380,b1=https://b1.main.etcd.internal:2380"
    );
    assert_eq!(t.peer_url(&name("b1")).unwrap(), "https://b1.main.etcd.internal:2380");
    assert_eq!(t.client_url(&name("b1")).unwrap(), "https://b1.main.etcd.internal:2379");
    assert_eq!(
        t.view(&name("zz")).unwrap_err().to_string(),
        "there is no server named zz; there are: a1, a2, b1"
    );
}

#[test]
fn ipv6_stands_in_brackets() {
    let t = topology(vec![
        server("a1", "a", "fd00::1", "2001:db8::1"),
        server("b1", "b", "10.0.0.1", "::ffff:203.0.113.1"),
    ])
    .unwrap();
    let view = t.view(&name("a1")).unwrap();
    assert_eq!(
        view.initial_cluster,
        "a1=https://[fd00::1]:2380,b1=https://203.0.113.1:2380"
    );
    assert_eq!(view.hosts_lines[0], "fd00::1 a1.main.etcd.internal");
    assert_eq!(view.hosts_lines[1], "203.0.113.1 b1.main.etcd.internal");
}

#[test]
fn one_public_address_with_several_ports_is_fine() {
    let mut c2 = server("c2", "c", "192.168.7.32", "203.0.113.30");
    (c2.peer_port, c2.client_port) = (12380, 12379);
    let servers = vec![
        server("a1", "a", "10.0.0.1", "203.0.113.11"),
        server("c1", "c", "192.168.7.31", "203.0.113.30"),
        c2,
    ];
    assert!(topology(servers).is_ok());
}

#[test]
fn all_problems_are_said_at_once() {
    let mut b1 = server("b1", "b", "127.0.0.1", "");
    b1.client_port = 2380;
    b1.egress_addresses = vec!["203.0.113.9".parse().unwrap(), "::".parse().unwrap()];
    let servers = vec![
        server("a1", "a", "10.0.0.1", "203.0.113.1"),
        server("a1", "a", "10.0.0.2", "203.0.113.2"),
        server("a2", "a", "10.0.0.1", "203.0.113.3"),
        server("a3", "a", "169.254.1.1", "224.0.0.1"),
        b1,
    ];
    insta::assert_snapshot!(said(servers).join("\n"));
    assert_eq!(said(vec![]), ["a cluster needs at least one server"]);
}

#[test]
fn servers_that_look_the_same_are_found_in_each_view() {
    // From a third one: one public address, one port.
    let errors = topology(vec![
        server("a1", "a", "10.0.0.1", "203.0.113.1"),
        server("b1", "b", "10.0.0.1", "203.0.113.9"),
        server("c1", "c", "10.0.0.1", "203.0.113.9"),
    ])
    .unwrap_err();
    assert_eq!(errors.len(), 2, "once for the peer port, once for the client port");
    assert_eq!(
        errors[0].place(),
        Some((&name("c1"), ServerField::Address(AddressField::Public)))
    );
    assert!(errors[0].to_string().starts_with(
        "from a1, b1 (public_address peer_port) and c1 (public_address peer_port) are both at 203.0.113.9:2380"
    ));
    // From one of the two: its own private address is the other's public one.
    let errors = topology(vec![
        server("a1", "a", "192.0.2.7", "203.0.113.1"),
        server("b1", "b", "10.0.0.1", "192.0.2.7"),
    ])
    .unwrap_err();
    assert!(matches!(&errors[0], TopologyError::SameEndpoint { viewer, .. } if *viewer == name("a1")));
    // One's peer port is the other's client port.
    let mut c1 = server("c1", "c", "10.0.0.1", "203.0.113.9");
    (c1.peer_port, c1.client_port) = (2379, 2378);
    let errors = topology(vec![
        server("a1", "a", "10.0.0.1", "203.0.113.1"),
        server("b1", "b", "10.0.0.1", "203.0.113.9"),
        c1,
    ])
    .unwrap_err();
    assert_eq!(errors.len(), 1);
}

#[test]
fn a_large_topology_is_checked_fast() {
    let servers: Vec<Server> = (0..300u16)
        .map(|i| {
            let [hi, lo] = i.to_be_bytes();
            server(
                &format!("s{i}"),
                &format!("net{i}"),
                "10.0.0.11",
                &format!("198.51.{hi}.{lo}"),
            )
        })
        .collect();
    let t = topology(servers).unwrap();
    assert_eq!(t.view(&name("s7")).unwrap().addresses.len(), 300);
    assert_eq!(t.failure_domains().quorum, 151);
}

prop_compose! {
    /// Servers whose addresses differ by construction where they must.
    fn good_servers()(networks in prop::collection::vec(0u8..4, 1..9), v6 in prop::collection::vec(any::<bool>(), 9)) -> Vec<Server> {
        networks.iter().enumerate().map(|(i, network)| {
            let (private, public) = if v6[i] {
                (format!("fd00::{}", i + 1), format!("2001:db8::{}", i + 1))
            } else {
                (format!("10.0.0.{}", i + 1), format!("203.0.113.{}", i + 1))
            };
            server(&format!("s{i}"), &format!("n{network}"), &private, &public)
        }).collect()
    }
}

proptest! {
    #[test]
    fn identity_is_symmetric_and_addresses_are_not(servers in good_servers()) {
        let t = topology(servers.clone()).unwrap();
        let mut reversed = servers.clone();
        reversed.reverse();
        prop_assert_eq!(&topology(reversed).unwrap(), &t, "the order of the servers doesn't matter");
        for viewer in &servers {
            let view = t.view(&viewer.name).unwrap();
            prop_assert_eq!(view.addresses.len(), servers.len());
            prop_assert_eq!(view.hosts_lines.len(), servers.len());
            prop_assert_eq!(view.initial_cluster.split(',').count(), servers.len());
            for peer in &servers {
                let expected: IpAddr = if peer.network == viewer.network {
                    peer.private_address
                } else {
                    peer.public_address.unwrap()
                };
                prop_assert_eq!(view.addresses[&peer.name], expected);
                // The name that the hosts line makes resolve is the name in the peer URL that everybody shares.
                let url = t.peer_url(&peer.name).unwrap();
                let host = url.trim_start_matches("https://").trim_end_matches(":2380");
                let line = format!("{expected} {host}");
                prop_assert!(view.hosts_lines.contains(&line));
                let entry = format!("{}={url}", peer.name);
                prop_assert!(t.name_form().split(',').any(|e| e == entry));
            }
        }
    }

    #[test]
    fn no_two_servers_share_an_endpoint_in_any_accepted_view(
        addresses in prop::collection::vec((0u8..3, 1u8..4, prop::option::of(1u8..4), 2378u16..2382), 1..6)
    ) {
        let servers: Vec<Server> = addresses.iter().enumerate().map(|(i, (network, private, public, port))| {
            let mut s = server(&format!("s{i}"), &format!("n{network}"), &format!("10.0.0.{private}"), "");
            s.public_address = public.map(|p| IpAddr::from([10, 0, 0, p]));
            (s.peer_port, s.client_port) = (*port, port + 1);
            s
        }).collect();
        let unique = |viewer: &Server| {
            let mut seen = std::collections::BTreeSet::new();
            servers.iter().all(|peer| match address(viewer, peer) {
                Err(_) => false,
                Ok(a) => seen.insert((a, peer.peer_port)) & seen.insert((a, peer.client_port)),
            })
        };
        prop_assert_eq!(topology(servers.clone()).is_ok(), servers.iter().all(unique));
    }
}
