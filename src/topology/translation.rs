//! Addresses for an etcd that knows its peers by IP address alone, as the one in k3s does: names can't give it a view, so what it dials is
//! translated underneath.
//!
//! Every member has an address that is the same text everywhere: its server's private one where nobody else has that, else a virtual one
//! from a pool. On each server, connections to a member's address are sent to the address by which this server reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::cluster::Topology;
use super::error::{AddressField, ServerField};
use super::names::{ClusterName, ServerName};
use super::server::Server;

/// The ports of an embedded etcd: for clients and for peers. They can't be changed there.
pub const ETCD_PORTS: [u16; 2] = [2379, 2380];

/// Ranges that k3s gives to pods and services unless told otherwise.
const OF_KUBERNETES: [&str; 2] = ["10.42.0.0/16", "10.43.0.0/16"];

/// A range of addresses for members whose servers' own addresses are not unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    first: u32,
    bits: u8,
}

impl Pool {
    /// Reads a range such as `100.64.77.0/24`.
    ///
    /// # Errors
    /// [`TranslationError::BadPool`].
    pub fn parse(text: &str) -> Result<Self, TranslationError> {
        let bad = |why| TranslationError::BadPool {
            text: text.to_owned(),
            why,
        };
        let (address, bits) = text.split_once('/').ok_or(bad("it has no /"))?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad("it is no IPv4 range"))?;
        let bits: u8 = bits.parse().map_err(|_| bad("its length is no number"))?;
        if !(8..=30).contains(&bits) {
            return Err(bad("its length has to be between 8 and 30"));
        }
        let pool = Self {
            first: u32::from(address),
            bits,
        };
        if pool.first & pool.rest() != 0 {
            return Err(bad("its address has bits behind its length"));
        }
        Ok(pool)
    }

    fn rest(self) -> u32 {
        u32::MAX >> self.bits
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & !self.rest() == self.first
    }

    fn overlaps(self, other: Self) -> bool {
        self.contains(Ipv4Addr::from(other.first)) || other.contains(Ipv4Addr::from(self.first))
    }

    /// Its addresses, without the first and the last, which are no machine's.
    fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first + 1..self.first + self.rest()).map(Ipv4Addr::from)
    }
}

/// What is wrong with a set of servers whose addresses are to be translated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranslationError {
    /// The pool is no range.
    #[error("{text:?} can't be the pool: {why}. Write a range such as \"100.64.77.0/24\"")]
    BadPool {
        /// What was given.
        text: String,
        /// Why it is none.
        why: &'static str,
    },
    /// Pods or services have these addresses.
    #[error(
        "the pool overlaps {range}, which k3s gives to pods and services. Choose one that nothing else in your networks uses"
    )]
    OfKubernetes {
        /// Their range.
        range: &'static str,
    },
    /// There are no addresses left.
    #[error(
        "the pool has no address left for server {server}. Give the cluster a larger one: what was given from it before stays"
    )]
    PoolFull {
        /// The server.
        server: ServerName,
    },
    /// Only IPv4 is translated.
    #[error("server {server}: {address} is no IPv4 address, and only those are translated")]
    NotIpv4 {
        /// The server.
        server: ServerName,
        /// Which of its addresses.
        field: AddressField,
        /// The address.
        address: IpAddr,
    },
    /// A server's own address is in the pool.
    #[error("server {server}: {address} is in the pool of virtual addresses; choose another pool")]
    InPool {
        /// The server.
        server: ServerName,
        /// Which of its addresses.
        field: AddressField,
        /// The address.
        address: IpAddr,
    },
    /// The embedded etcd has its ports and no others.
    #[error(
        "server {server}: an embedded etcd has the ports 2379 for clients and 2380 for peers, and {port} can't be chosen"
    )]
    Port {
        /// The server.
        server: ServerName,
        /// Which port.
        field: ServerField,
        /// The port.
        port: u16,
    },
}

impl TranslationError {
    /// The server and the field that it is about, where there is one.
    #[must_use]
    pub fn place(&self) -> Option<(&ServerName, ServerField)> {
        match self {
            Self::BadPool { .. } | Self::OfKubernetes { .. } | Self::PoolFull { .. } => None,
            Self::NotIpv4 { server, field, .. } | Self::InPool { server, field, .. } => {
                Some((server, ServerField::Address(*field)))
            }
            Self::Port { server, field, .. } => Some((server, *field)),
        }
    }
}

