//! What a plan says of a member, before anything is touched.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::model::{self, MemberModel};
use super::wanted::{self, configurations, needing_restart};
use crate::etcd::layout::Layout;
use crate::etcd::version::Version;
use crate::membership::identity::{founding_cluster_id, founding_member_id};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::model as cluster;
use crate::topology::{ClusterName, ServerName, Topology};

/// Refines the plan of a member.
pub fn refine(prior: &Value, mut planned: Value) -> (Value, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let cluster_name = planned.at(&["cluster", "name"]).as_str().map(str::to_owned);
    if let (Some(cluster), Some(server)) = (&cluster_name, planned.get("server").as_str()) {
        let id = format!("{cluster}/{server}");
        planned.set("id", id);
    }
    if let (Some(cluster), true) = (&cluster_name, planned.get("data_dir").is_unknown()) {
        planned.set("data_dir", model::default_data_dir(cluster));
    }
    if let Some(Ok(version)) = planned.get("version").as_str().map(Version::parse) {
        planned.set("running_version", version.to_string());
    }
    planned.set("service", "running");
    // What is wrong with the servers is the cluster's to say, once.
    let topology = cluster::topology(planned.get("cluster"), &Path::of("cluster"), &mut Diagnostics::new());
    if let Some(topology) = &topology {
        views(&mut planned, topology, &mut diagnostics);
    }
    if planned.at(&["cluster", "tls", "enabled"]).as_bool() == Some(false) {
        planned.set("certificate_expiry", Value::Null);
    }
    if !prior.is_null() {
        refuse_rolling(prior, &planned, &mut diagnostics);
        if planned != *prior || expires_soon(prior) {
            // A change may issue certificates; a plan that needs none says so by being empty.
            let certificates = if prior.get("certificate_expiry").is_null() {
                Value::Null
            } else {
                Value::Unknown
            };
            planned.set("certificate_expiry", certificates);
        }
    }
    (planned, diagnostics)
}

fn views(planned: &mut Value, topology: &Topology, diagnostics: &mut Diagnostics) {
    let Some(server) = planned.get("server").as_str() else {
        return;
    };
    let known = topology
        .servers()
        .keys()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let Some(name) = ServerName::parse(server)
        .ok()
        .filter(|name| topology.servers().contains_key(name))
    else {
        let text = format!("The cluster has no server {server:?}. Its servers are: {known}.");
        diagnostics.push(Diagnostic::error("No such server in the cluster", text).at(Path::of("server")));
        return;
    };
    planned.set("peer_url", topology.peer_url(&name).ok());
    planned.set("client_url", topology.client_url(&name).ok());
    planned.set(
        "initial_cluster",
        topology.view(&name).ok().map(|view| view.initial_cluster),
    );
    let layout = layout(planned, topology.cluster());
    let layout = match layout {
        Ok(layout) => layout,
        Err(diagnostic) => {
            diagnostics.push(diagnostic);
            return;
        }
    };
    if planned
        .at(&["cluster", "token"])
        .as_str()
        .is_none_or(|token| token.is_empty())
    {
        return;
    }
    let mut known = planned.unknown_as_null();
    forget_authorities(&mut known);
    let (Ok(member), Some(Ok(version))) = (
        from_value::<MemberModel>(&known),
        planned.get("version").as_str().map(Version::parse),
    ) else {
        return;
    };
    match configurations(&member, topology, &layout, &version) {
        Ok(texts) => planned.set("configuration", texts.standing),
        Err(error) => diagnostics.push(
            Diagnostic::error("The member's configuration would not do", error.to_string()).at(Path::of("config")),
        ),
    }
    identity(planned, &member, topology, &name);
}

