//! Which machine answers for which server of a cluster's map, judged before anything is written on any of them. A name belongs to the
//! machine that holds its member: if an address leads to another machine, every view with that address is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// A server of the map, with the machine that answered for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its network.
    pub network: String,
    /// Its private address.
    pub private: IpAddr,
    /// Its public address.
    pub public: Option<IpAddr>,
    /// Whether it is new in the map, or its place in it changed.
    pub moved: bool,
    /// The machine that answered; `None` if none did.
    pub machine: Option<Machine>,
}

/// What a machine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// What no other running machine has. `None` if it could not be read.
    pub system: Option<String>,
    /// The name of the member of this cluster that its files are of.
    pub member: Option<String>,
    /// The token of another cluster of the same name.
    pub other_token: Option<String>,
    /// The addresses on its interfaces; empty if they could not be read.
    pub addresses: BTreeSet<IpAddr>,
}

/// Why the machine that answered for a server is not the right one, or an address is not that server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// The machine holds the member of another name.
    OtherMember(String),
    /// The machine belongs to another cluster of the same name.
    OtherCluster(String),
    /// The same machine answers for another server.
    SameMachine(String),
    /// The machine does not have the private address, and the machine of another server does.
    PrivateOf(IpAddr, String),
    /// The machine does not have the public address, and the machine of another server does.
    PublicOf(IpAddr, String),
    /// The member of another server answers at the public address.
    AnsweredBy(IpAddr, String),
}

impl Misplaced {
    /// A stable name for what is wrong.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OtherMember(_) => "other-member",
            Self::OtherCluster(_) => "other-cluster",
            Self::SameMachine(_) => "same-machine",
            Self::PrivateOf(..) => "private-address-of-another",
            Self::PublicOf(..) => "public-address-of-another",
            Self::AnsweredBy(..) => "answered-by-another",
        }
    }
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherMember(name) => write!(f, "is reached at the machine that holds the member {name}"),
            Self::OtherCluster(token) => write!(
                f,
                "is reached at a machine of another cluster of the same name, whose token is {token:?}"
            ),
            Self::SameMachine(other) => write!(f, "is reached at the same machine as the server {other}"),
            Self::PrivateOf(address, other) => write!(
                f,
                "has the private_address {address}, which is on an interface of {other} and on none of its own"
            ),
            Self::PublicOf(address, other) => write!(
                f,
                "has the public_address {address}, which is on an interface of {other} and on none of its own"
            ),
            Self::AnsweredBy(address, other) => write!(
                f,
                "has the public_address {address}, at which the member of {other} answers"
            ),
        }
    }
}

/// What is wrong, by the names of the servers. Servers that did not answer are not judged.
pub fn misplaced(servers: &BTreeMap<String, Server>) -> BTreeMap<String, Vec<Misplaced>> {
    let judged = servers.iter().map(|(name, server)| {
        let wrong = server
            .machine
            .as_ref()
            .map(|machine| judge(name, server, machine, servers));
        (name.clone(), wrong.unwrap_or_default())
    });
    judged.filter(|(_, wrong)| !wrong.is_empty()).collect()
}

fn judge(name: &str, server: &Server, machine: &Machine, all: &BTreeMap<String, Server>) -> Vec<Misplaced> {
    let mut wrong = Vec::new();
    if let Some(member) = machine.member.as_ref().filter(|member| *member != name) {
        wrong.push(Misplaced::OtherMember(member.clone()));
    }
    if let Some(token) = machine.other_token.as_ref().filter(|_| server.moved) {
        wrong.push(Misplaced::OtherCluster(token.clone()));
    }
    let others = || {
        let others = all.iter().filter(|(other, _)| *other != name);
        others.filter_map(|(other, there)| Some((other, there, there.machine.as_ref()?)))
    };
    if machine.system.is_some() {
        let same = others().filter(|(_, _, there)| there.system == machine.system);
        wrong.extend(same.map(|(other, ..)| Misplaced::SameMachine(other.clone())));
    }
    if machine.addresses.is_empty() {
        return wrong;
    }
    let lacks = |address: &IpAddr| !machine.addresses.contains(&address.to_canonical());
    // Several networks may have the same private addresses.
    if lacks(&server.private)
        && let Some((other, ..)) = others().find(|(_, there, machine)| {
            there.network == server.network && machine.addresses.contains(&server.private.to_canonical())
        })
    {
        wrong.push(Misplaced::PrivateOf(server.private, other.clone()));
    }
    // A server that has the address by its own account passes connections on to those behind it.
    if let Some(public) = server.public.filter(lacks)
        && let Some((other, ..)) = others().find(|(_, there, machine)| {
            machine.addresses.contains(&public.to_canonical())
                && there.public.map(|address| address.to_canonical()) != Some(public.to_canonical())
                && there.private.to_canonical() != public.to_canonical()
        })
    {
        wrong.push(Misplaced::PublicOf(public, other.clone()));
    }
    wrong
}

