//! What is looked at, and when: the attribute `preflight`.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::plugin::schema::Attribute;
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::plan::STRANDED;
use crate::resource::server::model::is_elsewhere;

/// The attribute `preflight`: what is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PreflightModel {
    /// Whether servers dial each other.
    pub peer_ports: Option<bool>,
    /// Whether the ports of members have to be free.
    pub ports: Option<bool>,
    /// Whether clocks are compared.
    pub clock: Option<bool>,
    /// Whether disks are measured.
    pub disk: Option<bool>,
    /// Whether larger messages have to arrive.
    pub mtu: Option<bool>,
    /// Whether round trips and losses are judged, and etcd's timing follows from them.
    pub round_trips: Option<bool>,
    /// Where the data will be.
    pub data_dir: Option<String>,
}

/// Its schema.
pub fn attribute() -> Attribute {
    let check = |name, description| Attribute::bool(name).describe(description);
    Attribute::object(
        "preflight",
        vec![
            check(
                "peer_ports",
                "Whether every server tries to reach every other one's peer port, as its member will. Without it `mtu` and \
                 `round_trips` are not looked at either. Default: true.",
            ),
            check(
                "ports",
                "Whether the peer port and the client port have to be free. Default: true.",
            ),
            check(
                "clock",
                "Whether clocks are compared: more than 1 s off is a warning, more than 10 s an error. Default: true.",
            ),
            check(
                "disk",
                "Whether the disk of the data is looked at: less than 256 MiB free or synchronous writes above 100 ms are errors, less \
                 than 2 GiB or above 10 ms warnings. Default: true.",
            ),
            check(
                "mtu",
                "Whether larger messages have to get through in both directions. Default: true.",
            ),
            check(
                "round_trips",
                "Whether long round trips (150 ms) and lost packets (0.5%) are warned about, and `heartbeat_interval` and \
                 `election_timeout` follow from what is measured. Default: true.",
            ),
            Attribute::string("data_dir").describe(
                "Where the members' data will be, if they have a `data_dir` of their own. Default: `/var/lib/etcd/<cluster>`.",
            ),
        ],
    )
    .describe("What is looked at on new servers before anything is changed; every check can be switched off.")
}

impl PreflightModel {
    /// What a configuration or a plan says of it.
    pub fn of(block: &Value) -> Self {
        from_value(&block.get("preflight").unknown_as_null()).unwrap_or_default()
    }

    /// Whether servers dial each other.
    pub fn dials(&self) -> bool {
        self.peer_ports.unwrap_or(true)
    }

    /// Whether what is measured decides on etcd's timing.
    pub fn times(&self) -> bool {
        self.dials() && self.round_trips.unwrap_or(true)
    }
}

/// The servers whose members are to listen for peers at another port than before.
pub fn at_another_port(prior: &Value, planned: &Value) -> BTreeSet<String> {
    let servers = planned.get("servers").as_map().into_iter().flatten();
    let moved = servers.filter(|(name, server)| {
        let before = prior.at(&["servers", name]);
        let port = |block: &Value| block.get("peer_port").as_i64();
        !before.is_null() && !is_elsewhere(before, server) && port(before) != port(server)
    });
    moved.map(|(name, _)| name.clone()).collect()
}

/// The servers that a plan needs a preflight for: all of them where the cluster is to be founded, else those that come. `None` while
/// that is not known.
pub fn fresh(prior: &Value, planned: &Value) -> Option<BTreeSet<String>> {
    let servers = planned.get("servers").as_map()?;
    let founds = prior.is_null() || prior.get("founding").as_str() == Some(STRANDED);
    let fresh = servers.iter().filter(|(name, server)| {
        let before = prior.at(&["servers", name]);
        founds || before.is_null() || is_elsewhere(before, server)
    });
    Some(fresh.map(|(name, _)| name.clone()).collect())
}
