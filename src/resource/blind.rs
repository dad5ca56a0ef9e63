//! A refresh that reached no server of a cluster knows nothing of it, and says so.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::road::{Road, RoadError};
use super::server::model::ServerModel;
use crate::host::ConnectError;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::plugin::path::Path;
use crate::plugin::value::{Value, from_value};

/// What a refresh could not be told by a server.
pub struct Unseen<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The server.
    pub name: &'a str,
    /// How it is reached.
    pub server: Option<&'a ServerModel>,
    /// What is not known now, in one sentence.
    pub what: String,
}

impl Unseen<'_> {
    /// A warning, once for a server and run: each block asks the same server, and the first one to ask says it. An error, once for a run,
    /// if the provider's own configuration is at fault.
    pub fn explain(self, error: &RoadError) -> Diagnostics {
        let summary = format!("Server {} can't be reached", self.name);
        if self.server.is_some_and(|server| !self.road.says_first(server)) {
            return Diagnostics::new();
        }
        if let RoadError::Config(error) = error {
            return Diagnostic::error(
                "Invalid SSH configuration",
                format!("{error}. It is set in the provider's `ssh`. Nothing was changed."),
            )
            .into();
        }
        let detail = format!(
            "{error}. {} A refresh goes by the addresses in the state. If the configuration has others, the apply goes by those.",
            self.what
        );
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(summary, detail).at(Path::of("ssh"))
        }
        .into()
    }
}

/// An error for each server that stays where it is and plainly refused this run: what is known of it can't be trusted, and no apply mends that. A
/// server that is to be reached in another way, or to be looked at as a new one (`-replace`), or that goes, is none.
pub fn refuse_refusing(
    road: &Road,
    prior: &BTreeMap<String, &Value>,
    planned: &BTreeMap<String, &Value>,
) -> Diagnostics {
    if road.tolerates_silence() {
        return Diagnostics::new();
    }
    let refusing = planned.iter().filter_map(|(name, server)| {
        let before = prior.get(name)?;
        let ways = ["ssh", "private_address", "public_address", "host_key"];
        if ways.iter().any(|way| before.get(way) != server.get(way)) {
            return None;
        }
        let model = from_value::<ServerModel>(&before.unknown_as_null()).ok()?;
        let error = road.refused_by(&model)?;
        road.says_refusal_first(&model).then(|| refusal(name, &error))
    });
    refusing.collect()
}

fn refusal(name: &str, error: &ConnectError) -> Diagnostic {
    let detail = format!(
        "{error}. So nothing is known of what is on it, and nothing was changed.\n\nSet right what is wrong: user and credentials in `ssh`, or the \
         server's authorized keys. If the machine was installed again, trust its new key (known_hosts), and run `terraform apply -replace` with the \
         address of its etcd_server. To go on without it, give it another machine's addresses, take it out of the configuration, or set ETCD_ALLOW_UNREACHABLE=true for this command."
    );
    Diagnostic::error(format!("Server {name} refuses the connection"), detail).at(Path::of("ssh"))
}

/// An error, if none of a cluster's servers was reached. `errors` has those that were not.
pub fn refuse(
    road: &Road,
    cluster: &str,
    servers: &BTreeMap<String, ServerModel>,
    errors: &BTreeMap<&str, String>,
) -> Option<Diagnostic> {
    let none = !servers.is_empty() && servers.keys().all(|name| errors.contains_key(name.as_str()));
    (none && !road.tolerates_silence()).then(|| {
        let each: Vec<String> = errors.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let detail = format!(
            "So nothing is known of the cluster, and nothing was changed. See that the user and the credentials in the provider's `ssh` are \
             right, and that this machine reaches the servers:\n\n{}\n\nIf all of these machines are gone for good, set `allow_unreachable = \
             true` in the provider's configuration, or ETCD_ALLOW_UNREACHABLE=true in its environment, and run the command again.",
            each.join("\n")
        );
        let summary = format!("No server of the cluster {cluster} could be reached");
        Diagnostic::error(summary, detail).at(Path::of("servers"))
    })
}

/// The servers of a cluster's block.
pub fn servers_of(block: &Value) -> BTreeMap<String, &Value> {
    let servers = block.get("servers").as_map().into_iter().flatten();
    servers.map(|(name, server)| (name.clone(), server)).collect()
}

/// The same for a member, whose own server was not reached: the others are asked.
pub async fn refuse_alone(
    road: &Road,
    cluster: &str,
    servers: &BTreeMap<String, ServerModel>,
    within: Duration,
) -> Option<Diagnostic> {
    let all = servers.iter().map(|(name, server)| async move {
        let error = road.connect(server, within, false).await.err()?;
        Some((name.as_str(), error.to_string()))
    });
    let errors: BTreeMap<&str, String> = join_all(all).await.into_iter().flatten().collect();
    refuse(road, cluster, servers, &errors)
}
