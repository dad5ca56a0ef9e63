//! Who answers for the servers of a map: what `who.sh` asks every machine, and what is said if it is the wrong one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::host::Output;
use crate::host::said;
use crate::membership::whereabouts::{Machine, Misplaced, Server};
use crate::plugin::diagnostics::Diagnostic;
use crate::plugin::path::Path;
use crate::resource::server::model::{ServerModel, place_of};
use crate::topology::Topology;

/// Asks a machine who it is. Its answers are for [`machine`]. Given: `member_name`.
pub const SCRIPT: &str = include_str!("who.sh");

/// What a machine answered. `name_of` gives the name of the server that its member is of.
pub fn machine(output: &Output, name_of: impl Fn(&str) -> Option<String>) -> Machine {
    Machine {
        system: output.value("system").map(str::to_owned),
        member: output.value("member-name").and_then(name_of),
        other_token: None,
        addresses: output
            .values("interface-address")
            .filter_map(|address| address.split('%').next()?.parse::<IpAddr>().ok())
            .map(|address| address.to_canonical())
            .collect(),
    }
}

/// The servers of a map with the machines that answered. `moved` says which of them are new in the map, or at another place in it.
pub fn servers(
    topology: &Topology,
    moved: impl Fn(&str) -> bool,
    machine: impl Fn(&str) -> Option<Machine>,
) -> BTreeMap<String, Server> {
    let server = |(name, server): (&crate::topology::ServerName, &crate::topology::Server)| {
        let name = name.to_string();
        let there = Server {
            network: server.network.to_string(),
            private: server.private_address,
            public: server.public_address,
            moved: moved(&name),
            machine: machine(&name),
        };
        (name, there)
    };
    topology.servers().iter().map(server).collect()
}

/// One error for all servers that are not where the map has them.
pub fn refusal(
    cluster: &str,
    wrong: &BTreeMap<String, Vec<Misplaced>>,
    servers: &BTreeMap<String, ServerModel>,
) -> Diagnostic {
    let mut text = String::from("Nothing was changed on any server.\n\n");
    let mut right = BTreeMap::new();
    for (name, wrong) in wrong {
        let place = servers.get(name).map(place_of).unwrap_or_default();
        // Then it is this server that has no machine of its own, and not the machine that has the wrong name.
        let shares = wrong.iter().any(|one| matches!(one, Misplaced::SameMachine(_)));
        for one in wrong {
            let _ = writeln!(text, "Server {name} ({place}) {one}.");
            match one {
                Misplaced::OtherMember(member) if !shares => {
                    right.insert(said::name(member), place.clone());
                }
                Misplaced::PrivateOf(address, other) => {
                    right.insert(other.clone(), format!("private_address = \"{address}\""));
                }
                Misplaced::PublicOf(address, other) | Misplaced::AnsweredBy(address, other) => {
                    right.insert(other.clone(), format!("public_address = \"{address}\""));
                }
                Misplaced::OtherMember(_) | Misplaced::OtherCluster(_) | Misplaced::SameMachine(_) => {}
            }
        }
    }
    text.push_str("\nEach name belongs to one machine, the one that holds its member.");
    if right.is_empty() {
        text.push_str(" Give each server the addresses of a machine of its own.");
    } else {
        text.push_str(" Give each machine the name of its member:\n");
        for (name, place) in &right {
            let _ = writeln!(text, "  {name}: {place}");
        }
        let first = right.keys().next().map_or("", String::as_str);
        let _ = write!(
            text,
            "\nIf a server is to go, remove its own entry and its member, and leave the names and addresses of the others as they are. If the \
             names come from count, use for_each over the names instead, with a moved block for each resource that stays, such as:\n  moved \
             {{\n    from = etcd_server.this[1]\n    to   = etcd_server.this[\"{first}\"]\n  }}\nIf a server is to have another name, let \
             the old name leave in the same apply in which the new one comes."
        );
    }
    let summary = format!("Servers of cluster {cluster} are at other servers' addresses");
    Diagnostic::error(summary, text).at(Path::of("servers"))
}
