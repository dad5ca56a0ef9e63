//! What is on a server of a k3s cluster, seen with one script.

use std::collections::BTreeMap;

use super::model::K3sClusterModel;
use crate::host::{Host, Output, RunError, Script, said};
use crate::membership::k3s::{Data, Holding, Seen};
use crate::membership::whereabouts::Machine;
use crate::resource::cluster::servers::Each;
use crate::resource::whereabouts;
use crate::topology::{ClusterName, translation};

/// What one server has.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// For the decisions.
    pub holding: Holding,
    /// Its rules, if it has any and they are in force.
    pub rules: Option<String>,
    /// Data of a former k3s, which was set aside.
    pub aside: Vec<String>,
    /// Its options, as this provider wrote them.
    pub options: Option<String>,
    /// The machine that answered.
    pub machine: Machine,
}

/// The script that observes.
pub fn script(cluster: &K3sClusterModel) -> Script {
    let table = ClusterName::parse(&cluster.name).map(|name| translation::table_name(&name));
    Script::new("observing the server")
        .set("cluster", &cluster.name)
        .set("table", table.unwrap_or_default())
        .line(include_str!("observe.sh"))
        .line(whereabouts::SCRIPT)
}

/// Observes one server. Changes nothing.
///
/// # Errors
/// If the script can't run.
pub async fn observe(host: &Host, cluster: &K3sClusterModel) -> Result<Observation, RunError> {
    Ok(observation(&host.run_checked(&script(cluster)).await?, cluster))
}

/// What the script said.
pub fn observation(output: &Output, cluster: &K3sClusterModel) -> Observation {
    let data = match (cluster.datastore.is_some(), output.value("data")) {
        (_, None) | (true, _) => Data::Empty,
        (false, Some("etcd")) => Data::Etcd,
        (false, Some("removed")) => Data::Removed,
        (false, Some(other)) => Data::Other(other.to_owned()),
    };
    let state = output.value("unit-ActiveState").unwrap_or("inactive");
    let rules = output.text("rules").filter(|_| output.value("in-force").is_some());
    Observation {
        holding: Holding {
            id: output.value("id").map(str::to_owned),
            permit: output.value("permit").is_some(),
            founded: output.value("founded").is_some_and(|id| id == cluster.id()),
            data,
            runs: state != "inactive" && state != "failed",
            foreign: output.value("foreign").map(str::to_owned),
            lacks: output
                .values("lacks")
                .next()
                .filter(|_| cluster.datastore.is_none())
                .map(lacking),
        },
        rules: rules.map(str::to_owned),
        aside: output.values("aside").map(str::to_owned).collect(),
        options: output.text("options").map(str::to_owned),
        machine: whereabouts::machine(output, |name| Some(said::name(name))),
    }
}

fn lacking(what: &str) -> String {
    match what.split_once(' ') {
        Some(("kernel", why)) => format!(
            "has a kernel that does not take rules for translating addresses (nft said: {why}). k3s' own etcd can't span networks there; \
             load nf_tables and nft_nat, or use another kernel"
        ),
        _ => format!(
            "has no program {what}, which translating addresses needs. Install it (packages nftables and iproute2)"
        ),
    }
}

/// What the decisions need to know of all servers.
pub fn seen(observations: &Each<Observation>) -> BTreeMap<String, Seen> {
    let seen = observations.iter().map(|(name, outcome)| {
        let seen = match outcome {
            Ok(observation) => Seen::Reached(observation.holding.clone()),
            Err(error) => Seen::Unreached(error.to_string()),
        };
        (name.clone(), seen)
    });
    seen.collect()
}
