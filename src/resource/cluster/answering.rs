//! Whether a public address leads to the member that it is for. The machine may not have it on an interface, and the provider may log in by
//! another way: then only another server can tell, by the certificate that is shown there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;

use super::clearing::Before;
use super::model::ClusterModel;
use super::servers::{Each, Observation};
use crate::etcd::answering::member_at;
use crate::host::Script;
use crate::membership::whereabouts::Misplaced;
use crate::resource::dialling::{self, Target};
use crate::resource::road::Road;
use crate::topology::{Dialled, Topology};

/// How long opening a connection may take, in seconds, and how long the handshake may.
const DIALLING: u64 = 5;
const QUESTION: Duration = Duration::from_secs(5);

/// The servers at whose new public address another server's member answers. What does not answer is not judged.
pub async fn answered_by_others(
    road: &Road,
    before: &Before,
    cluster: &ClusterModel,
    topology: &Topology,
    moved: &BTreeSet<String>,
    observed: &Each<Observation>,
) -> BTreeMap<String, Vec<Misplaced>> {
    let Some(authorities) = &before.cluster.certificate_authorities else {
        return BTreeMap::new();
    };
    let stable = |name| topology.domain().stable_name(name);
    let names: BTreeMap<String, String> = { topology.servers().keys() }
        .map(|name| (stable(name), name.to_string()))
        .collect();
    let runs = |name: &str| {
        let seen = observed.get(name).and_then(|outcome| outcome.as_ref().ok());
        seen.is_some_and(|seen| seen.runs && seen.machine.member.as_deref() == Some(name))
    };
    let moved = moved.iter().filter(|name| runs(name)).filter_map(|name| {
        let (_, server) = topology.find(name).ok()?;
        let mut viewers = topology.servers().iter().filter(|(viewer, there)| {
            there.network != server.network && observed.get(viewer.as_str()).is_some_and(Result::is_ok)
        });
        let (viewer, _) = viewers.next()?;
        Some((name, viewer.to_string()))
    });
    let asked = moved.map(|(name, viewer)| {
        let names = &names;
        async move {
            let place = topology.dials(&viewer, name).ok()?;
            let host = road
                .connect(cluster.servers.get(&viewer)?, QUESTION, false)
                .await
                .ok()?;
            let target = Target {
                name: name.clone(),
                address: place.ip(),
                port: place.port(),
            };
            let script = dialling::append(Script::new("dialling a server"), &[target], DIALLING, 1);
            let dialled = dialling::outcomes(&host.run_checked(&script).await.ok()?, DIALLING);
            if !matches!(dialled.get(name), Some(Dialled::Open(_))) {
                return None;
            }
            let stable: Vec<String> = names.keys().cloned().collect();
            let answers = member_at(&host, place, authorities.peer.trusted(), &stable, QUESTION).await?;
            let other = names.get(&answers).filter(|other| *other != name)?;
            Some((name.clone(), vec![Misplaced::AnsweredBy(place.ip(), other.clone())]))
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}
