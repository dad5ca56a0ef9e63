//! What a plan says of a cluster: every server's view, as far as addresses are known.

use std::collections::BTreeMap;

use super::{authorities, failure_domains, measured, model, renaming};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::value::Value;
use crate::topology::{ClusterName, Domain, ServerName, Topology, timing};

/// The founding of a cluster that needs its permits issued anew.
pub const STRANDED: &str = "stranded";
/// The founding of a cluster that has got its permits. Whether its members have used them, only its servers know: a refresh leaves it as it is,
/// so that the first one after a create finds nothing changed.
pub const PREPARED: &str = "prepared";
/// The founding of a cluster whose members hold their data.
pub use crate::resource::founded::FOUNDED;

/// The computed `members` for a topology: what each server will see.
pub fn members(topology: &Topology) -> Value {
    let members = topology
        .servers()
        .keys()
        .map(|server| (server.to_string(), member(topology, server)));
    Value::Map(members.collect())
}

fn member(topology: &Topology, server: &ServerName) -> Value {
    let view = topology.view(server).ok();
    let addresses: BTreeMap<String, Value> = view
        .iter()
        .flat_map(|view| &view.addresses)
        .map(|(name, address)| (name.to_string(), Value::from(address.to_string())))
        .collect();
    Value::object([
        ("peer_url", topology.peer_url(server).ok().into()),
        ("client_url", topology.client_url(server).ok().into()),
        ("addresses", addresses.into()),
        ("initial_cluster", view.map(|view| view.initial_cluster).into()),
    ])
}

/// Refines the plan of a cluster. `founded` is whether it is known to be founded.
pub fn refine(prior: &Value, mut planned: Value, config: &Value, founded: Option<bool>) -> (Value, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    if planned.get("domain").is_unknown() {
        let name = planned
            .get("name")
            .as_str()
            .and_then(|name| ClusterName::parse(name).ok());
        if let Some(name) = name {
            planned.set("domain", Domain::of_cluster(&name).as_str());
        }
    }
    let name = planned.get("name").clone();
    planned.set("id", name);
    let topology = model::topology(&planned, &Path::root(), &mut diagnostics);
    planned.set("members", topology.as_ref().map_or(Value::Unknown, members));
    let domains = topology.as_ref().map_or(Value::Unknown, failure_domains::value);
    planned.set("failure_domains", domains);
    if let Some(topology) = &topology {
        for warning in topology.failure_domains().warnings {
            diagnostics.push(
                Diagnostic::warning("This cluster is weaker than it looks", warning.to_string())
                    .at(Path::of("servers")),
            );
        }
    }
    if planned.at(&["tls", "enabled"]).as_bool() == Some(false) {
        diagnostics.push(
            Diagnostic::warning(
                "The cluster runs without TLS",
                "Whoever reaches the members' ports can read and change everything in it. Use this only where a \
                 network of your own protects every connection.",
            )
            .at(Path::of("tls").attribute("enabled")),
        );
    }
    authorities::refine(prior, &mut planned, &mut diagnostics);
    founding(prior, &mut planned, founded, &mut diagnostics);
    measured::refine(prior, &mut planned, config, topology.as_ref(), &mut diagnostics);
    if let Some(diagnostic) = timing(config) {
        diagnostics.push(diagnostic);
    }
    (planned, diagnostics)
}

fn founding(prior: &Value, planned: &mut Value, founded: Option<bool>, diagnostics: &mut Diagnostics) {
    let servers = planned.get("servers").as_map();
    let names = servers.map(|servers| {
        servers
            .keys()
            .map(|name| Value::from(name.as_str()))
            .collect::<Vec<_>>()
    });
    let names = names.map_or(Value::Unknown, Value::List);
    planned.set("adopted_from", prior.get("adopted_from").clone());
    if prior.is_null() {
        planned.set("founders", names);
        planned.set("founding", PREPARED);
        return;
    }
    let before = prior
        .get("servers")
        .as_map()
        .map(|servers| servers.keys().cloned().collect::<Vec<_>>());
    let after = planned
        .get("servers")
        .as_map()
        .map(|servers| servers.keys().cloned().collect::<Vec<_>>());
    // What may have been founded is not risked.
    if founded != Some(false) {
        diagnostics.append(refuse_refounding(prior, planned));
        if let (Some(before), Some(after)) = (&before, &after)
            && !before.iter().any(|name| after.contains(name))
        {
            diagnostics.push(nobody_stays(before, renaming::renames(prior, planned)));
        }
    }
    if founded != Some(true) && before != after {
        // Whether it was founded by now, and permits are issued for others, only its servers know.
        planned.set("founders", Value::Unknown);
        planned.set("founding", Value::Unknown);
    } else {
        planned.set("founders", prior.get("founders").clone());
        let state = prior.get("founding").as_str();
        planned.set(
            "founding",
            if state == Some(STRANDED) {
                PREPARED
            } else {
                state.unwrap_or(PREPARED)
            },
        );
    }
}

