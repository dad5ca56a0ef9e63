//! The attribute `failure_domains`: what the cluster stands, if every server runs a voting member.

use crate::plugin::schema::{Attribute, Type};
use crate::plugin::value::Value;
use crate::topology::{NetworkName, Topology};

/// Its schema.
pub fn attribute() -> Attribute {
    let number = |name, description| Attribute::number(name).computed().describe(description);
    let networks = |name, description| Attribute::list(name, Type::String).computed().describe(description);
    Attribute::object(
        "failure_domains",
        vec![
            number("voters", "How many members vote."),
            number("quorum", "How many of them have to be there to write."),
            number("failures_tolerated", "How many servers may be lost."),
            networks(
                "expendable_networks",
                "The networks that may be lost, one at a time, with a quorum left.",
            ),
            networks("critical_networks", "The networks without which there is no quorum."),
        ],
    )
    .computed()
    .use_state()
    .describe("What it stands, when all its members run.")
}

/// Its value.
pub fn value(topology: &Topology) -> Value {
    let domains = topology.failure_domains();
    let number = |count: usize| Value::from(i64::try_from(count).unwrap_or(i64::MAX));
    let networks = |names: &[NetworkName]| Value::List(names.iter().map(|name| name.as_str().into()).collect());
    Value::object([
        ("voters", number(domains.voters)),
        ("quorum", number(domains.quorum)),
        (
            "failures_tolerated",
            number(domains.voters.saturating_sub(domains.quorum)),
        ),
        ("expendable_networks", networks(&domains.expendable)),
        ("critical_networks", networks(&domains.critical)),
    ])
}
