//! When addresses have moved: the member dials its peers at the new ones, without a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::bring_up::BringUp;
use super::drift;
use super::errors::BringUpError;
use super::membership_changes::{HOSTS_AGE, RESOLVER, hosts_age};
use super::model::MemberModel;
use crate::host::{Host, Script};
use crate::plugin::value::Value;
use crate::topology::Topology;

/// How long the new connections may take, in tenths of a second: etcd tries again each 100 ms, and a connection with TLS takes a few
/// round trips.
const PATIENCE: u32 = 100;

/// What a member has to dial anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The peers that it dials at another address than before, by name, and where.
    pub peers: BTreeMap<String, SocketAddr>,
    /// Those of them that may be at their former port still, or at the wanted one already, and their former ports.
    pub former_ports: BTreeMap<String, u16>,
    /// Whether it has moved itself: what it dialled from its old address, or through a NAT that had it, may be dead.
    pub itself: bool,
    /// Whether the member list may have another peer URL of it than the wanted one.
    pub peer_url: bool,
}

impl Moved {
    /// Whether there is anything to dial.
    pub fn is_nothing(&self) -> bool {
        self.peers.is_empty() && !self.itself
    }
}

/// Compares with the state before: the addresses that the member dialled, and the servers.
pub fn moved(member: &MemberModel, topology: &Topology, prior: &Value) -> Moved {
    let before = prior.get("initial_cluster").as_str().unwrap_or_default();
    let before: BTreeMap<&str, &str> = before.split(',').filter_map(|one| one.split_once('=')).collect();
    let changed = |server: &str, name: &str, now: Option<&str>| {
        let before = prior.at(&["cluster", "servers", server]);
        !before.is_null() && before.get(name).as_str() != now
    };
    let private_changed = |server: &str| {
        let now = member.cluster.servers.get(server);
        now.is_some_and(|now| changed(server, "private_address", Some(&now.private_address)))
    };
    let mut peers = dialled(&member.server, topology);
    peers.retain(|name, address| {
        let before = before.get(name.as_str()).and_then(|url| place(url));
        // Behind a NAT whose address is the same as before, the machine that it leads to may be at another one. A port that changes is
        // no move: etcd learns of it by the member list.
        before.is_some_and(|(host, _)| host != host_of(address) || private_changed(name))
    });
    let former_ports = before.iter().filter_map(|(name, url)| {
        let (server, port) = (member.cluster.servers.get(*name)?, place(url)?.1);
        (server.peer_port != port).then(|| ((*name).to_owned(), port))
    });
    let former_ports: BTreeMap<String, u16> = former_ports.collect();
    let public = member.server().and_then(|own| own.public_address.as_deref());
    let itself = private_changed(&member.server) || changed(&member.server, "public_address", public);
    Moved {
        peers,
        itself,
        peer_url: former_ports.contains_key(&member.server) || drift::lists_another_url(prior),
        former_ports,
    }
}

