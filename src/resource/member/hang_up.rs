//! Connections whose far end has gone silent are closed, so that etcd dials anew instead of believing in them for minutes.
//!
//! Before a dead member is taken out, the others hang up on it.
//!
//! A member that applies the removal of another one closes its streams to that one, in the loop that sends its heartbeats too
//! (etcd `rafthttp/peer.go`, `stop`). A stream whose far end has gone silent, full of what it did not take, is closed only when a write has
//! timed out, 5 s and more (`rafthttp`, `ConnWriteTimeout`): as long the leader sends nothing to anybody, and the cluster stands still.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::model::MemberModel;
use super::survey::{QUESTION, Survey};
use crate::etcd::layout::Layout;
use crate::host::{Host, RunError, Script};
use crate::resource::cluster::servers::on_each;
use crate::resource::road::Road;
use crate::topology::Topology;

/// How long members that do not get well are left alone, before connections that fell silent are closed, and between two times. A leader
/// is elected within two seconds.
pub const SILENCE: Duration = Duration::from_secs(10);

/// Closes connections that are dead on the servers of all members that answer, if the one that is to be removed does not.
pub async fn hang_up(road: &Road, member: &MemberModel, topology: &Topology, layout: &Layout, survey: &Survey) {
    if survey.own.is_none_or(|own| survey.healthy.contains_key(&own)) {
        return;
    }
    let answering = survey.answering();
    let servers = member
        .cluster
        .servers
        .iter()
        .filter(|(name, _)| answering.contains(name) && **name != member.server);
    let each = servers.map(|(name, server)| async move {
        let dead = topology.dials(name, &member.server).map(|dead| dead.to_string());
        let script = script(layout, &dead.unwrap_or_default(), "");
        let outcome = match road.connect(server, QUESTION, false).await {
            Ok(host) => run(&host, &script).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        // Without it the cluster may stand still for some seconds, and nothing more.
        match outcome {
            Ok(closed) => tracing::debug!(server = name, closed = closed.len(), "hung up"),
            Err(error) => tracing::debug!(server = name, error, "could not hang up"),
        }
    });
    join_all(each).await;
}

/// Closes the connections of all members, this one included, on which the far end acknowledges nothing, and those to peers on which nothing comes.
/// A connection that carries anything stays, a snapshot on its way too.
pub async fn hang_up_on_the_silent(road: &Road, member: &MemberModel, topology: &Topology, layout: &Layout) {
    let ports: Vec<String> = topology.peer_ports().iter().map(u16::to_string).collect();
    let script = &script(layout, "", &ports.join(" "));
    let closed = on_each(road, &member.cluster.servers, QUESTION, false, |_, host| async move {
        run(&host, script).await
    });
    for (server, closed) in closed.await {
        match closed {
            Ok(closed) if closed.is_empty() => {}
            Ok(closed) => tracing::info!(server, ?closed, "closed connections that had gone silent"),
            Err(error) => tracing::debug!(server, %error, "could not hang up"),
        }
    }
}

/// The connections that were closed. A server that was reached before and is cut off now is not waited for: it takes 45 s to show.
async fn run(host: &Host, script: &Script) -> Result<Vec<String>, RunError> {
    match timeout(QUESTION, host.run_checked(script)).await {
        Ok(output) => Ok(output?.values("closed").map(str::to_owned).collect()),
        Err(_) => Ok(Vec::new()),
    }
}

fn script(layout: &Layout, dead: &str, ports: &str) -> Script {
    Script::new("closing connections that are dead")
        .set("unit", layout.unit_name())
        .set("dead", dead)
        .set("ports", ports)
        .line(include_str!("hang_up.sh"))
}