/// The IDs of founding members follow from their names and the token.
fn identity(planned: &mut Value, member: &MemberModel, topology: &Topology, name: &ServerName) {
    if !planned.get("member_id").is_unknown() || !member.is_founder() {
        return;
    }
    let founders = member.founders();
    let ids: Vec<_> = topology
        .servers()
        .keys()
        .filter(|server| founders.iter().any(|founder| founder == server.as_str()))
        .filter_map(|server| {
            Some((
                server,
                founding_member_id(&topology.peer_url(server).ok()?, member.cluster.token()),
            ))
        })
        .collect();
    let own = ids
        .iter()
        .find(|(server, _)| *server == name)
        .map(|(_, id)| id.to_string());
    planned.set("member_id", own);
    planned.set(
        "cluster_id",
        founding_cluster_id(&ids.iter().map(|(_, id)| *id).collect::<Vec<_>>()).to_string(),
    );
}

/// Where the member's files are.
///
/// # Errors
/// If the data directory can't be one.
pub fn layout(block: &Value, cluster: &ClusterName) -> Result<Layout, Diagnostic> {
    let chosen = block.get("data_dir").as_str();
    Layout::new(cluster, chosen)
        .map_err(|error| Diagnostic::error("Invalid data directory", error.to_string()).at(Path::of("data_dir")))
}

/// Nothing of a plan depends on the authorities, and their keys may not be known yet.
fn forget_authorities(block: &mut Value) {
    let mut cluster = block.get("cluster").clone();
    cluster.set("certificate_authorities", Value::Null);
    block.set("cluster", cluster);
}

fn refuse_rolling(prior: &Value, planned: &Value, diagnostics: &mut Diagnostics) {
    if prior.get("service").as_str() != Some("running") {
        return;
    }
    let refused = |summary: &str, detail: String, at: &str| {
        let detail = format!(
            "{detail} That needs a restart of a running member, and rolling changes, which keep the cluster's quorum while \
             its members restart one by one, are not part of this version. Nothing was changed."
        );
        Diagnostic::error(summary, detail).at(Path::of(at))
    };
    if let (Some(before), Some(after)) = (
        prior.get("running_version").as_str(),
        planned.get("running_version").as_str(),
    ) && before != after
    {
        let detail = format!("The member runs etcd {before}, and {after} is wanted.");
        diagnostics.push(refused(
            "The version of a running member can't be changed yet",
            detail,
            "version",
        ));
        return;
    }
    let text = |block: &Value, names: &[&str]| block.at(names).as_str().map(str::to_owned);
    for kind in ["peer", "client"] {
        let names = ["cluster", "certificate_authorities", kind, "certificate"];
        if let (Some(before), Some(after)) = (text(prior, &names), text(planned, &names))
            && before != after
        {
            let detail = format!("The cluster has another certificate authority for {kind}s.");
            diagnostics.push(refused(
                "The authorities of a running member can't be changed yet",
                detail,
                "cluster",
            ));
        }
    }
    for attribute in ["data_dir", "server"] {
        if let (Some(before), Some(after)) = (text(prior, &[attribute]), text(planned, &[attribute]))
            && before != after
        {
            let detail = format!("The member runs with {attribute} {before:?}, and {after:?} is wanted.");
            diagnostics.push(refused("A running member can't be moved yet", detail, attribute));
        }
    }
    if let (Some(before), Some(after)) = (
        prior.get("configuration").as_str(),
        planned.get("configuration").as_str(),
    ) {
        let (before, after) = (needing_restart(before), needing_restart(after));
        if before != after {
            let changed: Vec<&str> = after.iter().filter(|line| !before.contains(line)).copied().collect();
            let gone: Vec<&str> = before.iter().filter(|line| !after.contains(line)).copied().collect();
            let detail = format!("New: {}. Gone: {}.", list(&changed), list(&gone));
            diagnostics.push(refused(
                "The configuration of a running member can't be changed yet",
                detail,
                "config",
            ));
        }
    }
}

fn list(lines: &[&str]) -> String {
    if lines.is_empty() {
        "nothing".to_owned()
    } else {
        lines.join(", ")
    }
}

fn expires_soon(state: &Value) -> bool {
    let soon = OffsetDateTime::now_utc() + wanted::RENEW_BEFORE;
    state.get("certificate_expiry").as_map().is_some_and(|expiry| {
        expiry.values().any(|end| {
            end.as_str()
                .and_then(|end| OffsetDateTime::parse(end, &Rfc3339).ok())
                .is_some_and(|end| end < soon)
        })
    })
}
