//! A certificate to talk to a cluster's members with, for blocks that are not given the keys of its authorities.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{FuturesUnordered, StreamExt as _};

use super::cluster::model::ClusterModel;
use super::road::Road;
use super::talk::Talk;
use crate::host::{Output, Script, Secret};
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
    if let Some(talk) = Talk::borrow(road, cluster, topology, None, None) {
        return Ok(talk);
    }
    let mut asked: FuturesUnordered<_> = { cluster.servers.iter() }
        .map(|(name, server)| async move {
            let asked = async {
                let host = road
                    .connect(server, within, false)
                    .await
                    .map_err(|error| error.to_string())?;
                let output = host
                    .run_checked(&script(cluster))
                    .await
                    .map_err(|error| error.to_string())?;
                pair(&output).ok_or_else(|| format!("server {name} has no certificate for clients of the cluster"))
            };
            let late = || {
                Err(format!(
                    "server {name} did not answer within {}",
                    humantime::format_duration(within)
                ))
            };
            tokio::time::timeout(within, asked).await.unwrap_or_else(|_| late())
        })
        .collect();
    let mut reasons = Vec::new();
    while let Some(found) = asked.next().await {
        match found {
            Ok((certificate, key)) => {
                let talk = Talk::borrow(road, cluster, topology, Some(&certificate), Some(key));
                return talk.ok_or_else(|| "the certificate is of no use".to_owned());
            }
            Err(reason) => reasons.push(reason),
        }
    }
    reasons.sort();
    Err(reasons.join("; "))
}

fn script(cluster: &ClusterModel) -> Script {
    Script::new("reading a certificate to talk to the members with")
        .set("pki", format!("/etc/etcd/{}/pki", cluster.name))
        .line(include_str!("report_text.sh"))
        .line("report_text certificate \"$pki/server.crt\"; report_text key \"$pki/server.key\"")
}

fn pair(output: &Output) -> Option<(String, Secret)> {
    let decoded = |key| String::from_utf8(STANDARD.decode(output.value(key)?).ok()?).ok();
    Some((decoded("certificate")?, Secret::new(decoded("key")?)))
}
