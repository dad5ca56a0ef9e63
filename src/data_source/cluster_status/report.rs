//! From what was seen to the attributes of `etcd_cluster_status`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::look::{Look, Rejected};
use super::snapshots::ScheduledLook;
use crate::etcd::api::{Alarm, Member, Status};
use crate::etcd::certificates::parse;
use crate::membership::damage::copied;
use crate::membership::health::{self, Elsewhere, Pair, Standing, judge};
use crate::membership::sockets;
use crate::membership::upkeep::NOBODY_KNOWS_WHOSE;
use crate::plugin::value::Value;
use crate::resource::talk::names_of;
use crate::topology::diagram::{Condition, Diagram, SeenPair};
use crate::topology::{Dialled, Server, ServerName, Topology, address};

/// The names of a certificate's file, its attribute, and what it is for in a sentence.
const CERTIFICATES: [(&str, &str, &str); 3] = [
    ("peer", "peer", "peers that dial it"),
    ("peer-client", "peer_client", "peers that it dials"),
    ("server", "client", "clients"),
];

/// All looks with what they are looked at with.
struct Seen<'a> {
    topology: &'a Topology,
    looks: &'a BTreeMap<ServerName, Look>,
    /// The names of the servers by the IDs of their members.
    names: BTreeMap<u64, String>,
    /// The member list of one whom a quorum confirms; else of anybody.
    members: Option<&'a [Member]>,
    now: OffsetDateTime,
}

/// The data source's state: the configuration with everything computed.
pub fn report(mut state: Value, topology: &Topology, looks: &BTreeMap<ServerName, Look>) -> Value {
    let seen = Seen::new(topology, looks, OffsetDateTime::now_utc());
    let pairs = seen.pairs();
    let judged: BTreeMap<String, health::Look> = looks
        .iter()
        .map(|(name, look)| (name.to_string(), seen.judged(name, look)))
        .collect();
    let health = judge(&judged, &pairs, &seen.elsewhere());
    let leader = looks.values().find_map(|look| {
        let status = look.status.as_ref()?;
        seen.names
            .get(&status.leader)
            .filter(|_| health.has_quorum() == Some(true))
    });
    let cluster_id = looks
        .values()
        .find_map(|look| look.status.as_ref())
        .map(|status| status.cluster_id);
    let problems: Vec<Value> = health.problems.iter().map(|one| one.to_string().into()).collect();
    state.set("id", topology.cluster().as_str());
    // If no server was reached, nothing is known.
    let asked = looks.values().any(|look| look.unreached.is_none());
    let known = |value: Value| if asked { value } else { Value::Null };
    let healthy = health.has_quorum() == Some(true) && problems.is_empty();
    state.set("healthy", known(healthy.into()));
    state.set("has_quorum", health.has_quorum());
    state.set("problems", problems);
    state.set("leader", leader.cloned());
    state.set("cluster_id", cluster_id.map(|id| format!("{id:x}")));
    state.set("voters", whole(health.voters));
    state.set("quorum", whole(health.quorum));
    state.set("healthy_voters", known(whole(health.healthy_voters).into()));
    state.set("failures_tolerated", known(whole(health.failures_tolerated).into()));
    let networks = health.expendable_networks.iter().map(|network| network.as_str().into());
    state.set("expendable_networks", known(Value::List(networks.collect())));
    state.set(
        "clock_difference_ms",
        known(of_clock(health.clock_difference_ms).into()),
    );
    let members = looks
        .iter()
        .map(|(name, look)| (name.to_string(), seen.member(look, &judged[name.as_str()])));
    state.set("members", Value::Map(members.collect()));
    let links: Vec<Value> = pairs.iter().map(|pair| seen.link(pair)).collect();
    state.set("links", links);
    let diagram = seen.diagram(&judged, &pairs);
    state.set("diagram_mermaid", diagram.mermaid());
    state.set("diagram_svg", diagram.svg());
    state
}

impl<'a> Seen<'a> {
    fn new(topology: &'a Topology, looks: &'a BTreeMap<ServerName, Look>, now: OffsetDateTime) -> Self {
        let confirmed = looks.values().filter(|look| look.confirmed);
        let members = confirmed.chain(looks.values()).find_map(|look| look.members.as_deref());
        Self {
            topology,
            looks,
            names: names_of(topology, members.unwrap_or_default()),
            members,
            now,
        }
    }

