//! What a plan says if a cluster is to be made in the place of a founded one. What decides is [`crate::membership::refounding`].

use crate::membership::refounding::Planned;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::value::Value;
use crate::resource::founded::FOUNDED;
use crate::resource::road::Road;

/// A kind of cluster.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The block of the cluster.
    pub cluster: &'static str,
    /// The block of its members.
    pub member: &'static str,
    /// The attribute that sets it apart.
    pub token: &'static str,
}

/// Clusters of etcd.
pub const ETCD: Kind = Kind {
    cluster: "etcd_cluster",
    member: "etcd_member",
    token: "token",
};
/// Clusters of k3s.
pub const K3S: Kind = Kind {
    cluster: "etcd_k3s_cluster",
    member: "etcd_k3s_server",
    token: "id",
};

fn planned(block: &Value) -> Planned {
    let text = |block: &Value, name: &str| block.get(name).as_str().map(str::to_owned);
    let servers = block.get("servers").as_map();
    let places = servers
        .into_iter()
        .flat_map(|servers| servers.values())
        .flat_map(|server| {
            let private = text(server, "network").zip(text(server, "private_address"));
            let private = private.map(|(network, address)| format!("{network} {address}"));
            [private, text(server, "public_address")]
        });
    Planned {
        name: text(block, "name").unwrap_or_default(),
        places: places.flatten().collect(),
    }
}

/// The plan of a delete.
pub fn goes(road: &Road, kind: Kind, prior: &Value) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let cluster = planned(prior);
    if prior.get("deletion_protection").as_bool() == Some(true) {
        let detail = format!(
            "Its `deletion_protection` is true. Nothing was changed. If the cluster is to go, set `deletion_protection = false` in \
             {}, run `terraform apply`, and repeat this.",
            kind.cluster
        );
        let summary = format!("The cluster {} is protected from being destroyed", cluster.name);
        diagnostics.push(Diagnostic::error(summary, detail).at(Path::of("deletion_protection")));
    }
    if prior.get("founding").as_str() == Some(FOUNDED) {
        let new = road.clusters(kind.cluster, |clusters| {
            clusters.goes(token(kind, prior), cluster.clone())
        });
        diagnostics.append(
            new.flatten()
                .map(|new| refusal(kind, &cluster, &new))
                .into_iter()
                .collect(),
        );
    }
    diagnostics
}

/// The plan of a create, or of a change. A replacement has both.
pub fn comes_or_stays(road: &Road, kind: Kind, prior: &Value, planned_block: &Value) -> Diagnostics {
    if !prior.is_null() {
        if prior.get("founding").as_str() == Some(FOUNDED) {
            road.clusters(kind.cluster, |clusters| {
                clusters.stays(token(kind, prior), planned(prior))
            });
        }
        return Diagnostics::new();
    }
    let new = planned(planned_block);
    let old = road.clusters(kind.cluster, |clusters| clusters.comes(new.clone()));
    old.flatten().map(|old| refusal(kind, &old, &new)).into_iter().collect()
}

fn token(kind: Kind, block: &Value) -> &str {
    block.get(kind.token).as_str().unwrap_or_default()
}

fn refusal(kind: Kind, old: &Planned, new: &Planned) -> Diagnostic {
    let Kind { cluster, member, .. } = kind;
    let renamed = if old.name == new.name {
        String::new()
    } else {
        format!(
            "The new cluster is called {}, and the old one {}: a cluster keeps its name. Write `name = {:?}` again. ",
            new.name, old.name, old.name
        )
    };
    let detail = format!(
        "The plan takes the founded cluster {old} away and makes the cluster {new} in its place. Its members would be stopped, and the new \
         cluster would be empty. Nothing was changed.\n\n\
         {renamed}If these are the same resources at other addresses, say so. Write one block for each {cluster}, {member} and etcd_server \
         that the plan destroys and creates, with the addresses of the plan:\n\n\
         moved {{\n  from = {cluster}.<old>\n  to   = {cluster}.<new>\n}}\n\
         moved {{\n  from = {member}.<old>\n  to   = {member}.<new>\n}}\n\n\
         For a module: `from = module.<old>`, `to = module.<new>`. If `-replace` was given, leave it out: it would found an empty cluster. \
         If the data may be lost, remove the old cluster in an apply of its own, and make the new one in the next.",
        old = old.name,
        new = new.name,
    );
    let summary = format!("The founded cluster {} would be replaced by an empty one", old.name);
    Diagnostic::error(summary, detail).at(Path::of("name"))
}
