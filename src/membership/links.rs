//! Which directed pairs of members are connected. A cluster can look healthy while one direction is dead, so
//! every member is asked about every other.

use std::collections::{BTreeMap, BTreeSet};

/// What one member says about its connections: the names of the members that it reaches.
pub type Reached = BTreeSet<String>;

/// What the members say, with names for the IDs of those they reach. An ID without a name is left out.
pub fn by_name(active: &BTreeMap<String, BTreeSet<u64>>, names: &BTreeMap<u64, String>) -> BTreeMap<String, Reached> {
    let named = |ids: &BTreeSet<u64>| ids.iter().filter_map(|id| names.get(id).cloned()).collect();
    active.iter().map(|(from, ids)| (from.clone(), named(ids))).collect()
}

/// The directed pairs (from, to) that are not connected, of those among `members`. A member that could not be
/// asked (not in `seen`) counts as reaching nobody.
pub fn missing(members: &[String], seen: &BTreeMap<String, Reached>) -> Vec<(String, String)> {
    let nobody = Reached::new();
    members
        .iter()
        .flat_map(|from| {
            let reached = seen.get(from).unwrap_or(&nobody);
            members
                .iter()
                .filter(move |to| *to != from && !reached.contains(*to))
                .map(|to| (from.clone(), to.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_get_their_names() {
        let active = BTreeMap::from([("a1".to_owned(), BTreeSet::from([2, 9]))]);
        let names = BTreeMap::from([(1, "a1".to_owned()), (2, "b1".to_owned())]);
        let named = BTreeMap::from([("a1".to_owned(), Reached::from(["b1".to_owned()]))]);
        assert_eq!(by_name(&active, &names), named);
    }

    #[test]
    fn one_dead_direction_is_named() {
        let members = ["a1", "b1"].map(str::to_owned).to_vec();
        let seen = BTreeMap::from([
            ("a1".to_owned(), Reached::from(["b1".to_owned()])),
            ("b1".to_owned(), Reached::new()),
        ]);
        assert_eq!(missing(&members, &seen), [("b1".to_owned(), "a1".to_owned())]);
    }
}
