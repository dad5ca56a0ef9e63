use proptest::prelude::*;

use super::*;
use crate::topology::tests::server;
use crate::topology::{Domain, Scheme};

fn topology(servers: Vec<Server>) -> Topology {
    let main = ClusterName::parse("main").unwrap();
    let domain = Domain::of_cluster(&main);
    Topology::new(main, domain, Scheme::Https, servers).unwrap()
}

fn pool() -> Pool {
    Pool::parse("100.64.77.0/24").unwrap()
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn kept(pairs: &[(&str, &str)]) -> BTreeMap<ServerName, Ipv4Addr> {
    let pairs = pairs
        .iter()
        .map(|(server, address)| (name(server), address.parse().unwrap()));
    pairs.collect()
}

fn overlapping() -> Vec<Server> {
    vec![
        server("a1", "a", "10.0.0.11", "203.0.113.11"),
        server("a2", "a", "10.0.0.12", "203.0.113.12"),
        server("b1", "b", "10.0.0.11", "203.0.113.21"),
        server("c1", "c", "192.168.7.31", "203.0.113.30"),
    ]
}

fn addresses(translation: &Translation) -> Vec<String> {
    let members = translation.members().iter();
    members.map(|(name, address)| format!("{name}={address}")).collect()
}

#[test]
fn a_private_address_that_is_unique_is_the_members_too() {
    let t = Translation::new(&topology(overlapping()), pool(), &BTreeMap::new(), &[6443]).unwrap();
    assert_eq!(
        addresses(&t),
        ["a1=100.64.77.1", "a2=10.0.0.12", "b1=100.64.77.2", "c1=192.168.7.31"]
    );
    insta::assert_snapshot!("of-a1", t.nft(&name("a1")));
    insta::assert_snapshot!("of-a2", t.nft(&name("a2")));
    insta::assert_snapshot!("of-c1", t.nft(&name("c1")));
}

#[test]
fn what_was_given_stays_when_servers_come_and_go_and_move() {
    // b1 comes later: a1 keeps what etcd has stored, and b1 gets another one.
    let before = kept(&[("a1", "10.0.0.11"), ("a2", "10.0.0.12")]);
    let t = Translation::new(&topology(overlapping()), pool(), &before, &[6443]).unwrap();
    assert_eq!(
        addresses(&t),
        ["a1=10.0.0.11", "a2=10.0.0.12", "b1=100.64.77.1", "c1=192.168.7.31"]
    );
    // a1's machine moves: its member stays where etcd has it.
    let mut servers = overlapping();
    servers[0].private_address = "10.0.0.99".parse().unwrap();
    let before = kept(&[("a1", "10.0.0.11"), ("gone", "100.64.77.1")]);
    let t = Translation::new(&topology(servers), pool(), &before, &[]).unwrap();
    // What has just become free is not given to somebody else.
    assert_eq!(
        addresses(&t),
        ["a1=10.0.0.11", "a2=10.0.0.12", "b1=100.64.77.2", "c1=192.168.7.31"]
    );
    assert_eq!(t.own_address(&name("a1")), Some("10.0.0.11".parse().unwrap()));
    assert_eq!(t.own_address(&name("a2")), None);
}

#[test]
fn all_problems_are_said() {
    let mut servers = overlapping();
    servers[1].peer_port = 2390;
    servers[3].private_address = "fd00::1".parse().unwrap();
    servers[3].public_address = Some("10.42.7.1".parse().unwrap());
    let said = |pool: &str| {
        let errors = Translation::new(
            &topology(servers.clone()),
            Pool::parse(pool).unwrap(),
            &BTreeMap::new(),
            &[],
        );
        let errors: Vec<_> = errors.unwrap_err().iter().map(ToString::to_string).collect();
        errors.join("\n")
    };
    insta::assert_snapshot!("problems", said("10.42.0.0/20"));
    let small = Translation::new(
        &topology(overlapping()),
        Pool::parse("100.64.77.0/30").unwrap(),
        &kept(&[("x", "100.64.77.1")]),
        &[],
    );
    assert!(
        small.unwrap_err()[0]
            .to_string()
            .starts_with("the pool has no address left for server b1")
    );
    for wrong in ["100.64.77.0", "100.64.77.1/24", "fd00::/64", "10.0.0.0/4", "x/24"] {
        assert!(Pool::parse(wrong).is_err(), "{wrong}");
    }
}

/// Where a connection of `from`'s to this address and port 2380 arrives, by its rules alone.
fn through(rules: &str, chain: &str, to: &str) -> Option<String> {
    let mut here = false;
    for line in rules.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("chain ") {
            here = rest.starts_with(chain);
        }
        if here
            && let Some(rest) = line.strip_prefix("ip daddr ")
            && rest.starts_with(&format!("{to} tcp dport {{ 2379, 2380 }} dnat to "))
        {
            return rest.rsplit(' ').next().map(str::to_owned);
        }
    }
    None
}

prop_compose! {
    fn servers()(places in prop::collection::vec((0u8..3, 1u8..6), 1..7)) -> Vec<Server> {
        let mut seen = BTreeSet::new();
        let places = places.into_iter().filter(|place| seen.insert(*place));
        let one = |(number, (network, host)): (usize, (u8, u8))| server(
            &format!("s{number}"),
            &format!("n{network}"),
            &format!("10.0.0.{host}"),
            &format!("203.0.113.{}", u32::from(network) * 16 + u32::from(host)),
        );
        places.enumerate().map(one).collect()
    }
}

proptest! {
    /// No two members have one address; what was given stays; and every server reaches every member, which knows itself by that address.
    #[test]
    fn everybody_is_reached_by_an_address_of_its_own(all in servers(), first in 1usize..7) {
        let some: Vec<Server> = all.iter().take(first).cloned().collect();
        let before = Translation::new(&topology(some), pool(), &BTreeMap::new(), &[6443]).unwrap();
        let t = Translation::new(&topology(all.clone()), pool(), before.members(), &[6443]).unwrap();
        for (name, address) in before.members() {
            prop_assert_eq!(t.members().get(name), Some(address));
        }
        let distinct: BTreeSet<_> = t.members().values().collect();
        prop_assert_eq!(distinct.len(), all.len());
        prop_assert_eq!(&t, &Translation::new(&topology(all.clone()), pool(), t.members(), &[6443]).unwrap());
        for from in &all {
            for to in all.iter().filter(|to| to.name != from.name) {
                let member = t.members()[&to.name].to_string();
                let arrives = through(&t.nft(&from.name), "output", &member).unwrap_or_else(|| member.clone());
                let near = to.network == from.network;
                let right = if near { to.private_address } else { to.public_address.unwrap() };
                prop_assert_eq!(&arrives, &right.to_string(), "from {} to {}", from.name, to.name);
                // A router in front has made the private address of a public one.
                let inside = to.private_address.to_string();
                let heard = through(&t.nft(&to.name), "prerouting", &inside).unwrap_or(inside);
                prop_assert_eq!(&heard, &member);
            }
            // Its own address is not sent anywhere.
            let own = t.members()[&from.name].to_string();
            prop_assert_eq!(through(&t.nft(&from.name), "output", &own), None);
        }
    }
}
