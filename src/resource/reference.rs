//! The attribute `cluster` of what belongs to a cluster: the whole object, which Terraform does not store, and the text that shows its changes.

use crate::plugin::schema::{Attribute, Remembered};

/// The text that shows a change of `cluster`.
pub const REVISION: &str = "cluster_revision";
/// What an older version's state had of `cluster`.
pub const CARRIED_OVER: &str = "cluster_carried_over";

const NEXT_TO_IT: Remembered = Remembered {
    revision: REVISION,
    carried: CARRIED_OVER,
};

/// The attributes of a resource, of which `cluster` is remembered outside of plans, with those that belong to it.
pub fn remember_cluster(attributes: Vec<Attribute>) -> Vec<Attribute> {
    let remember = |one: Attribute| {
        if one.name == "cluster" {
            one.remembered(NEXT_TO_IT)
        } else {
            one
        }
    };
    let next = [
        Attribute::string(NEXT_TO_IT.revision).computed().use_state().describe(
            "`cluster` as a plan shows it: its name, its number of servers, and a digest of the object.",
        ),
        Attribute::string(NEXT_TO_IT.carried).computed().sensitive().describe(
            "The value of `cluster` in a state of an older version of the provider, until the next refresh. Null otherwise.",
        ),
    ];
    attributes.into_iter().map(remember).chain(next).collect()
}
