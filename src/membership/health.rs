//! What a look at all members amounts to: whether there is a quorum, what it stands, and what is wrong, in words.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::preflight::{WRITE_REFUSED_MS, percent};
use super::quorum;

/// etcd itself warns from here on (`rafthttp/probing_status.go`): leases and certificates go by clocks.
const CLOCKS_APART_MS: i64 = 1000;
/// At the quota etcd refuses writes.
const NEARLY_FULL_PERCENT: u64 = 80;
/// An apply renews certificates long before; one that is so near its end was forgotten.
const CERTIFICATE_DAYS: i64 = 14;

/// Fewer synchronous writes than this say nothing.
const SOME_WRITES: u64 = 3;
/// An election timeout of so many round trips was stable for half an hour, on a line that loses packets too (docs/guides/latency.md). Below
/// that one packet that is late starts an election.
const ROUND_TRIPS_IN_ELECTION: f64 = 6.0;
/// A line that loses more is poor; the preflight warns earlier.
const LOSSY_PERCENT: f64 = 1.0;
/// Fewer packets than this say nothing: one that was lost in a short outage was sent again many times.
const SOME_PACKETS: u64 = 500;

/// What was seen of one member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// The network of its server.
    pub network: String,
    /// Whether the server was reached; if not, why.
    pub unreached: Option<String>,
    /// What its service does where it does not run, `failed` for example.
    pub service: Option<String>,
    /// Why etcd does not answer, or takes part in no quorum.
    pub unhealthy: Option<String>,
    /// Whether the member list has it as a voter, as a learner, or not at all; `None` as long as nobody could be asked.
    pub standing: Option<Standing>,
    /// The ID of the leader that it knows.
    pub leader: Option<u64>,
    /// Ports of its member that another process has, and which.
    pub ports_taken: Vec<(u16, String)>,
    /// The election timeout that it has, in ms.
    pub election_timeout_ms: Option<u32>,
    /// Synchronous writes to its disk.
    pub fsyncs: Option<Fsyncs>,
    /// Its alarms, `NOSPACE` or `CORRUPT`.
    pub alarms: BTreeSet<String>,
    /// Bytes in its backend, and how many it may have.
    pub size: Option<(u64, u64)>,
    /// Its server's clock minus ours in milliseconds, and how much of that may be wrong.
    pub clock: Option<(i64, i64)>,
    /// The days until each certificate ends, by kind; negative after that.
    pub certificate_days: BTreeMap<String, i64>,
    /// Why its server takes no snapshots by itself, where it is to.
    pub snapshots: Option<String>,
}

/// Synchronous writes of a member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fsyncs {
    /// How many.
    pub writes: u64,
    /// The mean in ms.
    pub mean_ms: f64,
    /// How many of them took more than 64 ms.
    pub slow: u64,
}

impl Fsyncs {
    /// Whether they are enough to say anything.
    pub fn tell(&self) -> bool {
        self.writes >= SOME_WRITES
    }
}

impl From<(u64, f64, u64)> for Fsyncs {
    fn from((writes, mean_ms, slow): (u64, f64, u64)) -> Self {
        Self { writes, mean_ms, slow }
    }
}

/// What a member is to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It votes.
    Voter,
    /// It is to vote one day.
    Learner,
    /// The member list doesn't have it.
    Stranger,
}

/// What was seen of one directed pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pair {
    /// Who dials.
    pub from: String,
    /// Who is dialled.
    pub to: String,
    /// The address that `from` has for `to`, as its hosts file says.
    pub address: Option<String>,
    /// The address that it should have.
    pub expected_address: Option<String>,
    /// The port that it dials.
    pub port: u16,
    /// Whether a stream is active; `None` where `from` could not be asked.
    pub connected: Option<bool>,
    /// Why a connection that was tried now did not come about; `None` if it did, or was not tried.
    pub unreachable: Option<String>,
    /// Where `to` rejected connections from `from`: how many, from which address, and etcd's reason.
    pub rejected: Option<(u64, String, String)>,
    /// The round trip in ms.
    pub round_trip_ms: Option<f64>,
    /// How many packets were sent on the connections that there are, and how many of them were lost.
    pub packets: Option<(u64, u64)>,
}