/// Host and port of a URL of `initial-cluster`.
fn place(url: &str) -> Option<(&str, u16)> {
    let (host, port) = url.split_once("://")?.1.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

fn host_of(address: &SocketAddr) -> String {
    let text = address.to_string();
    text.rsplit_once(':').map_or(text.clone(), |(host, _)| host.to_owned())
}

/// Where the member dials its peers.
fn dialled(member: &str, topology: &Topology) -> BTreeMap<String, SocketAddr> {
    let peers = topology.servers().keys().map(ToString::to_string);
    let peers = peers.filter(|name| name != member);
    peers
        .filter_map(|name| Some((name.clone(), topology.dials(member, &name).ok()?)))
        .collect()
}

impl BringUp<'_> {
    /// Closes connections to addresses that are no longer those of peers, and sees that the peers that moved are dialled
    /// where they are now. Returns what did not come about, in words.
    ///
    /// # Errors
    /// If the script can't run, or Terraform asks to stop.
    pub(super) async fn redial(&self, host: &Host) -> Result<Vec<String>, BringUpError> {
        let look = Script::new("looking how old the hosts file is").line(HOSTS_AGE);
        let age = hosts_age(&host.run_checked(&look).await?);
        // What was dialled before etcd sees the new file would be dialled at the old address.
        let wait = RESOLVER.saturating_sub(age);
        if self.road.pause(wait).await.is_err() {
            return Err(BringUpError::Stopped { runs: true });
        }
        let peers = dialled(&self.member.server, self.topology);
        let own = self.member.server();
        let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(" ");
        let former = &self.moved.former_ports;
        let at_former = |name: &String, address: &SocketAddr| Some(SocketAddr::new(address.ip(), *former.get(name)?));
        let both = |all: &BTreeMap<String, SocketAddr>| {
            let formerly = all.iter().filter_map(|(name, address)| at_former(name, address));
            let all: Vec<String> = all
                .values()
                .copied()
                .chain(formerly)
                .map(|one| one.to_string())
                .collect();
            all.join(" ")
        };
        let ports: BTreeSet<u16> = self
            .topology
            .peer_ports()
            .into_iter()
            .chain(former.values().copied())
            .collect();
        // Where those listen whose port changes too is not known here.
        let awaited = self.moved.peers.iter().filter(|(name, _)| !former.contains_key(*name));
        let script = Script::new("dialling the peers that moved")
            .set("unit", self.layout.unit_name())
            .set("ports", list(&mut ports.iter().map(ToString::to_string)))
            .set("addresses", both(&peers))
            .set("moved", both(&self.moved.peers))
            .set("awaited", list(&mut awaited.map(|(_, address)| address.to_string())))
            .set("all", if self.moved.itself { "yes" } else { "no" })
            .set("port", own.map_or(String::new(), |server| server.peer_port.to_string()))
            .set("patience", PATIENCE.to_string())
            .line(include_str!("redial.sh"));
        let output = host.run_checked(&script).await?;
        let mut left: Vec<String> = output
            .values("stale")
            .map(|far| {
                format!(
                    "it is still connected to {far}, an address that no server of the cluster has any more. The connection \
                     could not be closed from outside (that takes `ss` of iproute2, and a kernel with INET_DIAG_DESTROY); \
                     etcd dials anew when it breaks"
                )
            })
            .collect();
        let missing: Vec<&str> = output.values("missing").collect();
        for (name, address) in &self.moved.peers {
            if missing.contains(&address.to_string().as_str()) {
                left.push(format!(
                    "it has not reached {name} at {address}. Let TCP from {} through to it, and see that its member runs",
                    self.member.server
                ));
            }
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{ClusterName, Domain, NetworkName, Scheme, Server, ServerName};

    fn server(name: &str, network: &str, private: [u8; 4], public: [u8; 4]) -> Server {
        Server {
            name: ServerName::parse(name).unwrap(),
            network: NetworkName::parse(network).unwrap(),
            private_address: private.into(),
            public_address: Some(public.into()),
            egress_addresses: Vec::new(),
            peer_port: 2380,
            client_port: 2379,
        }
    }

    fn member(public: &str) -> MemberModel {
        let server = |name: &str, private: &str, public: &str| {
            serde_json::json!({
                "name": name, "network": "a", "private_address": private, "public_address": public,
                "peer_port": 2380, "client_port": 2379,
            })
        };
        let servers = [
            server("a1", "10.0.0.1", public),
            server("b0", "10.0.0.2", "203.0.113.7"),
        ];
        let cluster = serde_json::json!({ "name": "main", "servers": { "a1": servers[0], "b0": servers[1] } });
        let member = serde_json::json!({ "cluster": cluster, "server": "a1", "version": "3.6.14" });
        serde_json::from_value(member).unwrap()
    }

    #[test]
    fn only_peers_that_were_there_before_move() {
        let name = ClusterName::parse("main").unwrap();
        let domain = Domain::of_cluster(&name);
        let servers = vec![
            server("a1", "a", [10, 0, 0, 1], [203, 0, 113, 1]),
            server("a2", "a", [10, 0, 0, 2], [203, 0, 113, 2]),
            server("b0", "b", [10, 0, 0, 2], [203, 0, 113, 7]),
            server("b1", "b", [10, 0, 0, 1], [203, 0, 113, 9]),
            server("c1", "c", [10, 0, 0, 1], [203, 0, 113, 3]),
        ];
        let topology = Topology::new(name, domain, Scheme::Https, servers).unwrap();
        let before =
            "a1=https://10.0.0.9:2380,a2=https://10.0.0.2:2380,b0=https://203.0.113.7:2380,b1=https://203.0.113.8:2380";
        let prior = |public: &str| {
            let own = Value::object([
                ("private_address", "10.0.0.1".into()),
                ("public_address", public.into()),
            ]);
            let servers = Value::object([("servers", Value::object([("a1", own)]))]);
            Value::object([("cluster", servers), ("initial_cluster", before.into())])
        };
        let found = moved(&member("203.0.113.1"), &topology, &prior("203.0.113.1"));
        let expected = BTreeMap::from([("b1".to_owned(), "203.0.113.9:2380".parse().unwrap())]);
        assert_eq!(
            found.peers, expected,
            "not a1 itself, not a2 that stayed, not c1 that is new"
        );
        assert!(!found.itself);
        assert!(moved(&member("203.0.113.1"), &topology, &prior("203.0.113.8")).itself);
        assert!(
            moved(&member("203.0.113.1"), &topology, &Value::Null).is_nothing(),
            "a new member"
        );
    }
}