/// The server of the map at whose machine another name's machine is; `None` if it is a machine of its own.
pub fn stays_as<'s>(machine: &Machine, servers: &'s BTreeMap<String, Server>) -> Option<&'s str> {
    machine.system.as_ref()?;
    let found = servers.iter().find(|(_, server)| {
        let there = server.machine.as_ref();
        there.is_some_and(|there| there.system == machine.system)
    });
    found.map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A server with a machine that is called `system`, and on which `member` lies.
    fn server(network: &str, private: &str, public: &str, system: &str, member: &str, addresses: &[&str]) -> Server {
        Server {
            network: network.to_owned(),
            private: ip(private),
            public: Some(ip(public)),
            moved: true,
            machine: Some(Machine {
                system: Some(system.to_owned()),
                member: Some(member.to_owned()).filter(|member| !member.is_empty()),
                other_token: None,
                addresses: addresses.iter().map(|address| ip(address)).collect(),
            }),
        }
    }

    fn codes(servers: &[(&str, Server)]) -> Vec<(String, Vec<&'static str>)> {
        let servers = servers
            .iter()
            .map(|(name, server)| ((*name).to_owned(), server.clone()))
            .collect();
        let wrong = misplaced(&servers).into_iter();
        wrong
            .map(|(name, wrong)| (name, wrong.iter().map(Misplaced::code).collect()))
            .collect()
    }

    #[test]
    fn every_server_at_its_own_machine_is_right() {
        // Two networks with the same private addresses, public ones that a NAT has, and one that does not answer.
        let mut silent = server("A", "10.0.0.12", "203.0.113.12", "", "", &[]);
        silent.machine = None;
        let right = [
            (
                "a1",
                server(
                    "A",
                    "10.0.0.11",
                    "203.0.113.11",
                    "m1",
                    "a1",
                    &["10.0.0.11", "172.17.0.1"],
                ),
            ),
            ("a2", silent),
            (
                "b1",
                server("B", "10.0.0.11", "203.0.113.21", "m3", "", &["10.0.0.11", "172.17.0.1"]),
            ),
        ];
        assert_eq!(codes(&right), []);
    }

    #[test]
    fn servers_that_changed_places_are_both_named() {
        let swapped = [
            (
                "a1",
                server("A", "10.0.0.11", "203.0.113.21", "m2", "b1", &["10.0.0.11"]),
            ),
            (
                "b1",
                server("B", "10.0.0.11", "203.0.113.11", "m1", "a1", &["10.0.0.11"]),
            ),
            (
                "c1",
                server("C", "10.0.0.31", "203.0.113.31", "m3", "c1", &["10.0.0.31"]),
            ),
        ];
        let named = |name: &str| (name.to_owned(), vec!["other-member"]);
        assert_eq!(codes(&swapped), [named("a1"), named("b1")]);
    }

    #[test]
    fn addresses_that_the_way_in_does_not_use_are_looked_for_at_the_others() {
        // The provider logs in by addresses of their own, so each machine is the right one.
        let crossed = |network: &str| {
            [
                (
                    "a1",
                    server(
                        "A",
                        "10.0.0.12",
                        "203.0.113.12",
                        "m1",
                        "a1",
                        &["10.0.0.11", "203.0.113.11"],
                    ),
                ),
                (
                    "a2",
                    server(
                        network,
                        "10.0.0.11",
                        "203.0.113.11",
                        "m2",
                        "a2",
                        &["10.0.0.12", "203.0.113.12"],
                    ),
                ),
            ]
        };
        let both = ["private-address-of-another", "public-address-of-another"];
        let named = |name: &str, codes: &[&'static str]| (name.to_owned(), codes.to_vec());
        assert_eq!(codes(&crossed("A")), [named("a1", &both), named("a2", &both)]);
        // Another network may have the same private addresses.
        assert_eq!(codes(&crossed("B")), [named("a1", &both[1..]), named("a2", &both[1..])]);
    }

    #[test]
    fn a_server_may_pass_connections_on_to_one_behind_it() {
        let behind = [
            (
                "a1",
                server(
                    "A",
                    "10.0.0.11",
                    "203.0.113.11",
                    "m1",
                    "a1",
                    &["10.0.0.11", "203.0.113.11"],
                ),
            ),
            (
                "a2",
                server("A", "10.0.0.12", "203.0.113.11", "m2", "a2", &["10.0.0.12"]),
            ),
        ];
        assert_eq!(codes(&behind), []);
    }

    #[test]
    fn one_machine_under_two_names_and_one_of_another_cluster_are_refused() {
        let mut twice = [
            (
                "a1",
                server("A", "10.0.0.11", "203.0.113.11", "m1", "", &["10.0.0.11", "10.0.0.12"]),
            ),
            (
                "a2",
                server("A", "10.0.0.12", "203.0.113.12", "m1", "", &["10.0.0.11", "10.0.0.12"]),
            ),
        ];
        let named = |name: &str, code| (name.to_owned(), vec![code]);
        assert_eq!(
            codes(&twice),
            [named("a1", "same-machine"), named("a2", "same-machine")]
        );
        if let Some(machine) = &mut twice[1].1.machine {
            machine.system = Some("m2".to_owned());
            machine.other_token = Some("another".to_owned());
        }
        assert_eq!(codes(&twice), [named("a2", "other-cluster")]);
        // Where it always was, the member's own look says what to do.
        twice[1].1.moved = false;
        assert_eq!(codes(&twice), []);
    }

    proptest! {
        /// Names moved around among machines that hold members: each that is at another one's machine is named, and no other.
        #[test]
        fn each_name_that_moved_is_named(places in Just((0usize..6).collect::<Vec<_>>()).prop_shuffle(), silent in 0usize..7) {
            let servers: BTreeMap<String, Server> = places
                .iter()
                .enumerate()
                .map(|(name, place)| {
                    let address = format!("10.0.0.{place}");
                    let mut server = server("A", &address, &address, &format!("m{place}"), &format!("s{place}"), &[&address]);
                    server.machine = server.machine.filter(|_| name != silent);
                    (format!("s{name}"), server)
                })
                .collect();
            let wrong: BTreeSet<String> = misplaced(&servers).into_keys().collect();
            let expected = places.iter().enumerate().filter(|(name, place)| name != *place && *name != silent);
            prop_assert_eq!(wrong, expected.map(|(name, _)| format!("s{name}")).collect::<BTreeSet<_>>());
        }
    }
}
