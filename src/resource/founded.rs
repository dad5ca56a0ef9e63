//! Whether a cluster was founded, as the blocks of etcd and of k3s have it in common. The state of a cluster may be from before: a create ends
//! before its members start.

use super::road::Road;
use crate::plugin::value::Value;

/// The attribute `founding` of a cluster whose members hold their data.
pub const FOUNDED: &str = "founded";

/// Whether the cluster of a state was founded, as far as this run has seen its servers. `identity` is the attribute that tells it from others.
pub fn seen_founded(road: &Road, prior: &Value, identity: &str) -> Option<bool> {
    match prior.get("founding").as_str() {
        _ if prior.is_null() => Some(false),
        Some(FOUNDED) => Some(true),
        _ => road.session(prior.get(identity).as_str()?).is_founded(),
    }
}

/// A state with what is known of its founding by now. A cluster that may have been founded counts as founded.
pub fn as_known(prior: &Value, founded: Option<bool>) -> Value {
    let mut known = prior.clone();
    if !prior.is_null() && founded != Some(false) {
        known.set("founding", FOUNDED);
    }
    known
}
