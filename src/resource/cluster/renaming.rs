//! Names that change machines in a plan. Members are deleted before the cluster's update could refuse, so this is asked while the plan is made:
//! a name that is given to the machine of another member is refused there. A new name for the machine of a name that leaves is done: the
//! old member leaves, and the new one joins.

use std::collections::BTreeMap;

use futures::future::join_all;

use super::clearing::Before;
use super::servers::observe;
use crate::membership::whereabouts::Misplaced;
use crate::plugin::diagnostics::Diagnostic;
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::model::ClusterModel;
use crate::resource::road::Road;
use crate::resource::server::model::{ServerModel, is_at};
use crate::resource::whereabouts;

/// How long a plan waits for a machine that may hold another name's member.
const QUESTION: std::time::Duration = std::time::Duration::from_secs(10);

/// The names that a plan gives to places where other names were, with those: as far as the plan knows. A machine whose name leaves may get
/// a new one.
pub fn shifted(prior: &Value, planned: &Value) -> BTreeMap<String, String> {
    let (Some(before), Some(after)) = (prior.get("servers").as_map(), planned.get("servers").as_map()) else {
        return BTreeMap::new();
    };
    let mut shifted = BTreeMap::new();
    for (name, server) in after {
        let own = before.get(name);
        if own.is_some_and(|own| is_at(own, server)) {
            continue;
        }
        let there = before
            .iter()
            .find(|(other, there)| *other != name && is_at(there, server));
        if let Some((other, _)) = there
            && (own.is_some() || after.contains_key(other))
        {
            shifted.insert(name.clone(), other.clone());
        }
    }
    shifted
}

/// Whether a plan gives a new name to a machine.
pub fn renames(prior: &Value, planned: &Value) -> bool {
    let (Some(before), Some(after)) = (prior.get("servers").as_map(), planned.get("servers").as_map()) else {
        return false;
    };
    let mut new = after.iter().filter(|(name, _)| !before.contains_key(*name));
    new.any(|(_, server)| before.values().any(|there| is_at(there, server)))
}

/// Asks the machines at those places, by the keys that are pinned for them, whether they hold the members of their former names.
pub async fn refuse(road: &Road, prior: &Value, planned: &Value) -> Option<Diagnostic> {
    let shifted = shifted(prior, planned);
    if shifted.is_empty() {
        return None;
    }
    let before = Before::of(prior, false).filter(|before| before.founded)?;
    let asked = shifted.into_iter().map(|(name, other)| {
        let before = &before;
        async move {
            let member = holds(road, &before.cluster, before, &other).await?;
            (member == other).then(|| (name, vec![Misplaced::OtherMember(other)]))
        }
    });
    let wrong: BTreeMap<String, Vec<Misplaced>> = join_all(asked).await.into_iter().flatten().collect();
    if wrong.is_empty() {
        return None;
    }
    Some(whereabouts::refusal(&before.cluster.name, &wrong, &models(planned)))
}

/// The servers of a plan, as far as they are known.
pub fn models(planned: &Value) -> BTreeMap<String, ServerModel> {
    let servers = planned.get("servers").as_map().into_iter().flatten();
    let known = servers.filter_map(|(name, server)| {
        let model = from_value::<ServerModel>(&server.unknown_as_null()).ok()?;
        Some((name.clone(), model))
    });
    known.collect()
}

/// The member that the machine of a server holds, as the state has that server.
async fn holds(road: &Road, cluster: &ClusterModel, before: &Before, name: &str) -> Option<String> {
    let host = road.connect(cluster.servers.get(name)?, QUESTION, false).await.ok()?;
    let mut seen = observe(&host, &before.topology, name, None).await.ok()?;
    seen.compare_token(cluster.token());
    seen.machine.member
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers by name and the last part of their address.
    fn cluster(servers: &[(&str, u8)]) -> Value {
        let server = |(name, place): &(&str, u8)| {
            let address = format!("10.0.0.{place}");
            (
                (*name).to_owned(),
                Value::object([("network", "A".into()), ("private_address", address.into())]),
            )
        };
        Value::object([("servers", Value::Map(servers.iter().map(server).collect()))])
    }

    fn names(before: &[(&str, u8)], after: &[(&str, u8)]) -> Vec<(String, String)> {
        shifted(&cluster(before), &cluster(after)).into_iter().collect()
    }

    #[test]
    fn the_first_of_a_count_that_is_taken_out_shifts_the_names_of_all() {
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        let before = [("s0", 10), ("s1", 11), ("s2", 12)];
        assert_eq!(
            names(&before, &[("s0", 11), ("s1", 12)]),
            [pair("s0", "s1"), pair("s1", "s2")]
        );
        assert_eq!(
            names(&before, &[("s0", 11), ("s1", 10), ("s2", 12)]),
            [pair("s0", "s1"), pair("s1", "s0")]
        );
        // A second name for a machine that keeps its first one.
        assert_eq!(
            names(&before, &[("s0", 10), ("s1", 11), ("s2", 12), ("t", 11)]),
            [pair("t", "s1")]
        );
    }

    #[test]
    fn a_name_that_leaves_and_machines_that_come_shift_nothing() {
        let before = [("s0", 10), ("s1", 11), ("s2", 12)];
        assert_eq!(names(&before, &[("s1", 11), ("s2", 12)]), []);
        assert_eq!(names(&before, &[("s0", 10), ("s1", 11), ("t", 12)]), []);
        assert!(renames(
            &cluster(&before),
            &cluster(&[("s0", 10), ("s1", 11), ("t", 12)])
        ));
        assert_eq!(names(&before, &[("s0", 10), ("s1", 21), ("s2", 12), ("t", 13)]), []);
        assert!(!renames(
            &cluster(&before),
            &cluster(&[("s0", 10), ("s1", 21), ("t", 13)])
        ));
    }
}
