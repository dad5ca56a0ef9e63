//! A set of servers that was checked as a whole, and what each of them sees of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::error::{AddressField, ServerField, TopologyError, ViewError};
use super::failure_domains::FailureDomains;
use super::names::{ClusterName, Domain, NetworkName, ServerName};
use super::server::Server;

/// The scheme of peer and client URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// The servers of one cluster, checked as a whole: every server can dial every other one, and no two of them
/// look the same to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    cluster: ClusterName,
    domain: Domain,
    scheme: Scheme,
    servers: BTreeMap<ServerName, Server>,
}

/// What one server sees: the address by which it dials each server, itself included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The address of every server, by name.
    pub addresses: BTreeMap<ServerName, IpAddr>,
    /// The asymmetric `initial-cluster`: peer URLs with this view's addresses, sorted by name.
    pub initial_cluster: String,
    /// The lines of the hosts file that make the stable names resolve to these addresses, sorted by name,
    /// without line ends.
    pub hosts_lines: Vec<String>,
}

impl Topology {
    /// Checks a set of servers.
    ///
    /// # Errors
    /// All problems that there are, not only the first, in the order of the servers' names.
    pub fn new(
        cluster: ClusterName,
        domain: Domain,
        scheme: Scheme,
        servers: Vec<Server>,
    ) -> Result<Self, Vec<TopologyError>> {
        let mut errors = Vec::new();
        if servers.is_empty() {
            errors.push(TopologyError::NoServers);
        }
        let mut counts: BTreeMap<&ServerName, usize> = BTreeMap::new();
        for server in &servers {
            *counts.entry(&server.name).or_default() += 1;
        }
        for (name, count) in counts {
            if count > 1 {
                errors.push(TopologyError::DuplicateName {
                    name: name.clone(),
                    count,
                });
            }
        }
        let mut sorted: Vec<&Server> = servers.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        for server in &sorted {
            check_server(server, &mut errors);
        }
        check_reachable(&sorted, &mut errors);
        check_distinct(&sorted, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let servers = servers.into_iter().map(|s| (s.name.clone(), s)).collect();
        Ok(Self {
            cluster,
            domain,
            scheme,
            servers,
        })
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The domain of the members' stable names.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The scheme of the URLs.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The servers, sorted by name.
    #[must_use]
    pub fn servers(&self) -> &BTreeMap<ServerName, Server> {
        &self.servers
    }

    /// The ports for peers, each once.
    #[must_use]
    pub fn peer_ports(&self) -> BTreeSet<u16> {
        self.servers.values().map(|server| server.peer_port).collect()
    }

    /// What the server named `viewer` sees.
    ///
    /// # Errors
    /// [`ViewError::UnknownServer`] if there is no such server.
    pub fn view(&self, viewer: &ServerName) -> Result<View, ViewError> {
        let viewer = self.server(viewer)?;
        let mut view = View {
            addresses: BTreeMap::new(),
            initial_cluster: String::new(),
            hosts_lines: Vec::with_capacity(self.servers.len()),
        };
        for peer in self.servers.values() {
            let address = super::server::address(viewer, peer)?;
            if !view.initial_cluster.is_empty() {
                view.initial_cluster.push(',');
            }
            view.initial_cluster.push_str(&format!(
                "{}={}://{}",
                peer.name,
                self.scheme,
                SocketAddr::new(address, peer.peer_port)
            ));
            view.hosts_lines
                .push(format!("{address} {}", self.domain.stable_name(&peer.name)));
            view.addresses.insert(peer.name.clone(), address);
        }
        Ok(view)
    }

    /// The stable peer URL of a server's member: the same text everywhere, because member IDs are made of it.
    ///
    /// # Errors
    /// [`ViewError::UnknownServer`] if there is no such server.
    pub fn peer_url(&self, server: &ServerName) -> Result<String, ViewError> {
        Ok(self.stable_url(self.server(server)?, |s| s.peer_port))
    }

    /// The client URL that a server's member advertises, with its stable name.
    ///
    /// # Errors
    /// [`ViewError::UnknownServer`] if there is no such server.
    pub fn client_url(&self, server: &ServerName) -> Result<String, ViewError> {
        Ok(self.stable_url(self.server(server)?, |s| s.client_port))
    }

    /// The symmetric `initial-cluster`, with stable names: what founding members start with once, the same text
    /// on all of them.
    #[must_use]
    pub fn name_form(&self) -> String {
        let entries: Vec<String> = self
            .servers
            .values()
            .map(|s| format!("{}={}", s.name, self.stable_url(s, |s| s.peer_port)))
            .collect();
        entries.join(",")
    }

    /// Which networks the cluster can lose, if every server runs a voting member.
    #[must_use]
    pub fn failure_domains(&self) -> FailureDomains {
        FailureDomains::new(self.servers.values().map(|s| s.network.clone()))
    }

    /// The server of this name.
    ///
    /// # Errors
    /// [`ViewError::UnknownServer`] if there is none.
    pub fn find(&self, name: &str) -> Result<(&ServerName, &Server), ViewError> {
        let found = self.servers.iter().find(|(server, _)| server.as_str() == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.servers.keys().map(ServerName::as_str).collect();
            ViewError::UnknownServer {
                name: name.to_owned(),
                known: known.join(", "),
            }
        })
    }

    /// Where one server dials another one's member.
    ///
    /// # Errors
    /// If there is no such server, or no address by which the one reaches the other.
    pub fn dials(&self, from: &str, to: &str) -> Result<SocketAddr, ViewError> {
        let (_, peer) = self.find(to)?;
        let address = super::server::address(self.find(from)?.1, peer)?;
        Ok(SocketAddr::new(address, peer.peer_port))
    }

    fn server(&self, name: &ServerName) -> Result<&Server, ViewError> {
        Ok(self.find(name.as_str())?.1)
    }

    fn stable_url(&self, server: &Server, port: impl Fn(&Server) -> u16) -> String {
        let name = self.domain.stable_name(&server.name);
        format!("{}://{name}:{}", self.scheme, port(server))
    }
}

fn check_server(server: &Server, errors: &mut Vec<TopologyError>) {
    let mut addresses = vec![(AddressField::Private, server.private_address)];
    addresses.extend(server.public_address.map(|a| (AddressField::Public, a)));
    for (index, egress) in server.egress_addresses.iter().enumerate() {
        addresses.push((AddressField::Egress(index), *egress));
    }
    for (field, address) in addresses {
        if let Some(why) = unusable(address.to_canonical()) {
            errors.push(TopologyError::UnusableAddress {
                server: server.name.clone(),
                field,
                address,
                why,
            });
        }
    }
    for (field, port) in [
        (ServerField::PeerPort, server.peer_port),
        (ServerField::ClientPort, server.client_port),
    ] {
        if port == 0 {
            let server = server.name.clone();
            errors.push(TopologyError::PortZero { server, field });
        }
    }
    if server.peer_port == server.client_port && server.peer_port != 0 {
        errors.push(TopologyError::SamePorts {
            server: server.name.clone(),
            port: server.peer_port,
        });
    }
}

fn unusable(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address can't be dialled");
    }
    if address.is_loopback() {
        return Some("a loopback address is another machine for everybody who dials it");
    }
    if address.is_multicast() {
        return Some("a multicast address is no machine's");
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address is no machine's"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address doesn't outlive the link it was made for"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Some("a link-local address means nothing without its interface")
        }
        _ => None,
    }
}

