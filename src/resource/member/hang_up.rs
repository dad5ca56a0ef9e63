//! Before a dead member is taken out, the others hang up on it.
//!
//! A member that applies the removal of another one closes its streams to that one, in the loop that sends its heartbeats too
//! (etcd `rafthttp/peer.go`, `stop`). A stream whose far end has gone silent, full of what it did not take, is closed only when a write has
//! timed out, 5 s and more (`rafthttp`, `ConnWriteTimeout`): as long the leader sends nothing to anybody, and the cluster stands still.

use futures::future::join_all;

use super::model::MemberModel;
use super::survey::{QUESTION, Survey};
use crate::etcd::layout::Layout;
use crate::resource::road::Road;
use crate::resource::silence;
use crate::topology::Topology;

/// Closes connections that are dead on the servers of all members that answer, if the one that is to be removed does not.
pub async fn hang_up(road: &Road, member: &MemberModel, topology: &Topology, layout: &Layout, survey: &Survey) {
    if survey.list.own.is_none_or(|own| survey.healthy.contains_key(&own)) {
        return;
    }
    let answering = survey.list.answering();
    let servers = member
        .cluster
        .servers
        .iter()
        .filter(|(name, _)| answering.contains(*name) && **name != member.server);
    let (unit, ports) = (&layout.unit_name(), &topology.peer_ports());
    let each = servers.map(|(name, server)| async move {
        let dead = topology.dials(name, &member.server).ok();
        let outcome = match road.connect(server, QUESTION, false).await {
            Ok(host) => { silence::hang_up(&host, unit, ports, dead, &[]).await }.map_err(|error| error.to_string()),
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
