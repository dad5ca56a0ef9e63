//! Connections of the tunnel: each goes to a healthy member, and is cut when that one is healthy no more, so that the client
//! connects again and gets to another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::io::copy_bidirectional;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::listener::{Listener, Stream};
use crate::host::Tunnel;
use crate::resource::borrowing::borrow;
use crate::resource::cluster::model::ClusterModel;
use crate::resource::road::Road;
use crate::resource::talk::Talk;
use crate::topology::Topology;

/// How long a member may take to answer.
const QUESTION: Duration = Duration::from_secs(3);
/// How often members are looked at.
const AGAIN: Duration = Duration::from_secs(3);

/// Where the tunnel's connections go.
pub struct Forward {
    road: Arc<Road>,
    cluster: ClusterModel,
    topology: Topology,
    /// How long a healthy member is waited for.
    within: Duration,
    /// The healthy members by the names of their servers, each with what cuts the connections to it.
    healthy: Mutex<BTreeMap<String, CancellationToken>>,
}

impl Forward {
    /// To the members of a cluster.
    pub fn new(road: Arc<Road>, cluster: ClusterModel, topology: Topology, within: Duration) -> Self {
        Self {
            road,
            cluster,
            topology,
            within,
            healthy: Mutex::default(),
        }
    }

    /// Waits until a member is healthy.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn first_look(&self) -> Result<(), String> {
        let deadline = Instant::now() + self.within;
        loop {
            let last = match borrow(&self.road, &self.cluster, &self.topology, QUESTION).await {
                Err(why) => why,
                Ok(talk) => match self.look(&talk).await {
                    Ok(()) => return Ok(()),
                    Err(why) => why,
                },
            };
            if Instant::now() >= deadline {
                return Err(last);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Looks who is healthy, and cuts the connections to those that were and are no more.
    async fn look(&self, talk: &Talk<'_>) -> Result<(), String> {
        let asked = self.topology.servers().keys().map(|name| async move {
            let asking = async {
                let api = talk
                    .to(name.as_str(), QUESTION)
                    .await
                    .map_err(|error| error.to_string())?;
                let status = api.status(QUESTION).await.map_err(|error| error.to_string())?;
                if status.is_learner {
                    return Err(format!("the member on {name} is a learner"));
                }
                let quorum = api.confirm_quorum(QUESTION).await;
                quorum.map_err(|error| error.to_string())
            };
            (name.to_string(), asking.await)
        });
        let answers = join_all(asked).await;
        let mut reasons = Vec::new();
        let mut healthy = self.healthy.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, answer) in answers {
            match answer {
                Ok(()) => drop(healthy.entry(name).or_default()),
                Err(why) => {
                    reasons.push(why);
                    if let Some(cut) = healthy.remove(&name) {
                        cut.cancel();
                    }
                }
            }
        }
        if healthy.is_empty() {
            Err(reasons.join("; "))
        } else {
            Ok(())
        }
    }

    /// Looks again and again until the end.
    pub async fn watch(self: Arc<Self>, ended: CancellationToken) {
        let watching = async {
            loop {
                // A certificate that was borrowed may have been replaced when nobody answers any more.
                if let Ok(talk) = borrow(&self.road, &self.cluster, &self.topology, QUESTION).await {
                    loop {
                        sleep(AGAIN).await;
                        if self.look(&talk).await.is_err() {
                            break;
                        }
                    }
                }
                sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = watching => {}
            () = ended.cancelled() => {}
        }
    }

    /// Takes connections until the end.
    pub async fn accept(self: Arc<Self>, listener: Listener, ended: CancellationToken) {
        let pass = |stream| Arc::clone(&self).pass(stream, ended.clone());
        listener.accept(ended.clone(), pass).await;
    }

    /// Passes everything on, both ways.
    async fn pass(self: Arc<Self>, mut stream: Stream, ended: CancellationToken) {
        let found = tokio::select! {
            found = timeout(self.within, self.to_a_healthy_one()) => found,
            () = ended.cancelled() => return,
        };
        let Ok((name, mut tunnel, cut)) = found else {
            tracing::debug!("a connection to the tunnel found no healthy member");
            return;
        };
        tracing::debug!(server = name, "a connection through the tunnel");
        tokio::select! {
            passed = copy_bidirectional(&mut stream, &mut tunnel) => {
                if let Err(error) = passed {
                    tracing::debug!(server = name, %error, "a connection through the tunnel broke");
                }
            }
            () = cut.cancelled() => {}
            () = ended.cancelled() => {}
        }
    }

    /// A stream to the first healthy member that takes one, and what will cut it.
    async fn to_a_healthy_one(&self) -> (String, Tunnel, CancellationToken) {
        loop {
            let healthy = self.healthy.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for (name, cut) in healthy {
                // One that does not answer any more shows by that; the next look takes it out.
                if let Ok(Some(tunnel)) = timeout(QUESTION, self.dial(&name)).await {
                    return (name, tunnel, cut);
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn dial(&self, name: &str) -> Option<Tunnel> {
        let (_, place) = self.topology.find(name).ok()?;
        let server = self.cluster.server(name).ok()?;
        let host = self.road.connect(server, QUESTION, false).await.ok()?;
        let mut addresses = vec![place.loopback()];
        if self.cluster.adopted_from.is_some() {
            addresses.push(place.private_address);
        }
        for address in addresses {
            if let Ok(tunnel) = host.tcp(&address.to_string(), place.client_port).await {
                return Some(tunnel);
            }
        }
        None
    }
}
