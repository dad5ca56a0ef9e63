//! Whether a cluster was founded. Its state may be from before: a create ends before its members start.

use std::collections::BTreeMap;

use super::model::{self, ClusterModel};
use super::servers::{Each, Observation, observe, on_each, seen};
use super::{ClusterResource, READ, to_model};
use crate::membership::founding::known;
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::path::Path;
use crate::plugin::value::Value;
use crate::resource::founded;
use crate::topology::Topology;

impl ClusterResource {
    /// Whether the cluster of a state was founded, as far as this run has seen its servers.
    pub(super) fn seen_founded(&self, prior: &Value) -> Option<bool> {
        founded::seen_founded(&self.road, prior, "token")
    }

    /// The same for a plan. The servers are asked if it may hang on that. `None` if they don't say.
    pub(super) async fn founded_for(&self, prior: &Value, planned: &Value) -> Option<bool> {
        match self.seen_founded(prior) {
            None if is_at_stake(prior, planned) => self.founded(prior).await,
            seen => seen,
        }
    }

    /// The same for a change. The servers are asked, unless it is known that they have founded it: another run may have.
    pub(super) async fn founded(&self, prior: &Value) -> Option<bool> {
        if let Some(true) = self.seen_founded(prior) {
            return Some(true);
        }
        if prior.is_null() {
            return Some(false);
        }
        let cluster = to_model(prior).ok()?;
        let topology = model::topology(prior, &Path::root(), &mut Diagnostics::new())?;
        let servers = seen(&self.observed(&cluster, &topology).await);
        let founded = known(cluster.token(), &cluster.founders(), &servers);
        if let Some(founded) = founded {
            self.road.session(cluster.token()).saw_founded(founded);
        }
        founded
    }

    /// What the servers of a cluster hold now.
    pub(super) async fn observed(&self, cluster: &ClusterModel, topology: &Topology) -> Each<Observation> {
        let observed = on_each(&self.road, &cluster.servers, READ, false, |name, host| async move {
            observe(&host, topology, name, None).await
        });
        observed.await.into_iter().collect::<BTreeMap<_, _>>()
    }
}

/// Whether a plan changes anything that hangs on whether the cluster is founded.
pub(super) fn is_at_stake(prior: &Value, planned: &Value) -> bool {
    let changed = |name: &&str| prior.get(name) != planned.get(name);
    ["name", "token", "domain", "tls", "servers", "restore"]
        .iter()
        .any(changed)
}