    fn id(&self, name: &ServerName) -> Option<u64> {
        self.names
            .iter()
            .find(|(_, known)| *known == name.as_str())
            .map(|(id, _)| *id)
    }

    /// What the cluster has of members that are on none of the servers.
    fn elsewhere(&self) -> Elsewhere {
        let listed: BTreeMap<u64, String> = { self.members.into_iter().flatten() }
            .filter(|member| !self.names.contains_key(&member.id))
            .map(|member| {
                let member_of_no_server =
                    format!("{} ({}, ID {:x})", member.name, member.peer_urls.join(", "), member.id);
                (member.id, member_of_no_server)
            })
            .collect();
        let alarms: BTreeSet<&(u64, Alarm)> = { self.looks.values().flat_map(|look| &look.alarms) }
            .filter(|(id, _)| !self.names.contains_key(id))
            .collect();
        let whose = |id: &u64| match listed.get(id) {
            Some(member) => member.clone(),
            None if *id == NOBODY_KNOWS_WHOSE => "no member in particular".to_owned(),
            None => format!("a member that has left (ID {id:x})"),
        };
        Elsewhere {
            alarms: alarms
                .into_iter()
                .map(|(id, alarm)| (whose(id), alarm.to_string()))
                .collect(),
            members: listed.into_values().collect(),
        }
    }

    fn judged(&self, name: &ServerName, look: &Look) -> health::Look {
        let server = self.topology.servers().get(name);
        let id = self.id(name);
        let listed = |members: &[Member]| match members.iter().find(|member| Some(member.id) == id) {
            Some(member) if member.is_learner => Standing::Learner,
            Some(_) => Standing::Voter,
            None => Standing::Stranger,
        };
        let active = look.server.service == "active";
        let no_leader = look.status.as_ref().filter(|status| !status.has_leader());
        let no_quorum = || {
            look.no_quorum
                .as_ref()
                .map(|why| format!("no quorum confirms a read through it: {why}"))
        };
        let status = look.status.as_ref();
        // It takes part as another one, so it is not counted as this one.
        let copied = status.and_then(|status| copied(name.as_str(), status.member_id, &self.names));
        let unhealthy = copied.map(|damage| damage.to_string());
        let unhealthy = unhealthy.or_else(|| look.silent.clone()).or_else(no_quorum);
        let unhealthy = unhealthy.or_else(|| no_leader.map(|_| "it knows no leader".to_owned()));
        let certificates = CERTIFICATES.iter().filter_map(|(file, _, purpose)| {
            let end = parse(look.server.certificates.get(*file)?).ok()?.not_after;
            Some((
                (*purpose).to_owned(),
                (end - self.now).whole_days() - i64::from(end < self.now),
            ))
        });
        health::Look {
            network: server.map(|server| server.network.to_string()).unwrap_or_default(),
            unreached: look.unreached.clone(),
            service: Some(look.server.service.clone()).filter(|_| look.unreached.is_none() && !active),
            unhealthy,
            standing: self.members.map(listed),
            leader: look.status.as_ref().map(|status| status.leader),
            ports_taken: look.server.ports_taken.clone(),
            election_timeout_ms: look.server.election_timeout_ms,
            fsyncs: look.fsyncs,
            alarms: self.alarms(id),
            size: look
                .metrics
                .as_ref()
                .and_then(|metrics| metrics.db_size.zip(metrics.quota)),
            clock: look.server.clock.map(|clock| (clock.ms, clock.uncertainty_ms)),
            certificate_days: certificates.collect(),
            snapshots: look.server.snapshots.as_ref().and_then(|look| look.error.clone()),
        }
    }

    /// A member's alarms, as any member tells them.
    fn alarms(&self, id: Option<u64>) -> BTreeSet<String> {
        let all = self.looks.values().flat_map(|look| &look.alarms);
        all.filter(|(member, _)| Some(*member) == id)
            .map(|(_, alarm)| alarm.to_string())
            .collect()
    }

