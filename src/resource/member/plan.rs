//! What a plan says of a member, before anything is touched.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::drift;
use super::install::needing_restart;
use super::model::{self, MemberModel};
use super::wanted::{configurations, issued};
use crate::etcd::certificates::parse;
use crate::etcd::layout::Layout;
use crate::etcd::release::{Arch, carried_sum};
use crate::etcd::version::{Minor, Version, VersionChange};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::model as cluster;
use crate::resource::reference;
use crate::resource::server::model as server;
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
    if planned.get("version").is_unknown() {
        planned.set("running_version", Value::Unknown);
    }
    if same_version(prior.get("version"), planned.get("version")) {
        planned.set("version", prior.get("version").clone());
    }
    planned.set("service", "running");
    planned.set("drift", BTreeMap::new());
    // What is wrong with the servers is the cluster's to say, once.
    let topology = cluster::topology(planned.get("cluster"), &Path::of("cluster"), &mut Diagnostics::new());
    if let Some(topology) = &topology {
        views(&mut planned, topology, &mut diagnostics);
    }
    if planned.at(&["cluster", "tls", "enabled"]).as_bool() == Some(false) {
        planned.set("certificate_expiry", Value::Null);
        planned.set("certificate_serials", Value::Null);
    }
    diagnostics.append(unknown_release(prior, &planned).into_iter().collect());
    if prior.is_null() {
        refuse_source(&planned, &mut diagnostics);
    } else {
        refuse(prior, &planned, &mut diagnostics);
        let elsewhere = is_elsewhere(prior, &planned);
        let [version, binary] = ["version", "binary"].map(|name| prior.get(name) != planned.get(name));
        let adopts = drift::is_to_be_adopted(prior);
        let secured = planned.at(&["cluster", "tls", "enabled"]).as_bool() != Some(false);
        if adopts
            || drift::issues_certificates(prior)
            || other_certificates(prior, &planned)
            || expires_soon(prior, &planned)
        {
            let certificates = if prior.get("certificate_expiry").is_null() && !(adopts && secured) {
                Value::Null
            } else {
                Value::Unknown
            };
            planned.set("certificate_expiry", certificates.clone());
            planned.set("certificate_serials", certificates);
        }
        if elsewhere || drift::joins_anew(prior) {
            planned.set("member_id", Value::Unknown);
        }
        if elsewhere || adopts || drift::brings_program(prior) || version || binary {
            planned.set("binary_sha256", Value::Unknown);
        }
        // A cluster that is recovered is another one, with other members.
        if prior.at(&["cluster", "token"]) != planned.at(&["cluster", "token"]) {
            planned.set("member_id", Value::Unknown);
            planned.set("cluster_id", Value::Unknown);
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
    // What is measured when servers come is not known before, nor may be what the user writes.
    let measured = ["heartbeat_interval", "election_timeout"].map(|name| planned.at(&["cluster", name]));
    let written = ["version", "config", "data_dir"].map(|name| planned.get(name));
    let revoked = planned.at(&["cluster", "tls", "revoked"]);
    if !revoked.as_list().unwrap_or_default().is_empty()
        && let Some(Ok(version)) = planned.get("version").as_str().map(Version::parse)
        && version.is_newer_than_known()
    {
        let text = "This provider does not know how this version of etcd is told which certificates it accepts no more. Use an older version \
                    of etcd, or a newer one of the provider.";
        diagnostics.push(Diagnostic::error("Certificates can't be revoked here", text).at(Path::of("version")));
    }
    if { measured.iter().chain(&written).chain([&revoked]) }.any(|value| !value.is_wholly_known()) {
        planned.set("configuration", Value::Unknown);
        return;
    }
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
}

/// etcd 3.4 has only one certificate for both directions, and compares the address that it is shown from with it.
fn refuse_source(planned: &Value, diagnostics: &mut Diagnostics) {
    let (Some(server), Some(Ok(version))) = (
        planned.get("server").as_str(),
        planned.get("version").as_str().map(Version::parse),
    ) else {
        return;
    };
    let sources = planned
        .at(&["cluster", "source_addresses", server])
        .as_list()
        .unwrap_or_default();
    let sources: Vec<&str> = sources.iter().filter_map(Value::as_str).collect();
    let tls = planned.at(&["cluster", "tls", "enabled"]).as_bool().unwrap_or(true);
    if sources.is_empty() || !tls || version.minor() > Minor::V3_4 {
        return;
    }
    let detail = format!(
        "Other servers see {server} come from {}, which is none of its addresses, and etcd 3.4 would reject its connections. Set \
         egress_addresses = [\"{}\"] of the server {server}, or use etcd 3.5 or later, which does not mind.",
        sources.join(", "),
        sources.join("\", \"")
    );
    diagnostics
        .push(Diagnostic::error("A NAT sends this member out by another address", detail).at(Path::of("version")));
}

/// Warns of an official release that nothing but its own list of checksums tells from another.
fn unknown_release(prior: &Value, planned: &Value) -> Option<Diagnostic> {
    let comes = prior.is_null() || prior.get("version") != planned.get("version");
    let binary = planned.get("binary");
    let fetched = ["host_path", "upload", "url", "sha256"]
        .iter()
        .all(|source| binary.get(source).is_null());
    let version = Version::parse(planned.get("version").as_str()?).ok()?;
    if !comes || !fetched || carried_sum(&version, Arch::Amd64).is_some() {
        return None;
    }
    let detail = format!(
        "This provider carries no checksum of etcd {version}. The server compares the archive with the SHA256SUMS of that release, which \
         come from the same place. Set binary = {{ sha256 = … }} to compare it with a checksum of your own, or use a newer version of \
         the provider."
    );
    Some(
        Diagnostic::warning(
            "The checksum of this release comes from where the release comes from",
            detail,
        )
        .at(Path::of("version")),
    )
}

/// `v3.6.16` is `3.6.16`.
fn same_version(one: &Value, other: &Value) -> bool {
    let version = |value: &Value| value.as_str().and_then(|text| Version::parse(text).ok());
    version(one).is_some_and(|one| version(other) == Some(one))
}

/// What is to be known before a member goes to another minor version.
pub fn no_way_back(prior: &Value, planned: &Value) -> Option<Diagnostic> {
    let version = |block: &Value, name| block.get(name).as_str().and_then(|text| Version::parse(text).ok());
    let before = version(prior, "running_version").or_else(|| version(prior, "version"))?;
    let after = version(planned, "version")?;
    if before.change_to(&after) != Ok(VersionChange::NextMinor) {
        return None;
    }
    let cluster = planned.at(&["cluster", "name"]).as_str().unwrap_or_default();
    let twice = if after.minor() == Minor::V3_7 {
        " A member whose log still has entries of etcd 3.5 restarts twice: first with its old version, to write a snapshot."
    } else {
        ""
    };
    let detail = format!(
        "etcd {} does not start on data that {after} has written, and this provider refuses to go back. Take a snapshot of the cluster before \
         you apply.{twice} The members change one at a time.",
        minor(&before)
    );
    let summary = format!(
        "Cluster {cluster}: there is no way back from etcd {} to {}",
        minor(&after),
        minor(&before)
    );
    Some(Diagnostic::warning(summary, detail).at(Path::of("version")))
}

fn minor(version: &Version) -> String {
    let (major, minor) = version.number();
    format!("{major}.{minor}")
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

/// Whether the member's server may be another machine by now, where it would join anew.
fn is_elsewhere(prior: &Value, planned: &Value) -> bool {
    let Some(name) = planned.get("server").as_str() else {
        return false;
    };
    let own = |block: &Value| block.at(&["cluster", "servers", name]).clone();
    let (before, after) = (own(prior), own(planned));
    server::is_elsewhere(&before, &after) || (!before.is_null() && before.get("host_key") != after.get("host_key"))
}

/// Whether nothing is to change but how the member sees the others: that may wait where its server can't be reached.
pub fn only_views_differ(prior: &Value, planned: &Value) -> bool {
    let Some(name) = planned.get("server").as_str() else {
        return false;
    };
    let same_cluster = || {
        let (before, after) = (prior.get("cluster"), planned.get("cluster"));
        let attributes = after.as_map().into_iter().flatten();
        let mut others = attributes.filter(|(attribute, _)| *attribute != "servers");
        others.all(|(attribute, value)| before.get(attribute) == value)
            && before.at(&["servers", name]) == after.at(&["servers", name])
    };
    let restarts = |block: &Value| {
        let text = block.get("configuration").as_str().unwrap_or_default().to_owned();
        needing_restart(&text)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let unchanged = |attribute: &str, value: &Value| match attribute {
        "cluster" => same_cluster(),
        // They say of the cluster what is compared above.
        reference::REVISION | reference::CARRIED_OVER => true,
        "configuration" => value.is_unknown() || restarts(prior) == restarts(planned),
        // How long a change may take is no change.
        "initial_cluster" | "certificate_expiry" | "certificate_serials" | "timeouts" => true,
        "drift" => prior
            .get("drift")
            .as_map()
            .is_none_or(|drift| drift.keys().all(|part| part == drift::SERVER)),
        _ => prior.get(attribute) == value,
    };
    let attributes = planned.as_map().into_iter().flatten();
    !prior.is_null() && { attributes }.all(|(attribute, value)| unchanged(attribute, value))
}

/// Nothing of a plan depends on the authorities, and their keys may not be known yet.
fn forget_authorities(block: &mut Value) {
    let mut cluster = block.get("cluster").clone();
    cluster.set("certificate_authorities", Value::Null);
    block.set("cluster", cluster);
}

/// What can't become of a member that is there.
fn refuse(prior: &Value, planned: &Value, diagnostics: &mut Diagnostics) {
    let version = |block: &Value, name| block.get(name).as_str().and_then(|text| Version::parse(text).ok());
    // What its data was written by: what runs, or what ran last.
    let before = version(prior, "running_version").or_else(|| version(prior, "version"));
    if let (Some(before), Some(after)) = (before, version(planned, "version"))
        && let Err(refusal) = before.change_to(&after)
    {
        let text = format!("{refusal}. Nothing was changed.");
        diagnostics.push(Diagnostic::error("The member can't go to this version", text).at(Path::of("version")));
    }
    if let (Some(before), Some(after), true) = (
        version(prior, "running_version"),
        version(planned, "version"),
        drift::is_to_be_adopted(prior),
    ) && before.minor() != after.minor()
    {
        let text = format!(
            "It runs etcd {before} and is still to be taken over. Take it over with a version of {}, and go to {after} in a later \
             apply. Nothing was changed.",
            before.minor()
        );
        diagnostics.push(Diagnostic::error("One thing after the other", text).at(Path::of("version")));
    }
    let text = |name: &str, block: &Value| block.get(name).as_str().map(str::to_owned);
    for attribute in ["data_dir", "server"] {
        if let (Some(before), Some(after)) = (text(attribute, prior), text(attribute, planned))
            && before != after
        {
            let detail = format!(
                "The member has {attribute} {before:?}, and {after:?} is wanted. That would replace it, and all members at once \
                 where all of them change: the cluster's data would be set aside. Nothing was changed. Remove the member and add \
                 it again in two applies instead, one member after the other."
            );
            diagnostics.push(Diagnostic::error("A member can't be moved", detail).at(Path::of(attribute)));
        }
    }
}

/// Whether the certificates are to say something else than before, or to be issued by another authority.
fn other_certificates(prior: &Value, planned: &Value) -> bool {
    let issued = |block: &Value| {
        let topology = cluster::topology(block.get("cluster"), &Path::of("cluster"), &mut Diagnostics::new())?;
        let member: MemberModel = from_value(&block.unknown_as_null()).ok()?;
        let version = Version::parse(&member.version).ok()?;
        // A member that was taken over has the hosts on its certificates at which the others dial it.
        let adopted = member.cluster.adopted_from.is_some();
        (!adopted).then(|| issued(&member, &topology, &version).ok())?
    };
    let authorities = |block: &Value| block.at(&["cluster", "certificate_authorities"]).clone();
    authorities(prior) != authorities(planned)
        || match (issued(prior), issued(planned)) {
            (Some(before), Some(after)) => before != after,
            _ => ["cluster", "version"]
                .iter()
                .any(|name| prior.get(name) != planned.get(name)),
        }
}

/// Whether a certificate ends soon that a new one would outlive: none outlives its authority.
fn expires_soon(state: &Value, planned: &Value) -> bool {
    let Some(window) = model::renew_before(planned) else {
        return true;
    };
    let soon = OffsetDateTime::now_utc() + window;
    [("peer", "peer"), ("peer_client", "peer"), ("client", "client")]
        .into_iter()
        .any(|(kind, authority)| {
            let end = state.at(&["certificate_expiry", kind]).as_str();
            let end = end.and_then(|end| OffsetDateTime::parse(end, &Rfc3339).ok());
            let authority = state.at(&["cluster", "certificate_authorities", authority, "certificate"]);
            let authority = authority.as_str().and_then(|pem| parse(pem).ok());
            end.is_some_and(|end| end < soon && authority.is_none_or(|authority| end < authority.not_after))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_with_v_is_the_version() {
        let member = |version: &str| Value::object([("version", version.into()), ("running_version", "3.6.16".into())]);
        let planned = |before: &str, after: &str| {
            let (planned, _) = refine(&member(before), member(after));
            planned.get("version").as_str().map(str::to_owned)
        };
        assert_eq!(planned("3.6.16", "v3.6.16").as_deref(), Some("3.6.16"));
        assert_eq!(planned("v3.6.16", "3.6.16").as_deref(), Some("v3.6.16"));
        assert_eq!(planned("3.6.16", "v3.6.17").as_deref(), Some("v3.6.17"));
    }

    #[test]
    fn a_step_that_can_not_be_undone_is_said() {
        let said = |before: &str, after: &str| {
            let member = |version: &str| Value::object([("version", version.into())]);
            no_way_back(&member(before), &member(after)).map(|one| one.detail)
        };
        assert!(said("3.6.16", "3.7.3").is_some_and(|text| text.contains("restarts twice")));
        assert!(said("v3.5.30", "3.6.16").is_some_and(|text| !text.contains("restarts twice")));
        assert_eq!(said("3.6.16", "3.6.17"), None);
        assert_eq!(said("3.6.16", "v3.6.16"), None);
        // Refused, by another message.
        assert_eq!(said("3.5.30", "3.7.3"), None);
    }

    #[test]
    fn certificates_change_with_what_they_say() {
        let member = |public: &str, other: &str, heartbeat: i64, authority: &str| {
            let server = |name: &str, public: &str| {
                Value::object([
                    ("name", name.into()),
                    ("network", name.into()),
                    ("private_address", "10.0.0.1".into()),
                    ("public_address", public.into()),
                    ("peer_port", 2380.into()),
                    ("client_port", 2379.into()),
                ])
            };
            let authority = || Value::object([("certificate", authority.into())]);
            let cluster = Value::object([
                ("name", "main".into()),
                ("token", "t".into()),
                ("heartbeat_interval", heartbeat.into()),
                (
                    "servers",
                    Value::object([("a1", server("a1", public)), ("b1", server("b1", other))]),
                ),
                (
                    "certificate_authorities",
                    Value::object([("peer", authority()), ("client", authority())]),
                ),
            ]);
            Value::object([
                ("cluster", cluster),
                ("server", "a1".into()),
                ("version", "3.6.16".into()),
            ])
        };
        let before = member("203.0.113.1", "203.0.113.2", 100, "one");
        assert!(!other_certificates(
            &before,
            &member("203.0.113.1", "203.0.113.2", 150, "one")
        ));
        assert!(!other_certificates(
            &before,
            &member("203.0.113.1", "203.0.113.9", 100, "one")
        ));
        assert!(other_certificates(
            &before,
            &member("203.0.113.9", "203.0.113.2", 100, "one")
        ));
        assert!(other_certificates(
            &before,
            &member("203.0.113.1", "203.0.113.2", 100, "two")
        ));
        let mut older = before.clone();
        older.set("version", "3.4.23");
        assert!(other_certificates(&older, &before));
    }

    #[test]
    fn what_may_wait_where_a_server_is_not_reached() {
        let member = |version: &str, other: &str, update: &str| {
            let server = |public: &str| Value::object([("public_address", public.into())]);
            let servers = Value::object([("a1", server("203.0.113.1")), ("b1", server(other))]);
            Value::object([
                ("server", "a1".into()),
                ("cluster", Value::object([("servers", servers)])),
                ("version", version.into()),
                ("initial_cluster", format!("b1=https://{other}:2380").into()),
                ("cluster_revision", format!("main, 2 servers, {other}").into()),
                ("timeouts", Value::object([("update", update.into())])),
            ])
        };
        let before = member("3.6.16", "203.0.113.2", "5m");
        assert!(only_views_differ(&before, &member("3.6.16", "203.0.113.9", "5m")));
        assert!(only_views_differ(&before, &member("3.6.16", "203.0.113.9", "30s")));
        assert!(!only_views_differ(&before, &member("3.6.17", "203.0.113.2", "5m")));
    }
}
