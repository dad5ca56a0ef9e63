//! A certificate to talk to a cluster's members with, for blocks that are not given the keys of its authorities.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};

use super::cluster::model::ClusterModel;
use super::road::Road;
use super::talk::{Lent, Talk};
use crate::host::Script;
use crate::topology::Topology;

/// Talks to the members with the certificate that one of them has on its server, whichever is reached first.
///
/// # Errors
/// If none of the servers was reached, or none has a certificate; in words.
pub async fn borrow<'a>(
    road: &'a Road,
    cluster: &'a ClusterModel,
    topology: &'a Topology,
    within: Duration,
) -> Result<Talk<'a>, String> {
    if let Some(talk) = Talk::borrow(road, cluster, topology, None) {
        return Ok(talk);
    }
    let mut asked: FuturesUnordered<_> = { cluster.servers.keys() }
        .map(|name| async move {
            let late = || {
                Err(format!(
                    "server {name} did not answer within {}",
                    humantime::format_duration(within)
                ))
            };
            let asked = lent(road, cluster, name, within);
            tokio::time::timeout(within, asked).await.unwrap_or_else(|_| late())
        })
        .collect();
    let mut reasons = Vec::new();
    while let Some(found) = asked.next().await {
        match found {
            Ok(lent) => {
                let talk = Talk::borrow(road, cluster, topology, Some(lent));
                return talk.ok_or_else(|| "the certificate is of no use".to_owned());
            }
            Err(reason) => reasons.push(reason),
        }
    }
    reasons.sort();
    Err(reasons.join("; "))
}

/// What the server of this name lends.
///
/// # Errors
/// If it was not reached, or has no certificate; in words.
pub async fn lent(road: &Road, cluster: &ClusterModel, name: &str, within: Duration) -> Result<Lent, String> {
    let server = cluster.server(name).map_err(|error| error.to_string())?;
    let host = road
        .connect(server, within, false)
        .await
        .map_err(|error| error.to_string())?;
    let script = Script::new("reading a certificate to talk to the members with")
        .set("pki", format!("/etc/etcd/{}/pki", cluster.name))
        .line(include_str!("lend.sh"))
        .line("lend \"$pki\"");
    let output = host.run_checked(&script).await.map_err(|error| error.to_string())?;
    Lent::of(&output).ok_or_else(|| format!("server {name} has no certificate for clients of the cluster"))
}
