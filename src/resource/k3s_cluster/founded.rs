//! Whether a k3s cluster was founded. Its state may be from before: a create ends before its servers start.

use super::{K3sClusterResource, READ, to_model};
use crate::membership::k3s::known;
use crate::plugin::value::Value;
use crate::resource::cluster::servers::on_each;
use crate::resource::founded;
use crate::resource::k3s::observe;

impl K3sClusterResource {
    /// Whether the cluster of a state was founded, as far as this run has seen its servers.
    pub(super) fn seen_founded(&self, prior: &Value) -> Option<bool> {
        founded::seen_founded(&self.road, prior, "id")
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
        let cluster = &to_model(prior).ok()?;
        let observed = on_each(&self.road, &cluster.servers, READ, false, |_, host| async move {
            observe::observe(&host, cluster).await
        });
        let founded = known(&observe::seen(&observed.await));
        if let Some(founded) = founded {
            self.road.session(cluster.id()).saw_founded(founded);
        }
        founded
    }
}

/// Whether a plan changes anything that hangs on whether the cluster is founded.
pub(super) fn is_at_stake(prior: &Value, planned: &Value) -> bool {
    let changed = |name: &&str| prior.get(name) != planned.get(name);
    ["name", "token", "datastore", "servers"].iter().any(changed)
}