    fn pairs(&self) -> Vec<Pair> {
        let servers = self.topology.servers();
        let pairs = servers.iter().flat_map(|from| servers.iter().map(move |to| (from, to)));
        pairs
            .filter(|(from, to)| from.0 != to.0)
            .map(|(from, to)| self.pair(from, to))
            .collect()
    }

    fn pair(&self, (from, viewer): (&ServerName, &Server), (to, peer): (&ServerName, &Server)) -> Pair {
        let here = self.looks.get(from);
        let expected = address(viewer, peer).ok();
        // etcd may count a peer as lost that it hears all the time (see `crate::resource::silence`).
        let heard = || {
            let place = self.dialled(from, to, peer.peer_port)?;
            Some(here?.server.heard.contains(&place))
        };
        let connected = here.and_then(|look| look.metrics.as_ref()).map(|metrics| {
            let id = self.id(to);
            let active = metrics.active_ids().into_iter().any(|active| Some(active) == id);
            active || heard() == Some(true)
        });
        let known: BTreeSet<String> = [address(peer, viewer).ok(), self.source(from, to)]
            .into_iter()
            .flatten()
            .map(|address| address.to_string())
            .collect();
        let there = self.looks.get(to);
        let rejected = there
            .into_iter()
            .flat_map(|look| &look.server.rejected)
            .find(|rejected| known.contains(&rejected.address));
        Pair {
            from: from.to_string(),
            to: to.to_string(),
            address: here.and_then(|look| look.server.addresses.get(to.as_str()).cloned()),
            expected_address: expected.map(|address| address.to_string()),
            port: peer.peer_port,
            connected,
            unreachable: here
                .and_then(|look| look.dialled.get(to.as_str()))
                .filter(|dialled| !matches!(dialled, Dialled::Open(_)))
                .map(ToString::to_string),
            rejected: rejected.map(|Rejected { count, address, error }| (*count, address.clone(), error.clone())),
            round_trip_ms: self.round_trip(from, to, peer.peer_port),
            packets: self
                .source(to, from)
                .and_then(|source| here?.server.packets.get(&source).copied()),
        }
    }

    /// Where one dials another: address and port, as the kernel has them.
    fn dialled(&self, from: &ServerName, to: &ServerName, port: u16) -> Option<String> {
        let address: IpAddr = self.looks.get(from)?.server.addresses.get(to.as_str())?.parse().ok()?;
        Some(SocketAddr::new(address, port).to_string())
    }

    /// The address by which the connections of `from` come to `to`.
    fn source(&self, from: &ServerName, to: &ServerName) -> Option<IpAddr> {
        let servers = self.topology.servers();
        let (viewer, peer) = (servers.get(from)?, servers.get(to)?);
        let (here, there) = (&self.looks.get(from)?.server, &self.looks.get(to)?.server);
        let dialled: IpAddr = here.addresses.get(to.as_str())?.parse().ok()?;
        let dialled = SocketAddr::new(dialled.to_canonical(), peer.peer_port);
        let outgoing: Vec<_> = here
            .outgoing
            .iter()
            .copied()
            .filter(|one| one.remote == dialled)
            .collect();
        let others = servers.iter().filter(|(name, _)| *name != from && *name != to);
        let others: BTreeSet<IpAddr> = others.filter_map(|(_, other)| address(peer, other).ok()).collect();
        sockets::source(&outgoing, &there.incoming, address(peer, viewer).ok(), &others)
    }