impl Pair {
    /// How many of a hundred packets are lost, where enough were sent to say so.
    pub fn loss_percent(&self) -> Option<f64> {
        let (sent, lost) = self.packets.filter(|(sent, _)| *sent >= SOME_PACKETS)?;
        percent(lost, sent)
    }
}

/// What the cluster has of members that are on none of the servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// The members that its list has, with their addresses.
    pub members: Vec<String>,
    /// The alarms of members that it has, or had: a member's alarm stays when the member has left. (Who, which.)
    pub alarms: Vec<(String, String)>,
}

/// What it amounts to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// How many members vote. Before the member list is known: how many servers there are.
    pub voters: usize,
    /// How many of them are a quorum.
    pub quorum: usize,
    /// How many of them are healthy.
    pub healthy_voters: usize,
    /// How many more healthy voters may fail.
    pub failures_tolerated: usize,
    /// The networks that may be lost, one at a time, with a quorum left.
    pub expendable_networks: Vec<String>,
    /// How far the clocks are apart at least, in milliseconds.
    pub clock_difference_ms: i64,
    /// How many voters' servers were not reached.
    pub unreached_voters: usize,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

impl Health {
    /// Whether there is a quorum; `None` if the servers that were not reached may hold one, or complete it.
    pub fn has_quorum(&self) -> Option<bool> {
        if self.healthy_voters >= self.quorum {
            return Some(true);
        }
        // What was reached may be cut off from a quorum of the others.
        (self.healthy_voters + self.unreached_voters < self.quorum).then_some(false)
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// Too few voters are healthy.
    NoQuorum {
        /// How many are.
        healthy: usize,
        /// How many are needed.
        quorum: usize,
        /// How many there are.
        voters: usize,
    },
    /// Too few voters are known to be healthy, and with those that were not reached there may be enough.
    QuorumUnknown {
        /// How many are.
        healthy: usize,
        /// How many were not reached.
        unreached: usize,
        /// How many are needed.
        quorum: usize,
        /// How many there are.
        voters: usize,
    },
    /// Not all follow one leader.
    Leaders,
    /// A server was not reached.
    Unreached(String, String),
    /// A member's service does not run.
    Stopped(String, String),
    /// Another process has a port of a member that does not run.
    PortTaken(String, u16, String),
    /// A disk is slow: milliseconds for a synchronous write.
    SlowDisk(String, f64),
    /// The longest round trip is too long for an election timeout: milliseconds, both.
    Timing(Pair, f64, u32),
    /// Packets are lost on the way: percent, on the worst of the ways.
    Lossy(Pair, f64),
    /// A member does not answer, or takes part in no quorum.
    Unhealthy(String, String),
    /// The member list doesn't have a server's member.
    NotListed(String),
    /// The member list has one that no server runs.
    Foreign(String),
    /// A member raised an alarm.
    Alarm(String, String),
    /// An alarm is raised by one that no server runs, so that no server's member has it.
    AlarmElsewhere(String, String),
    /// A backend is nearly full: percent.
    NearlyFull(String, u64),
    /// A certificate ends soon, or has: kind and days.
    Certificate(String, String, i64),
    /// A server takes no snapshots by itself, where it is to.
    Snapshots(String, String),
    /// Two servers whose clocks differ most.
    Clocks(String, String, i64),
    /// A server has another address for a peer than it should.
    Address(Pair),
    /// A directed pair is not connected.
    Disconnected(Pair),
}

/// Judges.
pub fn judge(looks: &BTreeMap<String, Look>, pairs: &[Pair], elsewhere: &Elsewhere) -> Health {
    let listed = looks.values().any(|look| look.standing.is_some());
    let votes = |look: &Look| !listed || look.standing == Some(Standing::Voter);
    let healthy = |look: &Look| look.unreached.is_none() && look.service.is_none() && look.unhealthy.is_none();
    let voters = looks.values().filter(|look| votes(look)).count() + elsewhere.members.len();
    let needed = quorum(voters);
    let mut by_network: BTreeMap<&str, usize> = BTreeMap::new();
    for look in looks.values() {
        *by_network.entry(&look.network).or_default() += usize::from(votes(look) && healthy(look));
    }
    let healthy_voters: usize = by_network.values().sum();
    let expendable = by_network.iter().filter(|(_, held)| healthy_voters - **held >= needed);
    let mut health = Health {
        voters,
        quorum: needed,
        healthy_voters,
        failures_tolerated: healthy_voters.saturating_sub(needed),
        expendable_networks: expendable.map(|(network, _)| (*network).to_owned()).collect(),
        clock_difference_ms: 0,
        unreached_voters: looks
            .values()
            .filter(|look| votes(look) && look.unreached.is_some())
            .count(),
        problems: Vec::new(),
    };
    match health.has_quorum() {
        Some(true) => {}
        Some(false) => health.problems.push(Problem::NoQuorum {
            healthy: healthy_voters,
            quorum: needed,
            voters,
        }),
        None => health.problems.push(Problem::QuorumUnknown {
            healthy: healthy_voters,
            unreached: health.unreached_voters,
            quorum: needed,
            voters,
        }),
    }
    let leaders: BTreeSet<u64> = looks
        .values()
        .filter_map(|look| look.leader)
        .filter(|id| *id != 0)
        .collect();
    if leaders.len() > 1 {
        health.problems.push(Problem::Leaders);
    }
    for (name, look) in looks {
        health.problems.extend(problems_of(name, look));
    }
    health
        .problems
        .extend(elsewhere.members.iter().cloned().map(Problem::Foreign));
    let alarms = elsewhere.alarms.iter().cloned();
    health
        .problems
        .extend(alarms.map(|(who, alarm)| Problem::AlarmElsewhere(who, alarm)));
    if let Some((one, other, apart)) = clocks(looks) {
        health.clock_difference_ms = apart;
        if apart > CLOCKS_APART_MS {
            health.problems.push(Problem::Clocks(one, other, apart));
        }
    }
    for pair in pairs {
        if pair.address.is_some() && pair.expected_address.is_some() && pair.address != pair.expected_address {
            health.problems.push(Problem::Address(pair.clone()));
        }
        // Of one that is down it is said already.
        let down = |look: &Look| look.unreached.is_some() || look.service.is_some();
        let disconnected = pair.connected == Some(false) || pair.unreachable.is_some();
        if disconnected && !looks.get(&pair.to).is_some_and(down) {
            health.problems.push(Problem::Disconnected(pair.clone()));
        }
    }
    health.problems.extend(too_far(looks, pairs));
    health.problems.extend(lossy(pairs));
    health
}

/// The two servers that are farthest from each other, if that is too far for the shortest election timeout.
fn too_far(looks: &BTreeMap<String, Look>, pairs: &[Pair]) -> Option<Problem> {
    let election = looks.values().filter_map(|look| look.election_timeout_ms).min()?;
    // Either direction has connections of its own: the shorter of both is no accident of one of them.
    let shorter = |pair: &Pair| {
        let back = pairs.iter().find(|back| back.from == pair.to && back.to == pair.from);
        Some(pair.round_trip_ms?.min(back?.round_trip_ms?))
    };
    let (pair, longest) = { pairs.iter().filter_map(|pair| Some((pair, shorter(pair)?))) }
        .max_by(|one, other| one.1.total_cmp(&other.1))?;
    is_too_far(longest, election).then(|| Problem::Timing(pair.clone(), longest, election))
}

/// The way that loses most packets, if it is poor.
fn lossy(pairs: &[Pair]) -> Option<Problem> {
    let losses = pairs.iter().filter_map(|pair| Some((pair, pair.loss_percent()?)));
    let (pair, most) = losses.max_by(|one, other| one.1.total_cmp(&other.1))?;
    (most >= LOSSY_PERCENT).then(|| Problem::Lossy(pair.clone(), most))
}

fn problems_of(name: &str, look: &Look) -> Vec<Problem> {
    let name = || name.to_owned();
    let mut problems = Vec::new();
    match (&look.unreached, &look.service, &look.unhealthy) {
        (Some(why), ..) => problems.push(Problem::Unreached(name(), why.clone())),
        (None, Some(state), _) => problems.push(Problem::Stopped(name(), state.clone())),
        (None, None, Some(why)) => problems.push(Problem::Unhealthy(name(), why.clone())),
        (None, None, None) => {}
    }
    problems
        .extend({ look.ports_taken.iter() }.map(|(port, process)| Problem::PortTaken(name(), *port, process.clone())));
    problems.extend(slow_disk(look.fsyncs).map(|ms| Problem::SlowDisk(name(), ms)));
    if look.standing == Some(Standing::Stranger) {
        problems.push(Problem::NotListed(name()));
    }
    problems.extend(look.alarms.iter().map(|alarm| Problem::Alarm(name(), alarm.clone())));
    if let Some((size, quota)) = look.size.filter(|(_, quota)| *quota > 0) {
        let percent = size.saturating_mul(100) / quota;
        if percent >= NEARLY_FULL_PERCENT {
            problems.push(Problem::NearlyFull(name(), percent));
        }
    }
    let ending = look
        .certificate_days
        .iter()
        .filter(|(_, days)| **days < CERTIFICATE_DAYS);
    problems.extend(ending.map(|(kind, days)| Problem::Certificate(name(), kind.clone(), *days)));
    problems.extend(look.snapshots.iter().map(|why| Problem::Snapshots(name(), why.clone())));
    problems
}

/// Whether a round trip is too long for an election timeout, both in ms.
fn is_too_far(round_trip: f64, election: u32) -> bool {
    round_trip * ROUND_TRIPS_IN_ELECTION > f64::from(election)
}

/// What is remarkable about a member that has been verified, though it is up.
#[derive(Clone, Debug, PartialEq)]
pub enum Remark {
    /// Its disk is slow: ms for a synchronous write.
    SlowDisk(f64),
    /// Its server's clock differs from that of the machine that runs Terraform: by so many ms at least.
    Clock(i64),
    /// A peer is too far for its election timeout: who, and both in ms.
    Far(String, f64, u32),
}

/// What is remarkable, of the disk (see [`slow_disk`]), of the clock (the difference and how much of that may be wrong, in ms), and of the round trips
/// to its peers, in ms.
pub fn remarks(
    fsyncs: Option<Fsyncs>,
    clock: Option<(i64, i64)>,
    round_trips: &BTreeMap<String, f64>,
    election: u32,
) -> Vec<Remark> {
    let mut remarks: Vec<Remark> = slow_disk(fsyncs).map(Remark::SlowDisk).into_iter().collect();
    let apart = clock.map(|(ms, uncertainty)| (ms, ms.saturating_abs().saturating_sub(uncertainty)));
    remarks.extend(
        apart
            .filter(|(_, least)| *least > CLOCKS_APART_MS)
            .map(|(ms, _)| Remark::Clock(ms)),
    );
    let farthest = round_trips.iter().max_by(|one, other| one.1.total_cmp(other.1));
    let far = farthest.filter(|(_, ms)| is_too_far(**ms, election));
    remarks.extend(far.map(|(peer, ms)| Remark::Far(peer.clone(), *ms, election)));
    remarks
}

/// A disk that is slow: how many ms a synchronous write takes. A moment in which it stood still does not make it one.
pub fn slow_disk(fsyncs: Option<Fsyncs>) -> Option<f64> {
    let slow = fsyncs.filter(|all| all.tell() && all.mean_ms > WRITE_REFUSED_MS && all.slow * 2 > all.writes)?;
    Some(slow.mean_ms)
}

/// The two servers whose clocks differ most, and by how much at least.
fn clocks(looks: &BTreeMap<String, Look>) -> Option<(String, String, i64)> {
    let clocks: Vec<(&String, i64, i64)> = looks
        .iter()
        .filter_map(|(name, look)| look.clock.map(|(ms, uncertainty)| (name, ms, uncertainty)))
        .collect();
    let pairs = clocks
        .iter()
        .flat_map(|one| clocks.iter().map(move |other| (one, other)));
    let apart = pairs.map(|((behind, low, low_wrong), (ahead, high, high_wrong))| {
        let least = high
            .saturating_sub(*low)
            .saturating_sub(*low_wrong)
            .saturating_sub(*high_wrong);
        ((*behind).clone(), (*ahead).clone(), least.max(0))
    });
    apart.max_by_key(|(_, _, least)| *least)
}

#[cfg(test)]
mod tests;
