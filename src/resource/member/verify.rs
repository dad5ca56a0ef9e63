//! Whether a member came up: how many founders run, whether it answers, and whether every directed pair is connected.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::bring_up::BringUp;
use super::errors::BringUpError;
use super::log;
use super::observe::{self, Look};
use super::talk::{Talk, TalkError};
use crate::etcd::api::{ApiError, Status};
use crate::etcd::metrics::active_peers;
use crate::host::{ClockOffset, Host, Output, PRIVILEGE, Script};
use crate::membership::damage::Damage;
use crate::membership::health::{Fsyncs, Remark, remarks};
use crate::membership::links;
use crate::membership::member::Service;
use crate::resource::cluster::servers::{on_each, root_file};
use crate::resource::round_trips;
use crate::resource::silence::Waited;
use crate::topology::timing;

/// How long the directed pairs may take to connect once the member answers.
const VERIFY: Duration = Duration::from_secs(60);
/// How long one look at the member's health may take: it does not answer before it has a quorum.
const HEALTH: Duration = Duration::from_secs(5);
/// How long a server may take to say whether its founder has started: ten seconds of it to wait for that. One that is cut off says nothing.
const STARTS: Duration = Duration::from_secs(15);

/// The longest pause between two looks at the directed pairs.
const LOOKS: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Default)]
pub struct Verified {
    /// Listed members whose connections were not verified, as they did not answer before either.
    pub outside: Vec<String>,
    /// What is remarkable about the member, though it is up.
    pub remarks: Vec<Remark>,
}

/// Why a look at the directed pairs was not the last one.
enum Lacks {
    /// Some are not connected, in words.
    Links(Vec<String>),
    /// The member list.
    Answer(ApiError),
}

