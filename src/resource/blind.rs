//! A refresh that reached no server of a cluster knows nothing of it, and says so.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::road::{Road, RoadError};
use super::server::model::ServerModel;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::plugin::path::Path;

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
