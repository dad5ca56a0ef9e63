//! What a preflight found, to what stands in the way of the servers that are to form a cluster or to join one.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use table::table;

/// etcd itself warns from here on (`rafthttp/probing_status.go`).
pub const CLOCK_WARNS_MS: i64 = 1000;
/// So far off is only a clock that nobody keeps.
pub const CLOCK_REFUSED_MS: i64 = 10_000;
/// etcd's own measure for a disk that is quick enough (its FAQ): nearly all of its synchronous writes take less. Of a few dozen, some may be
/// late for other reasons, so it takes one of four to be warned of.
pub const WRITE_WARNS_MS: f64 = 10.0;
/// A disk on which every second write takes longer than a heartbeat loses the leadership again and again.
pub const WRITE_REFUSED_MS: f64 = 100.0;
/// etcd's default quota for its database (`quota-backend-bytes`).
pub const FREE_WARNS_MIB: u64 = 2048;
/// Two segments of the write-ahead log, which etcd allocates beforehand, and as much again.
pub const FREE_REFUSED_MIB: u64 = 256;
/// From here on every write is felt to wait for the network.
pub const ROUND_TRIP_WARNS_MS: f64 = 150.0;
/// Packets of a hundred that were lost, from which on streams stall noticeably.
pub const LOSS_WARNS_PERCENT: f64 = 0.5;
/// So few may be lost by chance.
const LOST_BY_CHANCE: u64 = 2;
/// Who has no name among the servers.
const TERRAFORM: &str = "the machine that runs Terraform";

/// What was found, as far as it was looked for.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// By the names of the servers.
    pub servers: BTreeMap<String, Server>,
    /// The directed pairs that were dialled.
    pub pairs: Vec<Pair>,
}

impl Findings {
    /// A round trip is as long from the one end as from the other; what one measured above that was its own doing.
    pub fn settle_round_trips(&mut self) {
        let trips: Vec<(String, String, f64)> = self
            .pairs
            .iter()
            .filter_map(|pair| match &pair.outcome {
                Outcome::Open(trip) => Some((pair.from.clone(), pair.to.clone(), trip.round_trip_ms?)),
                _ => None,
            })
            .collect();
        for pair in &mut self.pairs {
            let Outcome::Open(trip) = &mut pair.outcome else {
                continue;
            };
            let Some(own) = trip.round_trip_ms else { continue };
            let other = trips.iter().find(|(from, to, _)| *from == pair.to && *to == pair.from);
            trip.round_trip_ms = Some(other.map_or(own, |(.., other)| own.min(*other)));
        }
    }
}

/// What was found on one server.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// Its network.
    pub network: String,
    /// Whether it is to get its member yet.
    pub new: bool,
    /// Its clock minus ours in ms, and how much of that may be wrong.
    pub clock: Option<(i64, i64)>,
    /// The ports that its member needs and another process has.
    pub ports_taken: Vec<(u16, String)>,
    /// The disk of its data.
    pub disk: Option<Disk>,
}

/// A disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The directory that was looked at.
    pub place: String,
    /// What is free there.
    pub free_mib: Option<u64>,
    /// How long each synchronous write took, in ms.
    pub writes_ms: Vec<f64>,
}

/// One server dialled another one's peer port.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Who dialled.
    pub from: String,
    /// Who was dialled.
    pub to: String,
    /// Where.
    pub address: SocketAddr,
    /// The addresses that it may come from, the likeliest first.
    pub expected_sources: Vec<IpAddr>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of dialling.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It could not be tried, for this reason.
    Untried(String),
    /// No connection, for this reason.
    Closed(String),
    /// Something that is no server of the cluster answered.
    Stranger,
    /// Another server of the cluster answered.
    Other(String),
    /// The right one answered.
    Open(Trip),
}

/// What a connection showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trip {
    /// A round trip, in ms.
    pub round_trip_ms: Option<f64>,
    /// The address that the one who was dialled saw it come from.
    pub source: Option<IpAddr>,
    /// How many packets with data were sent, and how many of these again because they were lost.
    pub packets: Option<(u64, u64)>,
    /// How much of a larger message arrived at the one who was dialled.
    pub out: Option<Bulk>,
    /// How much of one arrived at the one who dialled.
    pub back: Option<Bulk>,
}

