//! A look at one server and its member. Whatever does not answer in time is left out, and why is said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::snapshots::ScheduledLook;
use crate::etcd::api::{Alarm, Member, Status};
use crate::etcd::layout::unit_name;
use crate::etcd::metrics::Metrics;
use crate::etcd::scheduled;
use crate::host::{ClockOffset, Output, Script};
use crate::membership::health::Fsyncs;
use crate::membership::sockets::Socket;
use crate::resource::cluster::model::ClusterModel;
use crate::resource::dialling::{self, Target};
use crate::resource::ports;
use crate::resource::road::Road;
use crate::resource::round_trips;
use crate::resource::talk::{Lent, Talk, TalkError};
use crate::topology::{Dialled, ServerName, Topology, hosts_block};

/// How far back rejected connections are counted.
const REJECTED_WITHIN: Duration = Duration::from_secs(600);
/// How long dialling a peer may take, in seconds.
const DIALLING: u64 = 3;
/// How long a question that needs a quorum may take.
const QUESTION: Duration = Duration::from_secs(5);

/// What was seen of one member and its server.
#[derive(Debug, Default)]
pub struct Look {
    /// Why the server was not reached, or its script failed.
    pub unreached: Option<String>,
    /// What the server shows.
    pub server: ServerLook,
    /// Why etcd could not be asked.
    pub silent: Option<String>,
    /// What the member says of itself.
    pub status: Option<Status>,
    /// The alarms of the whole cluster, by member ID.
    pub alarms: BTreeSet<(u64, Alarm)>,
    /// Why a linearizable read failed; `None` if it passed or was not tried.
    pub no_quorum: Option<String>,
    /// Whether a quorum confirmed a read.
    pub confirmed: bool,
    /// The member list as it has it.
    pub members: Option<Vec<Member>>,
    /// What it measures.
    pub metrics: Option<Metrics>,
    /// Its synchronous writes of the log: while it was looked at, or if those were too few, since it started.
    pub fsyncs: Option<Fsyncs>,
    /// What came of dialling the peers from the server just now.
    pub dialled: BTreeMap<String, Dialled>,
}

/// What the server shows of its member.
#[derive(Debug, Default)]
pub struct ServerLook {
    /// What its service does, in systemd's words.
    pub service: String,
    /// Certificates in PEM by file name.
    pub certificates: BTreeMap<String, String>,
    lent: Option<Lent>,
    /// Its clock against ours.
    pub clock: Option<ClockOffset>,
    /// The addresses of the servers in its hosts file.
    pub addresses: BTreeMap<String, String>,
    /// Established connections to ports for peers.
    pub outgoing: Vec<Socket>,
    /// Established connections to its own port for peers.
    pub incoming: Vec<Socket>,
    /// The addresses and ports of peers whose streams carry what they say.
    pub heard: BTreeSet<String>,
    /// The kernel's round trips by address and port of the peer, in milliseconds.
    pub round_trips: BTreeMap<String, f64>,
    /// How many packets it sent on all connections that come from an address, and how many of them were lost.
    pub packets: BTreeMap<IpAddr, (u64, u64)>,
    /// The election timeout in its configuration, in milliseconds.
    pub election_timeout_ms: Option<u32>,
    /// Ports of its member that another process has, and which, while the member does not run.
    pub ports_taken: Vec<(u16, String)>,
    /// Connections that etcd rejected at its port for peers: how many, from which address, and why.
    pub rejected: Vec<Rejected>,
    /// Snapshots that it takes by itself.
    pub snapshots: Option<ScheduledLook>,
}

/// Connections that etcd rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub count: u64,
    /// From which address.
    pub address: String,
    /// etcd's reason.
    pub error: String,
}

/// Looks at one server, for no longer than `within`.
pub async fn look(
    road: &Road,
    cluster: &ClusterModel,
    topology: &Topology,
    name: &ServerName,
    within: Duration,
) -> Look {
    let deadline = Instant::now() + within;
    let mut look = Look::default();
    let late = || format!("no answer within {}", humantime::format_duration(within));
    match tokio::time::timeout_at(deadline, at_server(road, cluster, topology, name, within)).await {
        Ok(Ok(server)) => look.server = server,
        Ok(Err(why)) => look.unreached = Some(why),
        Err(_) => look.unreached = Some(late()),
    }
    if look.unreached.is_some() || look.server.service != "active" {
        return look;
    }
    let Some(talk) = Talk::borrow(road, cluster, topology, look.server.lent.take()) else {
        look.silent = Some("its certificate for clients is not on the server, so it can't be asked".to_owned());
        return look;
    };
    let dialling = dial_peers(road, cluster, topology, name, look.server.addresses.clone());
    let asking = ask(&talk, name.as_str(), deadline, &mut look);
    let (dialled, ()) = tokio::join!(tokio::time::timeout_at(deadline, dialling), asking);
    look.dialled = dialled.unwrap_or_default();
    if let Some(before) = &look.metrics {
        let left = deadline.saturating_duration_since(Instant::now());
        let now = talk.metrics(name.as_str(), left).await.ok();
        let meanwhile = now.and_then(|now| now.fsyncs(Some(before))).map(Fsyncs::from);
        let all = || before.fsyncs(None).map(Fsyncs::from);
        look.fsyncs = meanwhile.filter(Fsyncs::tell).or_else(all);
    }
    look
}