impl BringUp<'_> {
    /// Connects to the founders while they start, which takes them seconds: what verifies them then waits for their answers only.
    pub(super) async fn connect_early(&self) {
        self.founding.notified().await;
        let Ok(talk) = self.talk() else { return };
        let own = talk.connect_early(&self.member.server, true);
        let founders = self.member.remaining_founders();
        let all = founders.iter().map(|name| talk.connect_early(name, false));
        tokio::join!(own, join_all(all));
    }

    /// How many founding members run, as far as their servers can be reached.
    pub(super) async fn count_founders(&self) -> usize {
        let founders = self.member.remaining_founders();
        let mut others = self.member.cluster.servers.clone();
        others.retain(|name, _| founders.contains(name) && *name != self.member.server);
        let started = on_each(self.road, &others, HEALTH, false, |_, host| async move {
            let script = Script::new("seeing whether the founder has started")
                .set("cluster", &self.member.cluster.name)
                .set("unit", self.layout.unit_name())
                .line(include_str!("../await_start.sh"))
                .line(include_str!("started.sh"));
            match timeout(STARTS, host.run_checked(&script)).await {
                Ok(output) => Ok(output?.value("started").is_some()),
                Err(_) => Ok(false),
            }
        })
        .await;
        1 + started.values().flatten().filter(|started| **started).count()
    }

    /// What the member says of itself, if it answers as one of a cluster with a leader.
    pub(super) async fn answer(&self, talk: &Talk<'_>) -> Result<Status, TalkError> {
        let api = talk.to(&self.member.server, HEALTH).await?;
        match api.status(HEALTH).await? {
            status if status.has_leader() => Ok(status),
            _ => Err(TalkError::Api(ApiError::NoLeader {
                member: self.member.server.clone(),
            })),
        }
    }

    async fn well(&self, talk: &Talk<'_>, caught_up: bool) -> Result<Status, TalkError> {
        let status = self.answer(talk).await?;
        if caught_up && !status.is_learner {
            // A linearizable read waits until the member has applied what the leader has committed.
            let api = talk.to(&self.member.server, HEALTH).await?;
            api.confirm_quorum(HEALTH).await?;
        }
        Ok(status)
    }

    /// Waits until the member answers as one of a cluster with a leader.
    /// With `caught_up`, a voter has to have applied all that the cluster has committed, too.
    pub(super) async fn await_health(&self, host: &Host, caught_up: bool) -> Result<Status, BringUpError> {
        let began = Instant::now();
        let mut waited = Waited::from_now();
        let talk = self.talk()?;
        loop {
            let last = match self.well(talk, caught_up).await {
                Ok(status) => return Ok(status),
                Err(last) => last,
            };
            match observe::observe(host, self.member, self.layout, Look::default()).await {
                Ok(seen) if seen.service != Service::Running => {
                    return Err(BringUpError::Failed {
                        server: self.member.server.clone(),
                        log: self.log(host).await,
                    });
                }
                Ok(_) => {}
                // Nothing is changed here, so a connection that was lost is only made anew.
                Err(error) if error.is_of_the_connection() => tracing::debug!(%error, "looking again"),
                Err(error) => return Err(error.into()),
            }
            // etcd from 3.5 on waits on a connection that fell silent as long as the kernel does, and sends into it meanwhile.
            waited.mend(self.end_silence()).await;
            if self.road.pause(Duration::from_millis(100)).await.is_err() {
                return Err(BringUpError::Stopped { runs: true });
            }
            if Instant::now() >= self.deadline {
                return Err(self.no_health(host, began, last).await);
            }
        }
    }

    pub(super) async fn no_health(&self, host: &Host, began: Instant, last: TalkError) -> BringUpError {
        let log = self.log(host).await;
        BringUpError::NoHealth {
            server: self.member.server.clone(),
            waited: began.elapsed(),
            last: Box::new(last),
            log,
        }
    }

    /// Waits until every member reaches every other one, as far as they are in `scope`, this one included.
    pub(super) async fn verify(&self, host: &Host, scope: Option<&BTreeSet<String>>) -> Result<Verified, BringUpError> {
        let began = Instant::now();
        let until = self.deadline.min(began + VERIFY);
        let talk = self.talk()?;
        let api = match talk.to(&self.member.server, HEALTH).await {
            Ok(api) => api,
            Err(last) => return Err(self.no_health(host, began, last).await),
        };
        let in_scope = |name: &String| *name == self.member.server || scope.is_none_or(|scope| scope.contains(name));
        let all = self.topology.servers().keys().map(ToString::to_string);
        let mut asked: Vec<String> = all.filter(in_scope).collect();
        let mut pause = Duration::from_millis(50);
        let mut waited = Waited::from_now();
        let mut marked = self.existed;
        loop {
            let mark = async {
                if !std::mem::replace(&mut marked, true) {
                    self.mark(host).await;
                }
            };
            let (listed, metrics, looked, ()) = tokio::join!(
                api.members(HEALTH),
                talk.metrics_of(&asked, HEALTH),
                self.look_around(host),
                mark
            );
            let lacks = match listed {
                // It has answered before: a machine that is busy has not gone.
                Err(last) => Lacks::Answer(last),
                Ok(members) => {
                    let names = talk.names_of(&members);
                    let outside: Vec<String>;
                    (asked, outside) = names
                        .values()
                        .cloned()
                        .partition(|name| in_scope(name) && !self.unreached(name));
                    let reached = links::by_name(&active_peers(&metrics), &names);
                    let missing = links::missing(&asked, &reached);
                    if missing.is_empty() {
                        let own = metrics.get(&self.member.server);
                        let fsyncs = own.and_then(|own| own.fsyncs(None)).map(Fsyncs::from);
                        return Ok(Verified {
                            outside,
                            remarks: self.remarks(looked.as_ref(), fsyncs),
                        });
                    }
                    let mut lines: Vec<String> = missing
                        .iter()
                        .map(|(from, to)| self.describe_link(from, to, reached.contains_key(from)))
                        .collect();
                    // Who was not asked is said once, and not for each of the others.
                    lines.dedup();
                    Lacks::Links(lines)
                }
            };
            if Instant::now() >= until {
                return Err(match lacks {
                    Lacks::Links(lines) => BringUpError::Links(lines),
                    Lacks::Answer(last) => self.no_health(host, began, last.into()).await,
                });
            }
            waited.mend(self.end_silence()).await;
            if self.road.pause(pause).await.is_err() {
                return Err(BringUpError::Stopped { runs: true });
            }
            // Each look is a connection to every member, and many clusters may be looked at at once.
            pause = (pause * 2).min(LOOKS);
        }
    }

    /// Leaves the mark that the cluster was founded, once its new member has answered as one of a quorum. The mark outlives the data.
    async fn mark(&self, host: &Host) {
        let path = self.layout.founded().to_string();
        let script = Script::new("noting that the cluster is founded")
            .line(PRIVILEGE)
            .write_file(&root_file(path, self.member.cluster.token()));
        // Nothing depends on it while there is data.
        if let Ok(Err(error)) = timeout(HEALTH, host.run_checked(&script)).await {
            tracing::debug!(%error, "the mark was not left");
        }
    }

    /// How the clock and the lines of the server are. Who has just been founded was looked at by the preflight.
    async fn look_around(&self, host: &Host) -> Option<(Output, SystemTime)> {
        if !self.existed {
            return None;
        }
        let ports: Vec<String> = self.topology.peer_ports().iter().map(u16::to_string).collect();
        let script = Script::new("looking at the server's clock and lines").line("tell date_first \"$(date +%s.%N)\"");
        let script = round_trips::append(script)
            .set("ports", ports.join(" "))
            .line("report_round_trips \"$ports\"\ntell date_last \"$(date +%s.%N)\"");
        let output = timeout(HEALTH, host.run_checked(&script)).await.ok()?.ok()?;
        Some((output, SystemTime::now()))
    }

    fn remarks(&self, looked: Option<&(Output, SystemTime)>, fsyncs: Option<Fsyncs>) -> Vec<Remark> {
        let clock = looked.and_then(|(output, received)| ClockOffset::of(output, *received));
        let measured = looked.map(|(output, _)| round_trips::read(output)).unwrap_or_default();
        let peers = self.topology.servers().keys().filter_map(|peer| {
            let dialled = self.topology.dials(&self.member.server, peer.as_str()).ok()?;
            Some((peer.to_string(), *measured.get(&dialled.to_string())?))
        });
        let election = self
            .member
            .cluster
            .election_timeout
            .unwrap_or(timing::DEFAULT.election_ms);
        remarks(
            fsyncs,
            clock.map(|clock| (clock.ms, clock.uncertainty_ms)),
            &peers.collect(),
            election,
        )
    }

    fn unreached(&self, name: &str) -> bool {
        let server = self.member.cluster.servers.get(name);
        server.is_some_and(|server| self.road.is_unreached(server))
    }

    pub(super) fn describe_link(&self, from: &str, to: &str, asked: bool) -> String {
        if !asked {
            return format!("  {from} does not answer, so it is not known whom it reaches");
        }
        match self.topology.dials(from, to) {
            Ok(to_address) => format!(
                "  {from} does not reach {to}, which it dials at {} port {}: let TCP from {from} through to it",
                to_address.ip(),
                to_address.port()
            ),
            Err(error) => format!("  {from} does not reach {to}: {error}"),
        }
    }

    /// The member's log, and what can be done if its data is damaged.
    pub(super) async fn log(&self, host: &Host) -> String {
        let found = log::read(host, self.layout).await;
        let Some(damage) = found.damage else {
            return found.lines;
        };
        format!("{}{}", found.lines, self.advice(&damage).await)
    }

    /// What can be done about damaged data, and whether that is safe now.
    pub(super) async fn advice(&self, damage: &Damage) -> String {
        let down = self.who_is_down().await;
        let others = self.member.cluster.servers.len().saturating_sub(1);
        let down = down.iter().filter(|one| one.server != self.member.server).count();
        damage.advice(&self.member.server, others, others.saturating_sub(down))
    }
}