/// A larger message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Its bytes.
    pub sent: u64,
    /// Those that arrived in time.
    pub arrived: u64,
}

/// What it amounts to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What keeps the servers from forming a cluster that works.
    pub refusals: Vec<Refusal>,
    /// What makes it slow, or could not be looked at.
    pub warnings: Vec<Warning>,
    /// The longest round trip between two servers, in ms.
    pub longest_round_trip_ms: Option<f64>,
    /// The addresses that servers were seen to come from, and were not expected to.
    pub sources: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// One server does not reach another one as it should.
    Pair {
        /// Who dials.
        from: String,
        /// Who is dialled.
        to: String,
        /// Where.
        address: SocketAddr,
        /// What happened.
        what: String,
        /// What to open or mend.
        remedy: String,
    },
    /// Another process has a port.
    Port(String, u16, String),
    /// A clock is off by so many ms.
    Clock(String, i64),
    /// Synchronous writes take so long: the directory, and every second write's time in ms at least.
    SlowDisk(String, String, f64),
    /// A disk has so little space left: the directory and MiB.
    FullDisk(String, String, u64),
}

/// Something that may be lived with.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// Between two networks: the longest round trip in ms, and what part of the packets was lost, in percent.
    Slow(String, String, Option<f64>, Option<f64>),
    /// A larger message did not arrive whole in time: from, to, and how much of it did.
    Trickle(String, String, u64, u64),
    /// A clock is off by so many ms.
    Clock(String, i64),
    /// Synchronous writes are slow: the directory, and what one of four takes at least, in ms.
    SlowDisk(String, String, f64),
    /// A disk has not much space: the directory and MiB.
    FullDisk(String, String, u64),
    /// A pair could not be tried.
    Untried(String, String, String),
}

/// Judges.
pub fn judge(findings: &Findings) -> Verdict {
    let mut verdict = Verdict::default();
    for (name, server) in &findings.servers {
        let ports = server.ports_taken.iter();
        let ports = ports.map(|(port, by)| Refusal::Port(name.clone(), *port, by.clone()));
        verdict.refusals.extend(ports);
    }
    for pair in &findings.pairs {
        judge_pair(pair, &mut verdict);
    }
    judge_clocks(&findings.servers, &mut verdict);
    for (name, disk) in findings
        .servers
        .iter()
        .filter_map(|(name, server)| Some((name, server.disk.as_ref()?)))
    {
        judge_disk(name, disk, &mut verdict);
    }
    verdict.warnings.extend(slow_links(findings));
    let unexpected: BTreeMap<String, BTreeSet<IpAddr>> =
        findings.pairs.iter().fold(BTreeMap::new(), |mut all, pair| {
            if let Outcome::Open(Trip {
                source: Some(source), ..
            }) = pair.outcome
                && !pair.expected_sources.contains(&source)
            {
                all.entry(pair.from.clone())
                    .or_insert_with(BTreeSet::new)
                    .insert(source);
            }
            all
        });
    verdict.sources = unexpected;
    verdict
}

fn judge_pair(pair: &Pair, verdict: &mut Verdict) {
    let refuse = |what: String, remedy: String| Refusal::Pair {
        from: pair.from.clone(),
        to: pair.to.clone(),
        address: pair.address,
        what,
        remedy,
    };
    let leads_elsewhere = || format!("let {} lead to {}", pair.address, pair.to);
    match &pair.outcome {
        Outcome::Closed(why) => {
            let source = pair
                .expected_sources
                .first()
                .map(|source| format!(" ({source})"))
                .unwrap_or_default();
            let remedy = format!(
                "TCP from {}{source} to {} port {}",
                pair.from,
                pair.to,
                pair.address.port()
            );
            verdict.refusals.push(refuse(why.clone(), remedy));
        }
        Outcome::Stranger => verdict
            .refusals
            .push(refuse("something else answers there".to_owned(), leads_elsewhere())),
        Outcome::Other(name) => verdict
            .refusals
            .push(refuse(format!("{name} answers there"), leads_elsewhere())),
        Outcome::Untried(why) => {
            verdict
                .warnings
                .push(Warning::Untried(pair.from.clone(), pair.to.clone(), why.clone()))
        }
        Outcome::Open(trip) => {
            let longest = [verdict.longest_round_trip_ms, trip.round_trip_ms]
                .into_iter()
                .flatten();
            verdict.longest_round_trip_ms = longest.max_by(f64::total_cmp);
            let ways = [(&trip.out, &pair.from, &pair.to), (&trip.back, &pair.to, &pair.from)];
            for (bulk, from, to) in ways
                .into_iter()
                .filter_map(|(bulk, from, to)| Some(((*bulk)?, from, to)))
            {
                if bulk.arrived == 0 {
                    let what = format!("open, but larger messages from {from} don't arrive");
                    let remedy = format!("ICMP \"fragmentation needed\" to {from}, or a smaller MTU there");
                    verdict.refusals.push(refuse(what, remedy));
                } else if bulk.arrived < bulk.sent {
                    let warning = Warning::Trickle(from.clone(), to.clone(), bulk.arrived, bulk.sent);
                    verdict.warnings.push(warning);
                }
            }
        }
    }
}