/// Dials every peer from the server, as its etcd does: a stream that was lost in silence counts as active for minutes.
async fn dial_peers(
    road: &Road,
    cluster: &ClusterModel,
    topology: &Topology,
    from: &ServerName,
    addresses: BTreeMap<String, String>,
) -> BTreeMap<String, Dialled> {
    let peers = topology.servers().iter().filter(|(name, _)| *name != from);
    let targets = peers.filter_map(|(name, peer)| {
        Some(Target {
            name: name.to_string(),
            address: addresses.get(name.as_str())?.parse().ok()?,
            port: peer.peer_port,
        })
    });
    let targets: Vec<Target> = targets.collect();
    let script = dialling::append(Script::new("dialling the peers"), &targets, DIALLING, 1);
    let Some(model) = cluster.servers.get(from.as_str()) else {
        return BTreeMap::new();
    };
    let Ok(host) = road.connect(model, Duration::from_secs(DIALLING), false).await else {
        return BTreeMap::new();
    };
    match host.run_checked(&script).await {
        Ok(output) => dialling::outcomes(&output, DIALLING),
        Err(_) => BTreeMap::new(),
    }
}

/// All questions at once: one that etcd does not answer takes nothing from the others.
async fn ask(talk: &Talk<'_>, name: &str, deadline: Instant, look: &mut Look) {
    let left = || deadline.saturating_duration_since(Instant::now());
    let api = async {
        let api = talk.to(name, left()).await?;
        let status = api.status(left()).await?;
        // Without a quorum the last two are never answered.
        let within = left().min(QUESTION);
        let asked = tokio::join!(api.members(within), api.alarms(within), api.confirm_quorum(within));
        Ok::<_, TalkError>((status, asked))
    };
    let (answered, metrics) = tokio::join!(api, talk.metrics(name, left()));
    look.metrics = metrics.ok();
    match answered {
        Ok((status, (members, alarms, confirmed))) => {
            look.members = members.ok();
            look.alarms = alarms.unwrap_or_default();
            look.confirmed = confirmed.is_ok();
            // A learner answers no such read.
            look.no_quorum = confirmed
                .err()
                .filter(|_| !status.is_learner)
                .map(|error| error.to_string());
            look.status = Some(status);
        }
        Err(error) => look.silent = Some(error.to_string()),
    }
}

async fn at_server(
    road: &Road,
    cluster: &ClusterModel,
    topology: &Topology,
    name: &ServerName,
    within: Duration,
) -> Result<ServerLook, String> {
    let model = cluster
        .servers
        .get(name.as_str())
        .ok_or_else(|| format!("there is no server {name}"))?;
    let host = road
        .connect(model, within, false)
        .await
        .map_err(|error| error.to_string())?;
    let own = topology.servers().get(name);
    let own_ports = own.map(|own| format!("{} {}", own.peer_port, own.client_port));
    let script = script(topology).set("own_ports", own_ports.unwrap_or_default());
    let output = host
        .run_checked(&script.line(include_str!("look.sh")).timeout(within))
        .await
        .map_err(|error| error.to_string())?;
    let own_port = own.map_or(0, |own| own.peer_port);
    Ok(read(&output, topology, own_port, SystemTime::now()))
}

/// What the look at each server begins with.
fn script(topology: &Topology) -> Script {
    let cluster = topology.cluster();
    let ports = topology.peer_ports();
    let hex: Vec<String> = ports.iter().map(|port| format!("{port:04X}")).collect();
    let decimal: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let script = Script::new("looking at the member")
        .set("cluster", cluster.as_str())
        .set("unit", unit_name(cluster))
        .set("hex_ports", hex.join(" "))
        .set("ports", decimal.join(" "))
        .set("begin_mark", hosts_block::begin_mark(cluster))
        .set("end_mark", hosts_block::end_mark(cluster))
        .set("timer", scheduled::timer_name(cluster))
        .set("taker", scheduled::service_name(cluster))
        .set("seconds", REJECTED_WITHIN.as_secs().to_string())
        .line(include_str!("../../resource/lend.sh"))
        .line(ports::SCRIPT);
    round_trips::append(script)
}