/// The members' addresses of a set of servers, and what each server makes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    cluster: ClusterName,
    servers: BTreeMap<ServerName, Server>,
    members: BTreeMap<ServerName, Ipv4Addr>,
    join_ports: Vec<u16>,
}

/// A server's addresses of IPv4.
struct Place {
    private: Ipv4Addr,
    public: Option<Ipv4Addr>,
}

impl Translation {
    /// Gives every server's member its address. `kept` are those that were given before, of whatever server: etcd has stored them, so they
    /// stay, and one that has just become free is not given to somebody else.
    ///
    /// # Errors
    /// All problems that there are.
    pub fn new(
        topology: &Topology,
        pool: Pool,
        kept: &BTreeMap<ServerName, Ipv4Addr>,
        join_ports: &[u16],
    ) -> Result<Self, Vec<TranslationError>> {
        let mut errors = Vec::new();
        for range in OF_KUBERNETES {
            if Pool::parse(range).is_ok_and(|range| range.overlaps(pool)) {
                errors.push(TranslationError::OfKubernetes { range });
            }
        }
        let servers = topology.servers();
        for server in servers.values() {
            check(server, pool, &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let private = |server: &Server| place(server).map(|place| place.private);
        let mut taken: BTreeSet<Ipv4Addr> = kept.values().copied().collect();
        for server in servers.values() {
            taken.extend(
                place(server)
                    .into_iter()
                    .flat_map(|place| [Some(place.private), place.public])
                    .flatten(),
            );
        }
        let mut members = BTreeMap::new();
        for (name, server) in servers {
            let Some(own) = private(server) else { continue };
            let shared = servers
                .iter()
                .any(|(other, one)| other != name && private(one) == Some(own))
                || kept.iter().any(|(other, address)| other != name && *address == own);
            let address = match kept.get(name) {
                Some(address) => Some(*address),
                None if !shared => Some(own),
                None => pool.addresses().find(|address| !taken.contains(address)),
            };
            match address {
                Some(address) => {
                    taken.insert(address);
                    members.insert(name.clone(), address);
                }
                None => errors.push(TranslationError::PoolFull { server: name.clone() }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            cluster: topology.cluster().clone(),
            servers: servers.clone(),
            members,
            join_ports: join_ports.to_vec(),
        })
    }

    /// The address of every server's member, the same for everybody.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<ServerName, Ipv4Addr> {
        &self.members
    }

    /// The peer URL of every server's member, as etcd has it.
    #[must_use]
    pub fn peer_urls(&self) -> BTreeMap<String, String> {
        let urls = self.members.iter();
        urls.map(|(name, address)| (format!("https://{address}:2380"), name.to_string()))
            .collect()
    }

    /// The address that a server is to have beside its own, where its member's is none of them.
    #[must_use]
    pub fn own_address(&self, server: &ServerName) -> Option<Ipv4Addr> {
        let place = place(self.servers.get(server)?)?;
        let member = *self.members.get(server)?;
        (member != place.private).then_some(member)
    }

    /// The addresses that `viewer` reaches the members at, by their servers. Its own is its member's.
    #[must_use]
    pub fn targets(&self, viewer: &ServerName) -> BTreeMap<ServerName, Ipv4Addr> {
        let Some(from) = self.servers.get(viewer) else {
            return BTreeMap::new();
        };
        let target = |(name, server): (&ServerName, &Server)| {
            if name == viewer {
                return Some((name.clone(), *self.members.get(name)?));
            }
            Some((name.clone(), v4(server.address_from(&from.network)?)?))
        };
        self.servers.iter().filter_map(target).collect()
    }

    /// What the certificates of a server have to hold beside its member's address: the addresses that its connections are seen to come from
    /// and go to.
    #[must_use]
    pub fn subject_alternative_names(&self, server: &ServerName) -> Vec<IpAddr> {
        let Some(one) = self.servers.get(server) else {
            return Vec::new();
        };
        let mut names = vec![one.private_address];
        for address in one.public_address.iter().chain(&one.egress_addresses) {
            if !names.contains(address) {
                names.push(*address);
            }
        }
        names
    }

    /// The name of the table that holds a server's rules.
    #[must_use]
    pub fn table(&self) -> String {
        table_name(&self.cluster)
    }

    /// A server's rules, for `nft -f`: one transaction, which replaces those that there are.
    #[must_use]
    pub fn nft(&self, viewer: &ServerName) -> String {
        let table = self.table();
        let mut text = format!("add table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n");
        for (chain, hook, rules) in [
            ("output", "output", self.outgoing(viewer)),
            ("prerouting", "prerouting", self.incoming(viewer)),
            ("postrouting", "postrouting", self.sources(viewer)),
        ] {
            if rules.is_empty() {
                continue;
            }
            // Before whatever else translates: what is for a member is nobody else's.
            let priority = if hook == "postrouting" { 90 } else { -110 };
            let _ = writeln!(
                text,
                "\tchain {chain} {{\n\t\ttype nat hook {hook} priority {priority}; policy accept;"
            );
            for rule in rules {
                let _ = writeln!(text, "\t\t{rule}");
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
        text
    }

    /// To each member the way that this server has to it, and past a router without hairpin to the servers of its own network.
    fn outgoing(&self, viewer: &ServerName) -> Vec<String> {
        let mut rules = Vec::new();
        for (name, target) in self.targets(viewer) {
            let Some(member) = self.members.get(&name) else {
                continue;
            };
            if *member != target {
                rules.push(format!(
                    "ip daddr {member} tcp dport {} dnat to {target}",
                    ports(&ETCD_PORTS)
                ));
            }
        }
        let network = self.servers.get(viewer).map(|server| &server.network);
        for server in self.servers.values().filter(|server| Some(&server.network) == network) {
            let Some(Place {
                private,
                public: Some(public),
            }) = place(server)
            else {
                continue;
            };
            if public != private && !self.join_ports.is_empty() {
                rules.push(format!(
                    "ip daddr {public} tcp dport {} dnat to {private}",
                    ports(&self.join_ports)
                ));
            }
        }
        rules
    }

    /// What comes in for the server is for its member.
    fn incoming(&self, viewer: &ServerName) -> Vec<String> {
        let Some((own, place)) = self.own_address(viewer).zip(self.servers.get(viewer).and_then(place)) else {
            return Vec::new();
        };
        vec![format!(
            "ip daddr {} tcp dport {} dnat to {own}",
            place.private,
            ports(&ETCD_PORTS)
        )]
    }

    /// A connection that was on its way somewhere else may have got the address of another interface: within the network it comes from the
    /// private one, which is in the certificate.
    fn sources(&self, viewer: &ServerName) -> Vec<String> {
        let Some((own, network)) = self
            .servers
            .get(viewer)
            .and_then(|one| Some((place(one)?.private, &one.network)))
        else {
            return Vec::new();
        };
        let mut rules = Vec::new();
        for (name, server) in &self.servers {
            let (Some(place), Some(member)) = (place(server), self.members.get(name)) else {
                continue;
            };
            if name != viewer && server.network == *network && *member != place.private {
                rules.push(format!(
                    "ip daddr {} ct status dnat tcp dport {} snat to {own}",
                    place.private,
                    ports(&ETCD_PORTS)
                ));
            }
        }
        rules
    }
}

/// The name of a cluster's table. No cluster's name has an underscore, so no two clusters have one table.
#[must_use]
pub fn table_name(cluster: &ClusterName) -> String {
    format!("etcd_k3s_{}", cluster.as_str().replace('-', "_"))
}

fn ports(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn place(server: &Server) -> Option<Place> {
    Some(Place {
        private: v4(server.private_address)?,
        public: server.public_address.and_then(v4),
    })
}

fn check(server: &Server, pool: Pool, errors: &mut Vec<TranslationError>) {
    let addresses = [
        (AddressField::Private, Some(server.private_address)),
        (AddressField::Public, server.public_address),
    ];
    for (field, address) in addresses {
        let Some(address) = address else { continue };
        let server = server.name.clone();
        match v4(address) {
            None => errors.push(TranslationError::NotIpv4 { server, field, address }),
            Some(v4) if pool.contains(v4) => errors.push(TranslationError::InPool { server, field, address }),
            Some(_) => {}
        }
    }
    let [client, peer] = ETCD_PORTS;
    for (field, port, fixed) in [
        (ServerField::PeerPort, server.peer_port, peer),
        (ServerField::ClientPort, server.client_port, client),
    ] {
        if port != fixed {
            let server = server.name.clone();
            errors.push(TranslationError::Port { server, field, port });
        }
    }
}

#[cfg(test)]
mod tests;
