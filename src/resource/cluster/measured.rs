//! What preflights measured between the servers, and what follows from it: etcd's timing, and addresses that nobody gave.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::preflight::{PreflightModel, fresh};
use crate::membership::preflight::{Findings, Outcome, percent};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Type};
use crate::plugin::value::{Number, Value};
use crate::topology::{Timing, Topology, timing};

/// The attributes `measured` and `source_addresses`.
pub fn attributes() -> Vec<Attribute> {
    vec![
        Attribute::object(
            "measured",
            vec![
                Attribute::number("longest_round_trip_ms")
                    .computed()
                    .describe("The longest round trip between two servers, in ms."),
                Attribute::list_of(
                    "links",
                    vec![
                        Attribute::string("from").computed().describe("The server that dialled."),
                        Attribute::string("to").computed().describe("The server that was dialled."),
                        Attribute::string("address").computed().describe("Where: address and port."),
                        Attribute::string("source_address").computed().describe(
                            "The address that it came from, as the other one saw it. Null where that runs etcd already.",
                        ),
                        Attribute::number("round_trip_ms").computed().describe("A round trip, in ms."),
                        Attribute::number("loss_percent")
                            .computed()
                            .describe("How many of a hundred packets were lost, of a few dozen."),
                    ],
                )
                .computed()
                .describe("Every directed pair that was tried."),
            ],
        )
        .computed()
        .use_state()
        .describe("What the preflight measured when servers came. Null where nothing was."),
        Attribute::map("source_addresses", Type::List(Box::new(Type::String)))
            .computed()
            .use_state()
            .describe(
                "By server: addresses that others saw it come from and that are none of its own, which is the doing of a NAT. Only etcd \
                 3.4 needs them, as `egress_addresses`.",
            ),
    ]
}

/// Plans both, and the timing: unknown as far as a preflight will tell.
pub fn refine(
    prior: &Value,
    planned: &mut Value,
    config: &Value,
    topology: Option<&Topology>,
    diagnostics: &mut Diagnostics,
) {
    let checks = PreflightModel::of(planned);
    let fresh = fresh(prior, planned);
    let alone = planned.get("servers").as_map().is_some_and(|servers| servers.len() < 2);
    let dials = checks.dials() && !alone && fresh.as_ref().is_none_or(|fresh| !fresh.is_empty());
    match topology {
        Some(topology) if !dials => {
            let links = links(prior, topology);
            let before = prior.at(&["measured", "links"]).as_list().unwrap_or_default();
            if links == before {
                // As it is, to the last digit; but an address may have been given meanwhile.
                let sources = if links.is_empty() {
                    Value::Null
                } else {
                    source_addresses(&links, topology)
                };
                planned.set("source_addresses", sources);
                planned.set("measured", prior.get("measured").clone());
            } else {
                put(planned, links, topology);
            }
        }
        _ => {
            planned.set("measured", Value::Unknown);
            planned.set("source_addresses", Value::Unknown);
        }
    }
    let new_networks = new_networks(prior, planned);
    let before = before(prior);
    let measures =
        dials && checks.times() && (before.is_none() || new_networks.as_ref().is_none_or(|new| !new.is_empty()));
    let open = ["heartbeat_interval", "election_timeout"].map(|name| config.get(name).is_null());
    if measures && before.is_some() && open.contains(&true) {
        let names = new_networks.map_or_else(
            || "Another network".to_owned(),
            |new| format!("Network {}", new.into_iter().collect::<Vec<_>>().join(", ")),
        );
        diagnostics.push(Diagnostic::warning(
            "The timing of the members may change",
            format!(
                "{names} is new to the cluster, and its round trips are measured before anything is changed. If they are longer, \
                 heartbeat_interval and election_timeout are raised, and the members restarted one at a time. Set both to keep them as \
                 they are."
            ),
        ));
    }
    for (name, open) in ["heartbeat_interval", "election_timeout"].into_iter().zip(open) {
        if open && measures {
            planned.set(name, Value::Unknown);
        }
    }
    if !measures {
        set_timing(planned, before.unwrap_or(timing::DEFAULT), config);
    }
}

/// The timing of the state.
fn before(prior: &Value) -> Option<Timing> {
    let number = |name: &str| u32::try_from(prior.get(name).as_i64()?).ok();
    Some(Timing {
        heartbeat_ms: number("heartbeat_interval")?,
        election_ms: number("election_timeout")?,
    })
}

/// Sets what the configuration leaves open.
fn set_timing(planned: &mut Value, computed: Timing, config: &Value) {
    let values = ["heartbeat_interval", "election_timeout"].map(|name| config.get(name));
    if values.iter().any(|value| value.is_unknown()) {
        for (name, value) in ["heartbeat_interval", "election_timeout"].into_iter().zip(values) {
            if value.is_null() {
                planned.set(name, Value::Unknown);
            }
        }
        return;
    }
    let [heartbeat, election] = values.map(|value| value.as_i64().and_then(|ms| u32::try_from(ms).ok()));
    let timing = computed.with(heartbeat, election);
    planned.set("heartbeat_interval", i64::from(timing.heartbeat_ms));
    planned.set("election_timeout", i64::from(timing.election_ms));
}

