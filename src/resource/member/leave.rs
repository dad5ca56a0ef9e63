//! A member leaves: out of the cluster first, then off the server.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::hand_over::hand_over;
use super::hang_up::hang_up;
use super::membership_changes::until_listed;
use super::model::MemberModel;
use super::observe::{self, Look, Seen};
use super::revoked;
use super::survey::{Survey, survey};
use super::talk::{Lent, Talk};
use super::turn::{Turn, TurnError};
use crate::etcd::api::{Api, Member};
use crate::etcd::layout::Layout;
use crate::etcd::names;
use crate::etcd::scheduled;
use crate::host::{Host, MOUNTS, PRIVILEGE, RunError, Script};
use crate::membership::leaving::{Fate, InThisRun, Leaving, Peer, Refusal, decide};
use crate::membership::member::{Data, Service};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::cluster::servers::stamp;
use crate::resource::mounted;
use crate::resource::road::{Road, RoadError};
use crate::resource::silence;
use crate::topology::Topology;

/// How long to wait for other members of the cluster that are to be destroyed in the same run, before this one begins to leave alone:
/// Terraform asks for them at the same time unless it may do only one thing at once. Whatever is said later is heeded too: this saves
/// changes of the member list, and decides nothing.
const TOGETHER: Duration = Duration::from_millis(300);
const QUESTION: Duration = Duration::from_secs(5);
/// How long to wait for a quorum that is not there at first: the one that left last may have led.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look again.
const AGAIN: Duration = Duration::from_secs(1);

/// A member that is to leave.
pub(super) struct Leave<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The member.
    pub member: &'a MemberModel,
    /// Its cluster's topology, as its state has it.
    pub topology: &'a Topology,
    /// Where its files are.
    pub layout: &'a Layout,
    /// Whether another one is to come in its place.
    pub fate: Fate,
    /// Whether the plan knew that the cluster stays.
    pub stays: bool,
    /// It must have left by then.
    pub deadline: Instant,
}

/// How a member begins to leave.
enum Way {
    /// All members of the cluster leave: there is nothing to wait for.
    Together,
    /// When it is its turn in the cluster's line.
    Alone(Turn),
}