    fn member(&self, look: &Look, judged: &health::Look) -> Value {
        let (status, metrics) = (look.status.as_ref(), look.metrics.as_ref());
        let number = |of: &dyn Fn(&Status) -> Option<u64>| Value::from(status.and_then(of).map(large));
        let problem = judged.unreached.clone().or_else(|| {
            let stopped = judged.service.as_ref().map(|state| format!("its service is {state}"));
            stopped.or_else(|| judged.unhealthy.clone())
        });
        let alarms: Vec<Value> = judged.alarms.iter().map(|alarm| alarm.as_str().into()).collect();
        let clock = look.server.clock;
        let rejected = look.server.rejected.iter().map(|rejected| {
            Value::object([
                ("address", rejected.address.as_str().into()),
                ("count", large(rejected.count)),
                ("error", rejected.error.as_str().into()),
            ])
        });
        Value::object([
            ("reachable", look.unreached.is_none().into()),
            (
                "service",
                Some(look.server.service.as_str())
                    .filter(|_| look.unreached.is_none())
                    .into(),
            ),
            ("healthy", (problem.is_none() && status.is_some()).into()),
            ("error", problem.into()),
            (
                "member_id",
                status.map(|status| format!("{:x}", status.member_id)).into(),
            ),
            ("version", status.map(|status| status.version.as_str()).into()),
            ("is_leader", status.map(Status::is_leader).into()),
            ("is_learner", status.map(|status| status.is_learner).into()),
            ("raft_term", number(&|status| Some(status.raft_term))),
            ("raft_index", number(&|status| Some(status.raft_index))),
            ("raft_applied_index", number(&|status| Some(status.raft_applied_index))),
            (
                "leader_changes",
                metrics.and_then(|metrics| metrics.leader_changes).map(large).into(),
            ),
            ("db_size", number(&|status| status.db_size)),
            ("db_size_in_use", number(&|status| status.db_size_in_use)),
            ("quota", metrics.and_then(|metrics| metrics.quota).map(large).into()),
            (
                "wal_fsync_ms",
                judged.fsyncs.map(|fsyncs| milliseconds(fsyncs.mean_ms)).into(),
            ),
            ("alarms", alarms.into()),
            ("certificate_expiry", expiry(look)),
            ("clock_offset_ms", clock.map(|clock| of_clock(clock.ms)).into()),
            (
                "clock_uncertainty_ms",
                clock.map(|clock| of_uncertainty(clock.uncertainty_ms)).into(),
            ),
            ("rejected", rejected.collect::<Vec<_>>().into()),
            (
                "snapshots",
                look.server.snapshots.as_ref().map_or(Value::Null, ScheduledLook::value),
            ),
        ])
    }

    fn link(&self, pair: &Pair) -> Value {
        let find = |name: &str| self.looks.keys().find(|known| known.as_str() == name);
        let (from, to) = (find(&pair.from), find(&pair.to));
        let source = from.zip(to).and_then(|(from, to)| self.source(from, to));
        let metrics = from.and_then(|from| self.looks.get(from)?.metrics.as_ref());
        let id = to.and_then(|to| self.id(to)).map(|id| format!("{id:x}"));
        let lost = metrics.map(|metrics| {
            let lost = metrics.disconnected_peers.iter();
            lost.filter(|((_, remote), _)| Some(remote) == id.as_ref())
                .fold(0, |all: u64, (_, count)| all.saturating_add(*count))
        });
        let dialled = from.and_then(|from| self.looks.get(from)?.dialled.get(&pair.to));
        let rejected = pair.rejected.as_ref().map_or(0, |(count, ..)| *count);
        let reached = to
            .and_then(|to| self.looks.get(to))
            .is_some_and(|look| look.unreached.is_none());
        Value::object([
            ("from", pair.from.as_str().into()),
            ("to", pair.to.as_str().into()),
            ("connected", pair.connected.into()),
            (
                "reachable",
                dialled.map(|dialled| matches!(dialled, Dialled::Open(_))).into(),
            ),
            ("error", pair.unreachable.as_deref().into()),
            ("address", pair.address.as_deref().into()),
            ("port", i64::from(pair.port).into()),
            ("source_address", source.map(|address| address.to_string()).into()),
            ("rtt_ms", pair.round_trip_ms.map(milliseconds).into()),
            ("loss_percent", pair.loss_percent().map(percent).into()),
            ("lost_streams", lost.map(large).into()),
            ("rejected", Some(large(rejected)).filter(|_| reached).into()),
        ])
    }

