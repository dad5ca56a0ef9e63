//! Connections between members whose far end has gone silent are closed, so that etcd dials anew instead of believing in them for minutes.
//!
//! And the other way round: a peer that etcd believes lost though it is connected is dialled anew. A message that found no stream goes over a
//! connection of its own (`rafthttp/pipeline.go`). If that one fails when the streams are long back, etcd counts the peer as lost for as long
//! as they live: in `etcd_network_active_peers`, and where it is asked to change the member list (`ActiveSince`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use crate::etcd::layout::unit_name;
use crate::etcd::metrics::lost_peers;
use crate::host::{Host, RunError, Script};
use crate::membership::links;
use crate::resource::cluster::model::ClusterModel;
use crate::resource::cluster::servers::on_each;
use crate::resource::road::Road;
use crate::resource::server::model::ServerModel;
use crate::resource::talk::Talk;
use crate::topology::Topology;

/// How long members that do not get well are left alone, before connections that fell silent are closed, and between two times. A leader
/// is elected within two seconds.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a server may take to answer.
const QUESTION: Duration = Duration::from_secs(5);
/// How long a member may take to say whom it has lost; others wait for that.
const METRICS: Duration = Duration::from_secs(3);

/// Since when members have been waited for, or what may be in the way was last mended.
#[derive(Clone, Copy)]
pub struct Waited(Instant);

impl Waited {
    /// The wait begins.
    pub fn from_now() -> Self {
        Self(Instant::now())
    }

    /// Mends what may be in the way, if it has taken long by now.
    pub async fn mend(&mut self, mend: impl Future<Output = ()>) {
        if self.0.elapsed() >= SILENCE {
            mend.await;
            *self = Self::from_now();
        }
    }
}

/// Where each server's etcd dials members which it says that it has lost.
pub type Lost = BTreeMap<String, Vec<SocketAddr>>;

/// The servers of a cluster, and whose connections are looked at there.
pub struct Silence<'a> {
    /// The road to them.
    pub road: &'a Road,
    /// The servers.
    pub servers: &'a BTreeMap<String, ServerModel>,
    /// The unit that runs etcd.
    pub unit: &'a str,
    /// The ports for peers.
    pub ports: &'a BTreeSet<u16>,
}

impl Silence<'_> {
    /// On all servers: closes connections between members on which the far end acknowledges nothing, and those on which nothing comes; one
    /// that carries anything stays, a snapshot on its way too. But of the two streams on which a peer is heard that counts as lost one is dialled anew.
    /// Left in the middle when Terraform asks to stop.
    pub async fn end(&self, lost: impl Future<Output = Lost>) {
        tokio::select! {
            () = async { self.hang_up(&lost.await).await } => {}
            _ = self.road.pause(QUESTION * 3) => {}
        }
    }

    async fn hang_up(&self, lost: &Lost) {
        let closed = on_each(self.road, self.servers, QUESTION, false, |server, host| async move {
            let lost = lost.get(server).map(Vec::as_slice).unwrap_or_default();
            hang_up(&host, self.unit, self.ports, None, lost).await
        });
        for (server, closed) in closed.await {
            match closed {
                Ok(closed) if closed.is_empty() => {}
                Ok(closed) => tracing::info!(server, ?closed, "closed connections that had gone silent"),
                Err(error) => tracing::debug!(server, %error, "could not hang up"),
            }
        }
    }
}

/// The same for a cluster whose members can be asked.
pub async fn end(road: &Road, cluster: &ClusterModel, topology: &Topology, talk: Option<&Talk<'_>>) {
    let silence = Silence {
        road,
        servers: &cluster.servers,
        unit: &unit_name(topology.cluster()),
        ports: &topology.peer_ports(),
    };
    let lost = async {
        match talk {
            Some(talk) => lost(talk, topology).await,
            None => Lost::new(),
        }
    };
    silence.end(lost).await;
}

/// The same on one server, and with all that is dialled to one that is `dead`. Returns the far ends of the connections that were closed. A server that
/// was reached before and is cut off now is not waited for: it takes 45 s to show.
pub async fn hang_up(
    host: &Host,
    unit: &str,
    ports: &BTreeSet<u16>,
    dead: Option<SocketAddr>,
    lost: &[SocketAddr],
) -> Result<Vec<String>, RunError> {
    let words = |all: Vec<String>| all.join(" ");
    let script = Script::new("closing connections that are dead")
        .set("unit", unit)
        .set("ports", words(ports.iter().map(u16::to_string).collect()))
        .set("dead", dead.map(|dead| dead.to_string()).unwrap_or_default())
        .set("lost", words(lost.iter().map(SocketAddr::to_string).collect()))
        .line(include_str!("silence.sh"));
    match timeout(QUESTION, host.run_checked(&script)).await {
        Ok(output) => Ok(output?.values("closed").map(str::to_owned).collect()),
        Err(_) => Ok(Vec::new()),
    }
}

/// Whom the members say that they have lost. One that does not answer says nothing.
async fn lost(talk: &Talk<'_>, topology: &Topology) -> Lost {
    let all: Vec<String> = topology.servers().keys().map(ToString::to_string).collect();
    let lists = all.iter().map(|name| async move {
        let api = talk.to(name, METRICS).await.ok()?;
        api.members(METRICS).await.ok()
    });
    let (metrics, lists) = tokio::join!(talk.metrics_of(&all, METRICS), join_all(lists));
    let Some(members) = lists.into_iter().flatten().next() else {
        return Lost::new();
    };
    let lost = links::by_name(&lost_peers(&metrics), &talk.names_of(&members));
    let addresses = lost.into_iter().map(|(from, lost)| {
        let dialled = lost.iter().filter_map(|to| topology.dials(&from, to).ok()).collect();
        (from, dialled)
    });
    addresses.collect()
}