pub(super) fn read(output: &Output, topology: &Topology, own_port: u16, received: SystemTime) -> ServerLook {
    let decoded = |key: &str| output.text(key).map(str::to_owned);
    let big_endian = matches!(output.value("machine"), Some("s390x" | "ppc64" | "mips" | "mips64"));
    let sockets = |key| {
        output
            .values(key)
            .filter_map(|text| Socket::parse(text, big_endian))
            .collect::<Vec<_>>()
    };
    let names: BTreeMap<String, &ServerName> = topology
        .servers()
        .keys()
        .map(|server| (topology.domain().stable_name(server), server))
        .collect();
    let addresses = output.values("hosts").filter_map(|line| {
        let (address, name) = line.split_once(char::is_whitespace)?;
        let server = names.get(name.split_whitespace().next()?)?;
        Some((server.to_string(), address.to_owned()))
    });
    let packets = output.values("packets").filter_map(|line| {
        let (peer, counts) = line.split_once(' ')?;
        let (sent, lost) = counts.split_once(' ')?;
        Some((peer.parse().ok()?, (sent.parse().ok()?, lost.parse().ok()?)))
    });
    let rejected = output.values("rejected").filter_map(|line| {
        let mut words = line.splitn(3, ' ');
        Some(Rejected {
            count: words.next()?.parse().ok()?,
            address: words.next()?.trim_matches(['[', ']']).to_owned(),
            error: words.next()?.replace("\\\"", "\""),
        })
    });
    ServerLook {
        service: output.value("service").unwrap_or_default().to_owned(),
        certificates: ["peer", "peer-client", "server"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), decoded(&format!("certificate.{name}"))?)))
            .collect(),
        lent: Lent::of(output),
        clock: ClockOffset::of(output, received),
        addresses: addresses.collect(),
        outgoing: sockets("out"),
        incoming: sockets("in")
            .into_iter()
            .filter(|socket| socket.local.port() == own_port)
            .collect(),
        heard: output.values("heard").map(str::to_owned).collect(),
        round_trips: round_trips::read(output),
        packets: packets.collect(),
        election_timeout_ms: output.value("election-timeout").and_then(|ms| ms.parse().ok()),
        ports_taken: ports::read(output),
        rejected: rejected.collect(),
        snapshots: ScheduledLook::of(output, topology.cluster()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{ClusterName, Domain, NetworkName, Scheme, Server};

    fn topology() -> Topology {
        let server = |name: &str, network: &str, public: &str| Server {
            name: ServerName::parse(name).unwrap(),
            network: NetworkName::parse(network).unwrap(),
            private_address: "10.0.0.11".parse().unwrap(),
            public_address: Some(public.parse().unwrap()),
            egress_addresses: Vec::new(),
            peer_port: 2380,
            client_port: 2379,
        };
        let cluster = ClusterName::parse("main").unwrap();
        let domain = Domain::of_cluster(&cluster);
        let servers = vec![server("a1", "a", "203.0.113.11"), server("b1", "b", "203.0.113.21")];
        Topology::new(cluster, domain, Scheme::Https, servers).unwrap()
    }

    #[test]
    fn what_a_server_prints_is_read() {
        let stdout = "date_first=1700000000.000000000\nservice=active\nmachine=x86_64\n\
            hosts[]=10.0.0.11 a1.main.etcd.internal\nhosts[]=203.0.113.21 b1.main.etcd.internal\n\
            out[]=0B00000A:D431 157100CB:094C\nin[]=0B00000A:094C 157100CB:A000\n\
            heard[]=203.0.113.21:2380\nrtt[]=203.0.113.21:2380 25.5/0.7\npackets[]=203.0.113.21 1200 31\nelection-timeout=1000\nport[]=2380 nc (process 7)\n\
            rejected[]=14 203.0.113.29 tls: \\\"203.0.113.29\\\" does not match\ndate_last=1700000000.100000000\n";
        let mut output = Output::of_answers(stdout);
        output.elapsed = Duration::from_millis(120);
        let look = read(&output, &topology(), 2380, SystemTime::now());
        assert_eq!(look.addresses["b1"], "203.0.113.21");
        assert_eq!(
            look.outgoing[0].remote,
            "203.0.113.21:2380".parse().unwrap_or(look.outgoing[0].local)
        );
        assert_eq!((look.outgoing.len(), look.incoming.len()), (1, 1));
        assert!((look.round_trips["203.0.113.21:2380"] - 25.5).abs() < f64::EPSILON);
        assert!(look.heard.contains("203.0.113.21:2380"));
        assert_eq!(look.packets[&"203.0.113.21".parse::<IpAddr>().unwrap()], (1200, 31));
        assert_eq!(look.election_timeout_ms, Some(1000));
        assert_eq!(look.ports_taken, [(2380, "nc (process 7)".to_owned())]);
        let rejected = Rejected {
            count: 14,
            address: "203.0.113.29".to_owned(),
            error: "tls: \"203.0.113.29\" does not match".to_owned(),
        };
        assert_eq!(look.rejected, [rejected]);
        assert!(look.clock.is_some());
        assert_eq!(look.snapshots, None);
    }
}