/// The networks that the state doesn't have; `None` while they are not known.
fn new_networks(prior: &Value, planned: &Value) -> Option<BTreeSet<String>> {
    let networks = |block: &Value| -> Option<BTreeSet<String>> {
        let servers = block.get("servers").as_map()?.values();
        servers
            .map(|server| server.get("network").as_str().map(str::to_owned))
            .collect()
    };
    let before = networks(prior).unwrap_or_default();
    Some(networks(planned)?.difference(&before).cloned().collect())
}

/// The measured pairs of the state that are as they were.
fn links(prior: &Value, topology: &Topology) -> Vec<Value> {
    let links = prior.at(&["measured", "links"]).as_list().unwrap_or_default();
    let stands = |link: &&Value| {
        let (from, to) = (link.get("from").as_str(), link.get("to").as_str());
        let dials = from.zip(to).and_then(|(from, to)| topology.dials(from, to).ok());
        dials.is_some_and(|address| link.get("address").as_str() == Some(address.to_string().as_str()))
    };
    links.iter().filter(stands).cloned().collect()
}

fn put(block: &mut Value, links: Vec<Value>, topology: &Topology) {
    if links.is_empty() {
        block.set("measured", Value::Null);
        block.set("source_addresses", Value::Null);
        return;
    }
    block.set("source_addresses", source_addresses(&links, topology));
    let longest = longest(&links);
    let measured = [("longest_round_trip_ms", longest.into()), ("links", Value::List(links))];
    block.set("measured", Value::object(measured));
}

/// The longest round trip between two servers, as the state has it.
pub fn longest_round_trip(state: &Value) -> Option<Duration> {
    let ms = longest(state.at(&["measured", "links"]).as_list()?)?;
    Duration::try_from_secs_f64(ms / 1000.0).ok()
}

fn longest(links: &[Value]) -> Option<f64> {
    let number = |link: &Value| match link.get("round_trip_ms") {
        Value::Number(Number::Float(ms)) => Some(*ms),
        Value::Number(Number::Decimal(digits)) => digits.parse().ok(),
        whole => whole.as_i64().and_then(|ms| i32::try_from(ms).ok()).map(f64::from),
    };
    links.iter().filter_map(number).max_by(f64::total_cmp)
}

fn source_addresses(links: &[Value], topology: &Topology) -> Value {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for link in links {
        let (Some(from), Some(source)) = (link.get("from").as_str(), link.get("source_address").as_str()) else {
            continue;
        };
        let known = topology.find(from).is_ok_and(|(_, server)| {
            let mut own = server.egress_addresses.clone();
            own.push(server.private_address);
            own.extend(server.public_address);
            own.iter().any(|address| address.to_canonical().to_string() == source)
        });
        if !known {
            all.entry(from.to_owned()).or_default().insert(source.to_owned());
        }
    }
    let all = all
        .into_iter()
        .map(|(server, sources)| (server, Value::List(sources.into_iter().map(Value::from).collect())));
    Value::Map(all.collect())
}

/// Puts what was found into the state, and the timing that follows where the plan left it open.
pub fn complete(
    state: &mut Value,
    prior: &Value,
    findings: &Findings,
    topology: &Topology,
    config: &Value,
) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let mut all = links(prior, topology);
    let found: Vec<Value> = findings.pairs.iter().filter_map(link).collect();
    let same = |one: &Value, other: &Value| ["from", "to"].iter().all(|end| one.get(end) == other.get(end));
    all.retain(|one| !found.iter().any(|other| same(one, other)));
    all.extend(found);
    all.sort_by_key(|link| {
        let text = |name: &str| link.get(name).as_str().unwrap_or_default().to_owned();
        (text("from"), text("to"))
    });
    let longest = longest(&all);
    if ["measured", "source_addresses"]
        .iter()
        .any(|name| !state.get(name).is_wholly_known())
    {
        put(state, all, topology);
    }
    let rule = Timing::for_round_trip(longest.unwrap_or(0.0));
    let before = before(prior);
    if ["heartbeat_interval", "election_timeout"]
        .iter()
        .any(|name| state.get(name).is_unknown())
    {
        set_timing(state, before.map_or(rule, |before| before.or_longer(rule)), config);
    }
    let chosen = config.get("election_timeout").as_i64();
    if let (Some(chosen), Some(longest)) = (chosen, longest)
        && chosen < i64::from(rule.election_ms)
        && longest * 10.0 > 1000.0
        && !findings.pairs.is_empty()
    {
        diagnostics.push(
            Diagnostic::warning(
                "The election timeout is short for this network",
                format!(
                    "The longest round trip between two servers is {longest:.0} ms, and election_timeout is {chosen} ms: members may \
                     elect without need. {} ms is ten round trips, which etcd's authors ask for.",
                    rule.election_ms
                ),
            )
            .at(Path::of("election_timeout")),
        );
    }
    diagnostics
}

fn link(pair: &crate::membership::preflight::Pair) -> Option<Value> {
    let Outcome::Open(trip) = &pair.outcome else {
        return None;
    };
    let number = |number: f64| Value::from((number * 10.0).round() / 10.0);
    let loss = trip.packets.and_then(|(sent, lost)| percent(lost, sent));
    Some(Value::object([
        ("from", pair.from.as_str().into()),
        ("to", pair.to.as_str().into()),
        ("address", pair.address.to_string().into()),
        ("source_address", trip.source.map(|source| source.to_string()).into()),
        ("round_trip_ms", trip.round_trip_ms.map(number).into()),
        ("loss_percent", loss.map(number).into()),
    ]))
}

#[cfg(test)]
mod tests;
