//! The way to the etcd in k3s: through the tunnel to a server's loopback, with the certificate that k3s has there for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;

use super::DATA;
use super::model::K3sClusterModel;
use crate::etcd::api::{ApiTarget, Pages, TlsMaterial};
use crate::etcd::metrics::{Metrics, lost_peers};
use crate::host::{Host, Script, Secret};
use crate::membership::links::{self, Reached};
use crate::resource::road::Road;
use crate::resource::server::model::ServerModel;
use crate::resource::silence::Silence;
use crate::topology::translation::{ETCD_PORTS, Translation};

/// Where the etcd in k3s tells what it measures, without TLS, on the loopback address alone.
const METRICS: u16 = 2381;
/// Where it listens for its peers.
const PEERS: u16 = ETCD_PORTS[1];
const QUESTION: Duration = Duration::from_secs(5);

/// The certificate with which k3s on this server talks to etcd. `None` where it has none.
pub async fn certificate(host: &Host) -> Option<TlsMaterial> {
    let script = Script::new("reading k3s' certificate for etcd")
        .set("folder", format!("{DATA}/server/tls/etcd"))
        .line("for file in server-ca.crt client.crt client.key; do tell_file \"$file\" \"$folder/$file\"; done");
    let output = host.run_checked(&script).await.ok()?;
    let text = |file| output.text(file).map(str::to_owned);
    Some(TlsMaterial {
        ca_pem: text("server-ca.crt")?,
        cert_pem: text("client.crt")?,
        key_pem: Secret::new(text("client.key")?),
    })
}

/// The same from whichever of these servers has one, the first of them by preference.
pub async fn borrowed(road: &Road, cluster: &K3sClusterModel, prefer: &str) -> Option<TlsMaterial> {
    let mut servers: Vec<(&String, &ServerModel)> = cluster.servers.iter().collect();
    servers.sort_by_key(|(name, _)| *name != prefer);
    let asked = servers.into_iter().map(|(_, server)| async move {
        let host = road.connect(server, QUESTION * 3, false).await.ok()?;
        certificate(&host).await
    });
    join_all(asked).await.into_iter().flatten().next()
}

/// What each of these servers' etcd measures; who does not answer is left out.
pub async fn metrics_of(road: &Road, cluster: &K3sClusterModel, servers: &[String]) -> BTreeMap<String, Metrics> {
    let asked = servers.iter().map(|name| async move {
        let host = road.connect(cluster.servers.get(name)?, QUESTION, false).await.ok()?;
        let target = ApiTarget {
            address: [127, 0, 0, 1].into(),
            port: METRICS,
            elsewhere: None,
            tls: None,
            server_name: name.clone(),
            other_addresses: Vec::new(),
        };
        let pages = Pages::new(&host, &target).ok()?;
        let metrics = Metrics::parse(&pages.get("/metrics", QUESTION).await.ok()?);
        Some((name.clone(), metrics))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// What may keep the members from getting well is closed, as [`silence`] says. `names` are those of the servers by the IDs of their members.
pub async fn end_silence(
    road: &Road,
    cluster: &K3sClusterModel,
    translation: Option<&Translation>,
    names: &BTreeMap<u64, String>,
) {
    let Some(translation) = translation else { return };
    // Everybody dials a member at its one address.
    let dialled = |(from, lost): (String, Reached)| {
        let members = translation.members().iter();
        let lost = members.filter(|(name, _)| lost.contains(name.as_str()));
        let addresses = lost.map(|(_, address)| SocketAddr::new((*address).into(), PEERS));
        (from, addresses.collect())
    };
    let silence = Silence {
        road,
        servers: &cluster.servers,
        unit: "k3s.service",
        ports: &BTreeSet::from([PEERS]),
    };
    let lost = async {
        let all: Vec<String> = names.values().cloned().collect();
        let lost = links::by_name(&lost_peers(&metrics_of(road, cluster, &all).await), names);
        lost.into_iter().map(dialled).collect()
    };
    silence.end(lost).await;
}