/// A change of what makes the cluster may write down that it is founded. Terraform plans again when it applies, in a process that has not refreshed:
/// what that one may not see is left open.
pub fn note_founded(prior: &Value, planned: &mut Value, founded: Option<bool>) {
    let before = prior.get("founding").as_str();
    if founded == Some(true)
        && before.is_some_and(|before| before != FOUNDED)
        && super::founded::is_at_stake(prior, planned)
    {
        planned.set("founding", Value::Unknown);
    }
}

/// Terraform destroys before it creates: the last of the old members would be gone before the first of the new ones comes.
fn nobody_stays(before: &[String], renames: bool) -> Diagnostic {
    let way = if renames {
        "Machines that stay get new names here: rename one server in each apply, while others keep theirs. If the cluster has one server \
         alone, add another one first."
    } else {
        "Add the new servers in one apply, and remove the old ones in the next."
    };
    let detail = format!(
        "None of its servers stays ({} would go), so nobody would be left to hand the data to those that come, and the cluster would end. \
         Nothing was changed. {way}",
        before.join(", ")
    );
    Diagnostic::error("A cluster can't change all its servers at once", detail).at(Path::of("servers"))
}

/// What makes a cluster another one would found that one on servers that hold the first one's data.
fn refuse_refounding(prior: &Value, planned: &Value) -> Diagnostics {
    let tls = |block: &Value| block.at(&["tls", "enabled"]).as_bool().unwrap_or(true);
    let text = |block: &Value, name: &str| block.get(name).as_str().map(str::to_owned);
    let changed = |name: &str| text(planned, name).is_some() && text(planned, name) != text(prior, name);
    let mut attributes: Vec<Path> = ["name", "token", "domain"]
        .into_iter()
        .filter(|name| changed(name))
        .map(Path::of)
        .collect();
    if tls(prior) != tls(planned) {
        attributes.push(Path::of("tls").attribute("enabled"));
    }
    let refuse = |path: Path| {
        let detail = format!(
            "Its members run and hold data. With another {path} it would be another cluster, and empty. Nothing was changed. Write {path} \
             as it was{before}. For another cluster beside it add another etcd_cluster, with its own name, servers and ports.",
            before = prior
                .get(&path.to_string())
                .as_str()
                .map_or_else(String::new, |before| format!(" ({before:?})")),
        );
        Diagnostic::error("A running cluster can't become another one", detail).at(path)
    };
    attributes.into_iter().map(refuse).collect()
}

