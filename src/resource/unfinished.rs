//! What a cluster's state says after an update that failed half-way: what is so. A server that was not written to has what it had, and one
//! that the cluster could not be taken off is still the cluster's. The next plan shows both.

use std::collections::{BTreeMap, BTreeSet};

use crate::plugin::value::Value;

/// Puts what was not done back into the state. `unwritten` are servers that were not written to, `kept` those that did not leave.
/// `by_server` are the attributes that have one entry for each server.
pub fn put_back(
    state: &mut Value,
    prior: &Value,
    by_server: &[&str],
    unwritten: &BTreeSet<String>,
    kept: &BTreeSet<String>,
) {
    let names = |attribute: &&str| {
        let names = kept.iter().chain(unwritten.iter().filter(|_| *attribute != "servers"));
        names.cloned().collect::<BTreeSet<String>>()
    };
    for attribute in by_server.iter().chain(&["servers"]) {
        let Some(now) = state.get(attribute).as_map() else {
            continue;
        };
        let mut now: BTreeMap<String, Value> = now.clone();
        for name in names(attribute) {
            let before = prior.at(&[attribute, &name]).clone();
            match before {
                Value::Null => drop(now.remove(&name)),
                before => drop(now.insert(name, before)),
            }
        }
        state.set(attribute, now);
    }
}

#[cfg(test)]
mod failing;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 5] = ["a1", "b1", "c1", "d1", "e1"];

    fn some() -> impl Strategy<Value = BTreeSet<String>> {
        proptest::sample::subsequence(NAMES.to_vec(), 0..=NAMES.len())
            .prop_map(|names| names.into_iter().map(str::to_owned).collect())
    }

    /// A state of these servers in which everything is as one apply made it.
    fn state(servers: &BTreeSet<String>, apply: &str) -> Value {
        let of = |what: &str| {
            let entries = servers
                .iter()
                .map(|name| (name.clone(), format!("{what} of {name}, {apply}").into()));
            Value::Map(entries.collect())
        };
        Value::object([
            ("servers", of("address")),
            ("members", of("view")),
            ("token", "t".into()),
        ])
    }

    proptest! {
        /// Whatever failed, the state has the former entry of what was not done, and the new one of what was.
        #[test]
        fn a_failed_update_keeps_what_was_not_done(before in some(), after in some(), failed in some(), refused in some()) {
            let (prior, planned) = (state(&before, "before"), state(&after, "after"));
            let kept: BTreeSet<String> = before.difference(&after).filter(|name| refused.contains(*name)).cloned().collect();
            let unwritten: BTreeSet<String> = after.intersection(&failed).cloned().collect();
            let mut state = planned.clone();
            put_back(&mut state, &prior, &["members"], &unwritten, &kept);
            for name in NAMES {
                let at = |block: &Value, attribute: &str| block.at(&[attribute, name]).clone();
                let left = before.contains(name) && !after.contains(name);
                for attribute in ["servers", "members"] {
                    let expected = if (left && refused.contains(name)) || (attribute == "members" && unwritten.contains(name)) {
                        at(&prior, attribute)
                    } else {
                        at(&planned, attribute)
                    };
                    prop_assert_eq!(at(&state, attribute), expected, "{} of {}", attribute, name);
                }
            }
            prop_assert_eq!(state.get("token"), planned.get("token"));
        }
    }
}
