//! What a plan says about options that all servers of a k3s cluster must have alike.

use std::collections::BTreeMap;

use super::Whole;
use super::model::shared;
use crate::membership::k3s::shared::{Difference, Shared};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::k3s::model::K3sClusterModel;
use crate::resource::road::Road;

/// Where the configuration has an option, or would have it.
pub fn place(config: Option<&BTreeMap<String, String>>, option: &str) -> Path {
    let at = Path::of("config");
    match config.is_some_and(|config| config.contains_key(option)) {
        true => at.key(option),
        false => at,
    }
}

/// Compares what is planned with what was before, and with what is planned for the other servers.
pub fn check(road: &Road, before: Option<&Whole>, now: &Whole) -> Diagnostics {
    let own = shared(&now.configuration);
    let others = road.alike(&key(&now.server.cluster), &now.server.server, &own);
    compare(
        &now.server.server,
        now.server.config.as_ref(),
        &own,
        before.map(|before| shared(&before.configuration)).as_ref(),
        &others,
    )
}

/// What sets the cluster apart from others in plans, also before it has an ID.
fn key(cluster: &K3sClusterModel) -> String {
    let addresses = cluster.servers.values().map(|server| {
        let public = server.public_address.as_deref().unwrap_or_default();
        format!("{}|{public}", server.private_address)
    });
    match cluster.id() {
        "" => format!("{} {}", cluster.name, addresses.collect::<Vec<_>>().join(" ")),
        id => id.to_owned(),
    }
}

fn compare(
    server: &str,
    config: Option<&BTreeMap<String, String>>,
    own: &Shared,
    before: Option<&Shared>,
    others: &BTreeMap<String, Shared>,
) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let at = |difference: &Difference| place(config, difference.option);
    for one in before.map(|before| own.impossible(before)).into_iter().flatten() {
        let detail = format!(
            "On server {server} {one}, with which the cluster was made. Addresses of pods and services, names and tokens follow from it, and no \
             restart changes those. Write what it was. Another one needs another cluster, on other servers."
        );
        diagnostics
            .push(Diagnostic::error(format!("{} of a k3s cluster can't be changed", one.option), detail).at(at(&one)));
    }
    if let Some((other, differences)) = { others.iter() }
        .map(|(other, theirs)| (other, own.differences(theirs)))
        .find(|(_, differences)| !differences.is_empty())
    {
        for one in differences {
            let detail = format!(
                "On server {server} {one} as on server {other}. All servers of a k3s cluster must have it alike: k3s has no server join that \
                 differs, and does not say so of those that are in."
            );
            let summary = format!("k3s servers {other} and {server} differ in {}", one.option);
            diagnostics.push(Diagnostic::error(summary, detail).at(at(&one)));
        }
    }
    for one in before.map(|before| own.differences(before)).into_iter().flatten() {
        let warning = match one.option {
            "flannel-backend" => {
                "The servers' k3s is restarted, one at a time. Pods on servers with the one and with the other do not reach each other \
                 meanwhile; agents have to be restarted too, and what the former one left on a machine goes with a reboot."
            }
            "secrets-encryption" if one.own == "false" => {
                "k3s can't read secrets that are encrypted still. First run `k3s secrets-encrypt disable` and what belongs to it, as k3s' \
                 own documentation has it, and apply this then."
            }
            _ => continue,
        };
        let summary = format!("{} is changed", one.option);
        let detail = format!("On server {server} {one} any more. {warning}");
        diagnostics.push(Diagnostic::warning(summary, detail).at(at(&one)));
    }
    diagnostics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_where_they_are_written() {
        let config = |option: &str, value: &str| BTreeMap::from([(option.to_owned(), value.to_owned())]);
        let of = |config: &BTreeMap<String, String>| {
            let options = { config.iter() }.map(|(name, value)| (name.clone(), vec![value.clone()]));
            Shared::of(&options.collect())
        };
        let nothing = of(&BTreeMap::new());
        let others = BTreeMap::from([("a1".to_owned(), nothing.clone())]);

        let changed = config("service-cidr", "10.96.0.0/16");
        let said = compare("b1", Some(&changed), &of(&changed), Some(&nothing), &BTreeMap::new());
        let said: Vec<&Diagnostic> = said.iter().collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].path, Some(Path::of("config").key("service-cidr")));

        let differs = config("flannel-backend", "host-gw");
        let said = compare("b1", Some(&differs), &of(&differs), None, &others);
        assert!(said.has_errors() && said.iter().count() == 1);
        // Who is planned later has not written it.
        let said = compare(
            "b1",
            None,
            &nothing,
            None,
            &BTreeMap::from([("a1".to_owned(), of(&differs))]),
        );
        assert!(said.has_errors() && said.iter().all(|one| one.path == Some(Path::of("config"))));

        let said = compare("b1", Some(&differs), &of(&differs), Some(&nothing), &BTreeMap::new());
        assert!(!said.has_errors() && said.iter().count() == 1, "a warning");
        assert!(compare("b1", None, &nothing, Some(&nothing), &others).is_empty());
    }
}