/// etcd refuses to start with an election timeout below five heartbeats or above 50 s (etcd `embed/config.go`).
pub fn timing(config: &Value) -> Option<Diagnostic> {
    let longest = i64::from(timing::LONGEST_ELECTION_MS);
    let beats = i64::from(timing::HEARTBEATS_IN_ELECTION);
    // Where one is left open it follows the other, as far as etcd starts with it.
    let (heartbeat, election) = match (config.get("heartbeat_interval"), config.get("election_timeout")) {
        (Value::Null, Value::Null) => return None,
        // Terraform's numbers may be fractions, or larger than any that is counted here.
        (Value::Number(_), _) if config.get("heartbeat_interval").as_i64().is_none() => {
            return Some(not_whole("heartbeat_interval", longest / beats));
        }
        (_, Value::Number(_)) if config.get("election_timeout").as_i64().is_none() => {
            return Some(not_whole("election_timeout", longest));
        }
        (Value::Null, election) => ((election.as_i64()? / beats).max(1), election.as_i64()?),
        (heartbeat, Value::Null) => (heartbeat.as_i64()?, longest),
        (heartbeat, election) => (heartbeat.as_i64()?, election.as_i64()?),
    };
    let problem = if heartbeat < 1 {
        (
            "heartbeat_interval",
            format!("{heartbeat} ms is too short: it has to be 1 at least."),
        )
    } else if heartbeat > longest / beats {
        let text = format!("{heartbeat} ms is too long: it has to be {} at most.", longest / beats);
        ("heartbeat_interval", text)
    } else if election < beats * heartbeat {
        let least = beats * heartbeat;
        let text = format!(
            "{election} ms is too short for a heartbeat_interval of {heartbeat} ms: etcd wants {least} at least, and ten \
             times the longest round trip between members is a good value."
        );
        ("election_timeout", text)
    } else if election > longest {
        (
            "election_timeout",
            format!("{election} ms is too long: etcd accepts {longest} at most."),
        )
    } else {
        return None;
    };
    Some(Diagnostic::error(format!("Invalid {}", problem.0), problem.1).at(Path::of(problem.0)))
}

fn not_whole(attribute: &str, longest: i64) -> Diagnostic {
    let text = format!("It has to be a whole number of ms, {longest} at most.");
    Diagnostic::error(format!("Invalid {attribute}"), text).at(Path::of(attribute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_servers_at_once_are_refused() {
        let cluster = |servers: &[&str]| {
            let servers = servers.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
            Value::object([("servers", Value::Map(servers)), ("founding", FOUNDED.into())])
        };
        let refused = |before: &[&str], after: &[&str]| {
            let mut diagnostics = Diagnostics::new();
            founding(&cluster(before), &mut cluster(after), Some(true), &mut diagnostics);
            diagnostics.has_errors()
        };
        assert!(refused(&["a"], &["b"]));
        assert!(refused(&["a", "b", "c"], &["d", "e", "f"]));
        assert!(!refused(&["a", "b", "c"], &["c", "d", "e"]));
        assert!(!refused(&["a"], &["a", "b"]));
    }

    #[test]
    fn a_state_from_before_the_founding_is_left_as_it_is() {
        let cluster = |name: &str, servers: &[&str]| {
            let servers = servers.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
            Value::object([
                ("name", name.into()),
                ("servers", Value::Map(servers)),
                ("founding", PREPARED.into()),
                ("founders", Value::List(vec!["a".into(), "b".into()])),
                ("adopted_from", Value::Null),
            ])
        };
        let planned = |after: Value, founded| {
            let (before, mut after) = (cluster("main", &["a", "b"]), after);
            let mut diagnostics = Diagnostics::new();
            founding(&before, &mut after, founded, &mut diagnostics);
            note_founded(&before, &mut after, founded);
            (after.get("founding").clone(), diagnostics.has_errors())
        };
        let same = || cluster("main", &["a", "b"]);
        let grown = || cluster("main", &["a", "b", "c"]);
        for founded in [Some(true), Some(false), None] {
            assert_eq!(planned(same(), founded), (PREPARED.into(), false), "nothing changes");
        }
        assert_eq!(planned(grown(), Some(true)), (Value::Unknown, false));
        assert_eq!(planned(grown(), Some(false)), (Value::Unknown, false));
        assert_eq!(planned(grown(), None), (Value::Unknown, false));
        // What is not known to be empty is taken to be founded.
        let refused = |founded| planned(cluster("other", &["a", "b"]), founded).1;
        assert_eq!([Some(true), None, Some(false)].map(refused), [true, true, false]);
    }

    #[test]
    fn timings_that_etcd_refuses_are_named() {
        let config = |heartbeat: i64, election: i64| {
            Value::object([
                ("heartbeat_interval", heartbeat.into()),
                ("election_timeout", election.into()),
            ])
        };
        assert!(timing(&config(100, 1000)).is_none());
        assert_eq!(
            timing(&config(300, 1000)).unwrap().path,
            Some(Path::of("election_timeout"))
        );
        assert!(timing(&config(100, 60_000)).unwrap().detail.contains("50000 at most"));
        assert!(timing(&config(0, 1000)).unwrap().detail.contains("too short"));
    }
}