impl Leave<'_> {
    /// Takes the member out of its cluster and off its server. A server that can't be reached is left as it is, with a warning.
    pub async fn run(&self) -> Diagnostics {
        let Some(server) = self.member.server() else {
            return Diagnostics::new();
        };
        // Said before the server is reached: how long that takes differs from one to the other, and nobody shall take this member for
        // one that stays.
        let token = self.member.cluster.token();
        if let (Fate::Gone, Err(error)) = (self.fate, self.road.leaves(token, &self.member.server)) {
            return self.failed(error.to_string());
        }
        let host = match self
            .road
            .connect(server, self.remaining().min(QUESTION * 3), false)
            .await
        {
            Ok(host) => Ok(host),
            Err(error @ RoadError::Connect(_)) if !self.road.stopped() => Err(error),
            Err(error) => return self.failed(error.to_string()),
        };
        let (how, turn) = match self.out_of_cluster(host.as_ref().ok()).await {
            Ok(how) => how,
            Err(detail) => return self.failed(detail),
        };
        let outcome = match host {
            Err(error) => self.left_behind(&how, &error).into(),
            Ok(host) => match self.off_the_server(&host, &how).await {
                Ok(diagnostics) => diagnostics,
                Err(error) => self.failed(error.to_string()),
            },
        };
        if let Some(turn) = turn {
            turn.end().await;
        }
        outcome
    }

    fn failed(&self, detail: String) -> Diagnostics {
        let summary = format!("Member {} can't leave", self.member.server);
        Diagnostic::error(summary, detail).at(Path::of("server")).into()
    }

    fn left_behind(&self, how: &Leaving, error: &RoadError) -> Diagnostic {
        let (name, cluster) = (&self.member.server, &self.member.cluster.name);
        let outcome = match how {
            Leaving::Rest => "Nothing of its cluster stays, and if its etcd runs, it was not stopped.",
            _ => "It is in its cluster no longer. If its etcd runs, it stops when it hears of that from the others.",
        };
        let timer =
            { self.member.snapshots.iter() }.map(|_| format!(" {}", scheduled::timer_name(self.layout.cluster())));
        let revoke = match revoked::listed(self.member) {
            Some(listed) => format!(
                " If others may have the machine or its disk: revoke its certificates, by adding {listed} to `tls.revoked` of the cluster, \
                 and replace the authorities (`tls.ca_rotation`). The guide \"A server that was stolen\" has the steps."
            ),
            None => String::new(),
        };
        let detail = format!(
            "{outcome}{revoke} If the machine ever comes back, run there: `systemctl disable --now {unit}{timer} {names}`, and remove {etc}, {unit_file}, \
             {names_files}, the user {user} and the lines of the cluster {cluster} in /etc/hosts. Its data is in {data}. The server could not be reached: {error}",
            unit = self.layout.unit_name(),
            timer = timer.collect::<String>(),
            names = names::path_name(self.layout.cluster()),
            names_files = names::paths(self.layout).join(", "),
            unit_file = self.layout.unit_file(),
            user = self.layout.user(),
            etc = self.layout.etc_dir(),
            data = self.layout.data_dir(),
        );
        Diagnostic::warning(format!("Server {name} was left as it is"), detail).at(Path::of("server"))
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Waits for this member's turn, or for all others to leave too.
    async fn way(&self) -> Result<Way, String> {
        let servers: BTreeSet<String> = self.member.cluster.servers.keys().cloned().collect();
        let alone = async {
            if self.fate == Fate::Gone {
                self.road.pause(TOGETHER).await?;
            }
            Turn::take(self.road, &self.member.cluster, self.deadline).await
        };
        let together = async {
            match self.fate {
                Fate::Gone if !self.stays => self.road.all_leave(self.member.cluster.token(), &servers).await,
                _ => std::future::pending().await,
            }
        };
        let way = tokio::select! {
            biased;
            all = together => all.map(|()| Way::Together).map_err(|error| error.to_string()),
            turn = alone => turn.map(Way::Alone).map_err(|error| not_its_turn(&error)),
        };
        if self.road.stopped() {
            return Err(RoadError::Stopped.to_string());
        }
        way
    }

    /// Takes the member out of the cluster, if it is in it and others stay. Says what was decided. The turn goes on until the member is
    /// off its server: another process may want one there.
    async fn out_of_cluster(&self, host: Option<&Host>) -> Result<(Leaving, Option<Turn>), String> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let mut turn = match self.way().await? {
                Way::Together => return Ok((Leaving::Rest, None)),
                Way::Alone(turn) => turn,
            };
            match self.alone(host, &mut turn).await {
                // Nobody stays who could want one, or answer.
                Ok(how @ Leaving::Rest) => {
                    turn.end().await;
                    return Ok((how, None));
                }
                Ok(Leaving::Refuse(refusal)) => {
                    turn.end().await;
                    // Those that are to join need turns of their own for that, and time.
                    let until = match refusal {
                        Refusal::Awaited { .. } => self.deadline,
                        _ => self.deadline.min(patience),
                    };
                    if !refusal.may_pass() || Instant::now() + AGAIN >= until {
                        return Err(format!("Nothing was changed: {refusal}."));
                    }
                    self.road.pause(AGAIN).await.map_err(|error| error.to_string())?;
                }
                // One less that counts: it is decided anew.
                Ok(Leaving::RemoveGivenUp) => turn.end().await,
                Ok(how) => return Ok((how, Some(turn))),
                Err(detail) => {
                    turn.end().await;
                    // The others may have been told to leave meanwhile, and what needs a quorum gets none any more.
                    if self.all_leave() {
                        return Ok((Leaving::Rest, None));
                    }
                    return Err(detail);
                }
            }
        }
    }

    fn all_leave(&self) -> bool {
        let leaving = self.road.leaving(self.member.cluster.token());
        let all = self.member.cluster.servers.keys().all(|name| leaving.contains(name));
        self.fate == Fate::Gone && !self.stays && all
    }

    async fn alone(&self, host: Option<&Host>, turn: &mut Turn) -> Result<Leaving, String> {
        let lent = match host {
            Some(host) => {
                let seen = self.observe(host, true).await.map_err(|error| error.to_string())?;
                seen.lent
            }
            None => None,
        };
        let lent = match lent {
            Some(lent) => Some(lent),
            None => self.borrowed().await,
        };
        let talk = Talk::borrow(self.road, &self.member.cluster, self.topology, lent);
        let look = async || match &talk {
            Some(talk) => survey(talk, self.member, self.topology).await,
            None => None,
        };
        let mut survey = look().await;
        if let Some(seen) = &survey
            && turn
                .lock(seen, self.deadline)
                .await
                .map_err(|error| not_its_turn(&error))?
        {
            // Somebody else has changed the cluster meanwhile.
            survey = look().await;
        }
        let token = self.member.cluster.token();
        let (leaving, coming) = (self.road.leaving(token), self.road.coming(token));
        let peers = survey.as_ref().map(|survey| peers(survey, self.topology));
        let others = self
            .member
            .cluster
            .servers
            .keys()
            .filter(|name| **name != self.member.server);
        let others: Vec<&String> = others.filter(|name| !leaving.contains(*name)).collect();
        let decided = |gone: &BTreeSet<String>| {
            let run = InThisRun {
                stays: self.stays,
                leaving: &leaving,
                coming: &coming,
                gone,
            };
            let others_run = others.iter().any(|name| !gone.contains(*name));
            decide(&self.member.server, self.fate, &run, peers.as_deref(), others_run)
        };
        let mut decision = decided(&BTreeSet::new());
        if let Leaving::Refuse(Refusal::Quorum { .. } | Refusal::NoQuorum) = decision {
            decision = decided(&self.gone(&leaving).await);
        }
        if let (Leaving::RemoveGivenUp, Some(survey)) = (&decision, &survey) {
            if let Some(other) = survey.given_up(self.topology) {
                self.remove_from_list(&survey.api, talk.as_ref(), other.id).await?;
            }
            return Ok(decision);
        }
        if let (Leaving::Remove, Some(survey), Some(talk)) = (&decision, survey, talk.as_ref()) {
            if let Some(host) = host {
                self.keep_mounts(host).await?;
            }
            if let Err(error) = hand_over(talk, &survey).await {
                // It costs an election and nothing more.
                tracing::debug!(%error, "the leader could not be moved");
            }
            hang_up(self.road, self.member, self.topology, self.layout, &survey).await;
            if let Some(id) = survey.own {
                self.remove_from_list(&survey.api, Some(talk), id).await?;
            }
        }
        Ok(decision)
    }

    async fn remove_from_list(&self, api: &Api, talk: Option<&Talk<'_>>, id: u64) -> Result<(), String> {
        let gone = |members: &[Member]| members.iter().all(|member| member.id != id);
        let remove = || api.member_remove(id, QUESTION);
        let mend = || silence::end(self.road, &self.member.cluster, self.topology, talk);
        let outcome = until_listed(self.road, self.deadline, api, gone, remove, mend).await;
        outcome.map_err(|unlisted| unlisted.of_removal())
    }

    async fn observe(&self, host: &Host, key: bool) -> Result<Seen, RunError> {
        let look = Look { key, ..Look::default() };
        observe::observe(host, self.member, self.layout, look).await
    }

    /// Another member's certificate to talk with, where this one's server has none or can't be reached.
    async fn borrowed(&self) -> Option<Lent> {
        let others = self
            .member
            .cluster
            .servers
            .iter()
            .filter(|(name, _)| **name != self.member.server);
        let mut asked: FuturesUnordered<_> = others
            .map(|(_, server)| async move {
                let host = self.road.connect(server, QUESTION * 3, false).await.ok()?;
                self.observe(&host, true).await.ok()?.lent
            })
            .collect();
        while let Some(found) = asked.next().await {
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The servers that hold no member, or one that rests: of this one, and of those whose members nobody said are to leave.
    async fn gone(&self, leaving: &BTreeSet<String>) -> BTreeSet<String> {
        let servers = self.member.cluster.servers.iter();
        let servers = servers.filter(|(name, _)| **name == self.member.server || !leaving.contains(*name));
        let asked = servers.map(|(name, server)| async move {
            let host = self.road.connect(server, QUESTION, false).await.ok()?;
            let seen = self.observe(&host, false).await.ok()?;
            // One that is stopped has its vote still.
            let holds = seen.service == Service::Running || (seen.data == Data::Member && !seen.resting);
            (!holds).then(|| name.clone())
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Refuses if something is mounted in a folder that would be deleted.
    async fn keep_mounts(&self, host: &Host) -> Result<(), String> {
        let output = host
            .run_checked(&self.removing().line("nothing_mounted_in \"$cluster\" \"$mode\" || :"))
            .await;
        let mounted = mounted::read(&output.map_err(|error| error.to_string())?);
        let state = "Nothing was changed, and the member is in its cluster.";
        mounted::refusal(&self.member.server, &mounted, state).map_or(Ok(()), Err)
    }

    /// With what a script needs that takes the member off its server.
    fn removing(&self) -> Script {
        Script::new("taking the member off the server")
            .set("cluster", &self.member.cluster.name)
            .set("stamp", stamp())
            .set("mode", self.member.on_destroy.as_deref().unwrap_or("keep_data"))
            .set("server", &self.member.server)
            .line(PRIVILEGE)
            .line(MOUNTS)
            .line(include_str!("../binaries.sh"))
            .line(include_str!("../tcp_retries.sh"))
            .line(include_str!("../scheduled_snapshots.sh"))
            .line(include_str!("../remove_member.sh"))
    }

    /// What becomes of the member on its server.
    async fn off_the_server(&self, host: &Host, how: &Leaving) -> Result<Diagnostics, RunError> {
        let script = self
            .removing()
            .line("if is_anothers \"$cluster\" \"$server\"; then exit 0; fi");
        if *how != Leaving::Rest {
            let script = script.line("remove_member \"$cluster\" \"$stamp\" \"$mode\"");
            let mounted = mounted::read(&host.run_checked(&script).await?);
            let state = "The member is in its cluster no longer.";
            let refusal = mounted::refusal(&self.member.server, &mounted, state);
            return Ok(refusal.map_or_else(Diagnostics::new, |detail| self.failed(detail)));
        }
        let output = host
            .run_checked(&script.line("rest_member \"$cluster\" \"$mode\""))
            .await?;
        let leaving = self.road.leaving(self.member.cluster.token());
        let (name, cluster) = (&self.member.server, &self.member.cluster.name);
        if output.value("rests").is_none() || self.member.cluster.servers.keys().all(|name| leaving.contains(name)) {
            return Ok(Diagnostics::new());
        }
        let detail = format!(
            "Nobody else of the cluster {cluster} was left, so it was stopped, and its data stays in {data}. If the cluster is being \
             destroyed, that takes it away. If not, bring the member on {name} back into the configuration: it goes on from there, and \
             until then no other one has a cluster to join.",
            data = self.layout.data_dir(),
        );
        let summary = format!("The cluster {cluster} rests on server {name}");
        Ok(Diagnostic::warning(summary, detail).at(Path::of("server")).into())
    }
}

fn not_its_turn(error: &TurnError) -> String {
    format!("Nothing was changed: {error}. Try again, or raise timeouts.delete.")
}

/// The members as the decision on leaving needs them.
pub fn peers(survey: &Survey, topology: &Topology) -> Vec<Peer> {
    let peer = |one: &Member| Peer {
        name: survey.name_of(topology, one).unwrap_or_else(|| format!("{:x}", one.id)),
        voter: !one.is_learner,
        healthy: survey.healthy.contains_key(&one.id),
        given_up: survey.is_left_over(topology, one),
    };
    survey.members.iter().map(peer).collect()
}