/// Each clock against the one in the middle, ours among them: so with two servers already it is plain which one is off.
fn judge_clocks(servers: &BTreeMap<String, Server>, verdict: &mut Verdict) {
    let mut clocks: Vec<(&str, i64, i64)> = servers
        .iter()
        .filter_map(|(name, server)| server.clock.map(|(ms, uncertain)| (name.as_str(), ms, uncertain)))
        .collect();
    if clocks.is_empty() {
        return;
    }
    clocks.push((TERRAFORM, 0, 0));
    clocks.sort_by_key(|(_, ms, _)| *ms);
    // Of two in the middle it is the one that is closer to ours.
    let middles = [clocks[(clocks.len() - 1) / 2], clocks[clocks.len() / 2]];
    let Some((_, middle, middle_uncertain)) = middles.into_iter().min_by_key(|(_, ms, _)| ms.saturating_abs()) else {
        return;
    };
    for (name, ms, uncertain) in clocks {
        let off = ms.saturating_sub(middle);
        let least = off
            .saturating_abs()
            .saturating_sub(uncertain)
            .saturating_sub(middle_uncertain);
        // Ours only has to do with when certificates begin, and these begin an hour before; one of a member that runs is old news.
        if least > CLOCK_REFUSED_MS && servers.get(name).is_some_and(|server| server.new) {
            verdict.refusals.push(Refusal::Clock(name.to_owned(), off));
        } else if least > CLOCK_WARNS_MS {
            verdict.warnings.push(Warning::Clock(name.to_owned(), off));
        }
    }
}

fn judge_disk(name: &str, disk: &Disk, verdict: &mut Verdict) {
    let mut writes = disk.writes_ms.clone();
    writes.sort_by(f64::total_cmp);
    let (name, place) = (name.to_owned(), disk.place.clone());
    if let Some(every_second) = writes.get(writes.len() / 2).filter(|ms| **ms > WRITE_REFUSED_MS) {
        let refusal = Refusal::SlowDisk(name.clone(), place.clone(), *every_second);
        verdict.refusals.push(refusal);
    } else if let Some(one_of_four) = writes.get(writes.len() * 3 / 4).filter(|ms| **ms > WRITE_WARNS_MS) {
        let warning = Warning::SlowDisk(name.clone(), place.clone(), *one_of_four);
        verdict.warnings.push(warning);
    }
    match disk.free_mib {
        Some(mib) if mib < FREE_REFUSED_MIB => verdict.refusals.push(Refusal::FullDisk(name, place, mib)),
        Some(mib) if mib < FREE_WARNS_MIB => verdict.warnings.push(Warning::FullDisk(name, place, mib)),
        _ => {}
    }
}