/// Every server is dialled by every other one, so one network needs no public addresses and two need all.
fn check_reachable(sorted: &[&Server], errors: &mut Vec<TopologyError>) {
    for server in sorted.iter().filter(|s| s.public_address.is_none()) {
        if let Some(viewer) = sorted.iter().find(|v| v.network != server.network) {
            errors.push(TopologyError::NoPublicAddress {
                server: server.name.clone(),
                viewer: viewer.name.clone(),
            });
        }
    }
}

/// A view depends on nothing but the viewer's network, so one look from each network is enough: the work grows
/// with networks × servers.
fn check_distinct(sorted: &[&Server], errors: &mut Vec<TopologyError>) {
    let mut seen_networks: BTreeSet<&NetworkName> = BTreeSet::new();
    let mut reported: HashSet<(&ServerName, &ServerName, SocketAddr)> = HashSet::new();
    for viewer in sorted {
        if !seen_networks.insert(&viewer.network) {
            continue;
        }
        let mut taken: HashMap<SocketAddr, (&Server, ServerField)> = HashMap::new();
        for server in sorted {
            let Some(address) = server.address_from(&viewer.network) else {
                continue;
            };
            for (port_field, port) in [
                (ServerField::PeerPort, server.peer_port),
                (ServerField::ClientPort, server.client_port),
            ] {
                let endpoint = SocketAddr::new(address, port);
                let Some((first, first_port)) = taken.get(&endpoint).copied() else {
                    taken.insert(endpoint, (server, port_field));
                    continue;
                };
                // The same server twice, or two of one name: said already, by name.
                if first.name == server.name || !reported.insert((&first.name, &server.name, endpoint)) {
                    continue;
                }
                errors.push(TopologyError::SameEndpoint {
                    viewer: viewer.name.clone(),
                    first: first.name.clone(),
                    first_field: dialled_field(viewer, first),
                    first_port,
                    second: server.name.clone(),
                    second_field: dialled_field(viewer, server),
                    second_port: port_field,
                    endpoint,
                });
            }
        }
    }
}

fn dialled_field(viewer: &Server, peer: &Server) -> ServerField {
    ServerField::Address(if viewer.network == peer.network {
        AddressField::Private
    } else {
        AddressField::Public
    })
}