    fn diagram(&self, judged: &BTreeMap<String, health::Look>, pairs: &[Pair]) -> Diagram {
        let condition = |(name, look): (&ServerName, &Look)| {
            let judged = judged.get(name.as_str())?;
            let status = look.status.as_ref();
            let condition = if judged.unreached.is_some() || judged.service.is_some() || judged.unhealthy.is_some() {
                Condition::Down
            } else if status.is_some_and(Status::is_leader) {
                Condition::Leader
            } else if judged.standing == Some(Standing::Learner) {
                Condition::Learner
            } else {
                Condition::Healthy
            };
            Some((name.to_string(), condition))
        };
        let conditions = self.looks.iter().filter_map(condition).collect();
        let pairs = pairs.iter().map(|pair| SeenPair {
            from: pair.from.clone(),
            to: pair.to.clone(),
            rtt_ms: pair.round_trip_ms.map(steady),
            dead: pair.connected == Some(false) || pair.unreachable.is_some(),
        });
        let title = format!("etcd cluster {}", self.topology.cluster());
        Diagram::of(self.topology, &title).with_seen(&conditions, &pairs.collect::<Vec<_>>())
    }

    /// The round trip in ms: what the kernel sees on the connections. Without that, what etcd's probes see: it begins its
    /// average at 0, so that is too low in a member's first minutes (`probing/status.go`).
    fn round_trip(&self, from: &ServerName, to: &ServerName, port: u16) -> Option<f64> {
        let look = self.looks.get(from)?;
        let id = self.id(to).map(|id| format!("{id:x}"));
        let kernel = look.server.round_trips.get(&self.dialled(from, to, port)?);
        let probed = || look.metrics.as_ref()?.round_trips.get(&id?)?.mean();
        let probed = || {
            probed()
                .filter(|seconds| *seconds > 0.0)
                .map(|seconds| seconds * 1000.0)
        };
        kernel.copied().or_else(probed)
    }
}

fn expiry(look: &Look) -> Value {
    if look.server.certificates.is_empty() {
        return Value::Null;
    }
    let ends = CERTIFICATES.map(|(file, attribute, _)| {
        let certificate = look.server.certificates.get(file).and_then(|pem| parse(pem).ok());
        let end = certificate.and_then(|certificate| certificate.not_after.format(&Rfc3339).ok());
        (attribute, end.into())
    });
    Value::object(ends)
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Null, if it is more than anything that is counted here can be.
fn large(number: u64) -> Value {
    i64::try_from(number).ok().into()
}

/// The steps of a measured time between 1 and 10 ms, each a quarter above the last, and so on for longer ones.
const STEPS: [f64; 10] = [1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0];
/// The steps of a clock, in ms.
const CLOCK_STEP: i64 = 100;

/// A measured time to the nearest step, 1 ms at least: what differs at every look would be a change of the state.
fn steady(ms: f64) -> f64 {
    if !ms.is_finite() || ms <= 1.0 {
        return 1.0;
    }
    let decade = 10_f64.powf(ms.log10().floor());
    let steps = STEPS.iter().map(|step| step * decade).chain([10.0 * decade]);
    let distance = |step: &f64| (step / ms).ln().abs();
    let nearest = steps.min_by(|one, other| distance(one).total_cmp(&distance(other)));
    nearest.map_or(ms, |step| (step * 100.0).round() / 100.0)
}

fn milliseconds(ms: f64) -> Value {
    steady(ms).into()
}

/// A share to the nearest whole percent.
fn percent(percent: f64) -> Value {
    percent.round().into()
}

/// How clocks differ, towards 0: less than a step is none.
fn of_clock(ms: i64) -> i64 {
    ms / CLOCK_STEP * CLOCK_STEP
}

/// How much of that may be wrong.
fn of_uncertainty(ms: i64) -> i64 {
    ms.saturating_add(CLOCK_STEP - 1) / CLOCK_STEP * CLOCK_STEP
}

#[cfg(test)]
mod tests {
    use super::{of_clock, of_uncertainty, steady};

    #[test]
    fn what_jitters_is_the_same_at_the_next_look() {
        assert_eq!([54.0, 55.0].map(steady), [50.0, 50.0]);
        assert_eq!([0.2, 0.9, 1.1, 97.0, 151.0].map(steady), [1.0, 1.0, 1.0, 100.0, 160.0]);
        assert_eq!([3.0, 30.0, f64::NAN].map(steady), [3.2, 32.0, 1.0]);
        assert_eq!([1, -99, 20_030, -20_030].map(of_clock), [0, 0, 20_000, -20_000]);
        assert_eq!([0, 37, 41, 100, 101].map(of_uncertainty), [0, 100, 100, 100, 200]);
    }
}
