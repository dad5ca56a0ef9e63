//! Which directed pairs of members are connected. A cluster can look healthy while one direction is dead, so
//! every member is asked about every other.

use std::collections::{BTreeMap, BTreeSet};

/// What one member says about its connections: the names of the members that it reaches.
pub type Reached = BTreeSet<String>;

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
    fn one_dead_direction_is_named() {
        let members = ["a1", "b1"].map(str::to_owned).to_vec();
        let seen = BTreeMap::from([
            ("a1".to_owned(), Reached::from(["b1".to_owned()])),
            ("b1".to_owned(), Reached::new()),
        ]);
        assert_eq!(missing(&members, &seen), [("b1".to_owned(), "a1".to_owned())]);
    }
}