/// The slow ones among the links between two networks. A path is the same for all servers of a network, and packets of one
/// connection are too few to tell what part of them is lost.
fn slow_links(findings: &Findings) -> Vec<Warning> {
    #[derive(Default)]
    struct Link {
        round_trip: Option<f64>,
        sent: u64,
        lost: u64,
    }
    let network = |name: &str| findings.servers.get(name).map_or("", |server| server.network.as_str());
    let mut links: BTreeMap<(&str, &str), Link> = BTreeMap::new();
    for pair in &findings.pairs {
        let Outcome::Open(trip) = &pair.outcome else { continue };
        let (one, other) = (network(&pair.from), network(&pair.to));
        let link = links.entry((one.min(other), one.max(other))).or_default();
        let longest = [link.round_trip, trip.round_trip_ms].into_iter().flatten();
        link.round_trip = longest.max_by(f64::total_cmp);
        let (sent, lost) = trip.packets.unwrap_or_default();
        link.sent = link.sent.saturating_add(sent);
        link.lost = link.lost.saturating_add(lost);
    }
    let slow = links.into_iter().filter_map(|((one, other), link)| {
        let round_trip = link.round_trip.filter(|ms| *ms >= ROUND_TRIP_WARNS_MS);
        let loss = percent(link.lost, link.sent)
            .filter(|percent| *percent >= LOSS_WARNS_PERCENT && link.lost > LOST_BY_CHANCE);
        (round_trip.is_some() || loss.is_some())
            .then(|| Warning::Slow(one.to_owned(), other.to_owned(), link.round_trip, loss))
    });
    slow.collect()
}

/// How many of a hundred packets were lost.
#[allow(clippy::cast_precision_loss)]
pub fn percent(lost: u64, sent: u64) -> Option<f64> {
    // More than all can't be lost.
    (sent > 0).then(|| lost.min(sent) as f64 * 100.0 / sent as f64)
}

fn seconds(ms: i64) -> String {
    let tenths = ms.unsigned_abs() / 100;
    let direction = if ms < 0 { "behind" } else { "ahead of" };
    format!("{}.{} s {direction}", tenths / 10, tenths % 10)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair {
                from,
                to,
                address,
                what,
                remedy,
            } => {
                write!(
                    f,
                    "{from} does not reach {to} at {address}: {what}; let through or mend: {remedy}"
                )
            }
            Self::Port(server, port, process) => write!(f, "{server}: {}", super::founding::port_taken(*port, process)),
            Self::Clock(server, ms) => write!(
                f,
                "{server}: its clock is {} the others. Let a time service (chrony, systemd-timesyncd) keep it",
                seconds(*ms)
            ),
            Self::SlowDisk(server, place, ms) => write!(
                f,
                "{server}: every second synchronous write to {place} takes {ms:.0} ms or more, and etcd waits for one at each \
                 change; {WRITE_WARNS_MS:.0} ms is what it wants. Give its data a quicker disk"
            ),
            Self::FullDisk(server, place, mib) => write!(
                f,
                "{server}: {mib} MiB are free in {place}, and etcd does not start well below {FREE_REFUSED_MIB} MiB. Make room there"
            ),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(one, other, round_trip, loss) => {
                if one == other {
                    write!(f, "Within network {one}")?;
                } else {
                    write!(f, "Between the networks {one} and {other}")?;
                }
                match (round_trip, loss) {
                    (Some(ms), Some(loss)) => write!(
                        f,
                        " a round trip takes up to {ms:.0} ms, and {loss:.1}% of the packets are lost"
                    ),
                    (Some(ms), None) => write!(f, " a round trip takes up to {ms:.0} ms"),
                    (None, loss) => write!(f, " {:.1}% of the packets are lost", loss.unwrap_or_default()),
                }?;
                f.write_str(": writes wait for that")
            }
            Self::Trickle(from, to, arrived, sent) => write!(
                f,
                "From {from} to {to} only {} of {} KiB arrived in time: the link is very slow, or busy",
                arrived / 1024,
                sent / 1024
            ),
            Self::Clock(server, ms) => write!(
                f,
                "The clock of {server} is {} the others: let a time service (chrony, systemd-timesyncd) keep it",
                seconds(*ms)
            ),
            Self::SlowDisk(server, place, ms) => write!(
                f,
                "On {server} one of four synchronous writes to {place} takes {ms:.0} ms or more; {WRITE_WARNS_MS:.0} ms is what etcd \
                 wants"
            ),
            Self::FullDisk(server, place, mib) => write!(
                f,
                "On {server} only {mib} MiB are free in {place}: less than the {FREE_WARNS_MIB} MiB that etcd's database may grow to"
            ),
            Self::Untried(from, to, why) => write!(f, "Whether {from} reaches {to} could not be tried: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
