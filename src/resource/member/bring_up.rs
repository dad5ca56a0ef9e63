//! Brings a member up, step by step: observe, let [`crate::membership`] decide, perform, and observe again.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::binary::{self, BinaryError};
use super::model::MemberModel;
use super::observe::{self, Seen};
use super::survey::Survey;
use super::talk::{Talk, TalkError};
use super::wanted::{self, Certificates, Keys, WantedError, WantedFile, certificates, configurations, needing_restart};
use crate::etcd::api::{ApiError, Status};
use crate::etcd::layout::{Layout, PathError};
use crate::etcd::unit::{self, UnitSpec};
use crate::etcd::version::Version;
use crate::host::{Host, RunError, Script};
use crate::membership::identity::{ClusterId, MemberId, founding_cluster_id, founding_member_id};
use crate::membership::links;
use crate::membership::member::{Answer, Desired, Observed, Refusal, Service, Start, Step, next_step};
use crate::resource::cluster::servers::{observe as observe_server, on_each, root_file};
use crate::resource::road::{Road, RoadError};
use crate::topology::{Topology, ViewError};

/// How long the directed pairs may take to connect once the member answers.
const VERIFY: Duration = Duration::from_secs(60);
/// How long one look at the member's health may take: it does not answer before it has a quorum.
const HEALTH: Duration = Duration::from_secs(5);

/// Why a member is not up.
#[derive(Debug, thiserror::Error)]
pub enum BringUpError {
    /// Its server was not reached.
    #[error(transparent)]
    Road(#[from] RoadError),
    /// A script failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The binaries are not there.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// It can't be said what is to be there.
    #[error(transparent)]
    Wanted(#[from] WantedError),
    /// A path can't be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Its server is none of the cluster's.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The decision was no.
    #[error("server {server}: {refusal}.")]
    Refused {
        /// Its server.
        server: String,
        /// Why.
        refusal: Refusal,
    },
    /// The service failed while it was waited for.
    #[error("the member's service on server {server} failed. The last lines of its log:\n{log}")]
    Failed {
        /// Its server.
        server: String,
        /// From the journal.
        log: String,
    },
    /// No answer in time.
    #[error(
        "the member on server {server} runs, but it did not become part of a cluster with a leader within {}: {last}\n\
         The last lines of its log:\n{log}",
        humantime::format_duration(Duration::from_secs(.waited.as_secs()))
    )]
    NoHealth {
        /// Its server.
        server: String,
        /// How long it was waited for.
        waited: Duration,
        /// What the last try gave.
        last: Box<TalkError>,
        /// From the journal.
        log: String,
    },
    /// The member list can't be changed.
    #[error("{what} did not succeed for the member of server {server}: {last}")]
    Membership {
        /// Its server.
        server: String,
        /// What was tried.
        what: &'static str,
        /// What the last try gave.
        last: Box<TalkError>,
    },
    /// Other changes of the cluster took all the time.
    #[error(
        "the member of server {server} waited for its turn until its time was up: changes of a cluster's members go one \
         after the other. Apply again, or raise timeouts.create"
    )]
    Line {
        /// Its server.
        server: String,
    },
    /// No certificate to talk to the members with.
    #[error(transparent)]
    Talk(Box<TalkError>),
    /// Some directed pairs are not connected.
    #[error("every member answers, but some do not reach each other:\n{}", .0.join("\n"))]
    Links(Vec<String>),
    /// Terraform asked to stop. `runs`: the member's process has been started.
    #[error("stopped on request; the next apply goes on from here")]
    Stopped {
        /// Whether the process has been started.
        runs: bool,
    },
}

/// What a member is brought up with.
pub struct BringUp<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The member.
    pub member: &'a MemberModel,
    /// Its cluster's topology.
    pub topology: &'a Topology,
    /// Where its files are.
    pub layout: &'a Layout,
    /// The version that is wanted.
    pub version: &'a Version,
    /// The private keys of the authorities.
    pub keys: &'a Keys,
    /// Whether to see that every directed pair is connected.
    pub verify: bool,
    /// All of it must be done by then.
    pub deadline: Instant,
    /// Who talks to the members, once that is needed.
    pub talk: OnceLock<Talk<'a>>,
}

/// A member that is up.
pub struct Up {
    /// Its ID, as far as it can be known.
    pub member_id: Option<MemberId>,
    /// The ID of its cluster, as far as it can be known.
    pub cluster_id: Option<ClusterId>,
    /// Its configuration file.
    pub configuration: String,
    /// When its certificates end.
    pub expiry: BTreeMap<&'static str, OffsetDateTime>,
}

/// What is to be on the server, and how it differs from what was seen.
struct Plan {
    files: Vec<WantedFile>,
    certificates: Certificates,
    configuration: String,
    installed: bool,
    restart_needed: bool,
}

impl From<TalkError> for BringUpError {
    fn from(error: TalkError) -> Self {
        match error {
            TalkError::Certificate(error) => Self::Wanted(error),
            other => Self::Talk(Box::new(other)),
        }
    }
}

impl BringUp<'_> {
    /// Brings the member up.
    ///
    /// # Errors
    /// [`BringUpError`]; whatever it is, the next try goes on from there.
    pub async fn run(&self) -> Result<Up, BringUpError> {
        let (_, server) = wanted::server(self.member, self.topology)?;
        let model = self.member.server().ok_or_else(|| ViewError::UnknownServer {
            name: self.member.server.clone(),
            known: self
                .member
                .cluster
                .servers
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(", "),
        })?;
        tracing::debug!(server = %server.name, "bringing the member up");
        let host = self.road.connect(model, self.remaining(), false).await?;
        let mut seen = self.observe(&host).await?;
        let desired = Desired {
            token: self.member.cluster.token().to_owned(),
            founders: self.member.founders().len(),
            founder: self.member.is_founder(),
            verify: self.verify,
        };
        let (mut founders_started, mut answers, mut cluster) = (None, None, None);
        let mut survey: Option<Survey> = None;
        let mut status: Option<Status> = None;
        // Held from the first change of the member list to the end: one change at a time.
        let mut line = None;
        loop {
            if self.road.stopped() {
                return Err(BringUpError::Stopped {
                    runs: seen.service == Service::Running,
                });
            }
            let plan = self.plan(&seen)?;
            let observed = Observed {
                permit: seen.permit.clone(),
                token: seen.token.clone(),
                data: seen.data,
                service: seen.service,
                installed: plan.installed,
                restart_needed: plan.restart_needed,
                port_taken: seen.port_taken.clone(),
                founders_started,
                answers,
                cluster,
            };
            let step = next_step(&observed, &desired);
            tracing::debug!(server = %server.name, ?step, "next step");
            match step {
                Step::Install(start) => {
                    seen = self.install(&host, &plan, &seen, start, survey.as_ref()).await?;
                    (cluster, survey) = (None, None);
                }
                Step::LookAtCluster => {
                    if line.is_none() {
                        line = Some(self.take_place(seen.service == Service::Running).await?);
                    }
                    let (seen, found) = self.look_at_cluster(self.talk()?).await;
                    (cluster, survey) = (Some(seen), found);
                }
                Step::RemoveOld => {
                    if let Some(survey) = survey.take() {
                        self.remove_old(&survey).await?;
                    }
                    cluster = None;
                }
                Step::AddLearner => {
                    if let Some(survey) = survey.take() {
                        self.add_learner(&survey, &self.topology.peer_url(&server.name)?)
                            .await?;
                    }
                    cluster = None;
                }
                Step::Promote => {
                    if line.is_none() {
                        line = Some(self.take_place(true).await?);
                    }
                    if let (_, Some(survey)) = self.look_at_cluster(self.talk()?).await {
                        self.promote(&survey).await?;
                    }
                    answers = None;
                }
                Step::CountFounders => founders_started = Some(self.count_founders().await),
                Step::AwaitHealth => {
                    let seen = self.await_health(&host).await?;
                    answers = Some(if seen.is_learner {
                        Answer::Learner
                    } else {
                        Answer::Voter
                    });
                    status = Some(seen);
                }
                Step::Verify => {
                    self.verify(&host).await?;
                    return Ok(self.up(plan, status.as_ref()));
                }
                Step::Leave | Step::Done => return Ok(self.up(plan, status.as_ref())),
                Step::Refuse(refusal) => {
                    return Err(BringUpError::Refused {
                        server: self.member.server.clone(),
                        refusal,
                    });
                }
            }
        }
    }

    /// Waits for this member's turn in the cluster's line of changes.
    async fn take_place(&self, runs: bool) -> Result<tokio::sync::OwnedMutexGuard<()>, BringUpError> {
        let waited = tokio::time::timeout_at(self.deadline, self.road.line(self.member.cluster.token()));
        match waited.await {
            Ok(Ok(_)) if self.road.stopped() => Err(BringUpError::Stopped { runs }),
            Ok(place) => Ok(place?),
            Err(_) => Err(BringUpError::Line {
                server: self.member.server.clone(),
            }),
        }
    }

    /// One certificate and one connection to each member for the whole run.
    fn talk(&self) -> Result<&Talk<'_>, BringUpError> {
        if let Some(talk) = self.talk.get() {
            return Ok(talk);
        }
        let talk = Talk::issue(self.road, self.member, self.topology, self.keys)?;
        Ok(self.talk.get_or_init(|| talk))
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    async fn observe(&self, host: &Host) -> Result<Seen, RunError> {
        let binary = binary::path(self.member, self.version);
        observe::observe(
            host,
            self.member,
            self.layout,
            &binary,
            &wanted::compared_files(self.layout),
            false,
        )
        .await
    }

    /// What is to be on the server, compared with what was seen.
    fn plan(&self, seen: &Seen) -> Result<Plan, BringUpError> {
        let texts = configurations(self.member, self.topology, self.layout, self.version)?;
        let certificates = certificates(self.member, self.topology, self.layout, self.version, self.keys, seen)?;
        let executable = binary::executable(self.member, self.version, seen)?;
        let (_, server) = wanted::server(self.member, self.topology)?;
        let spec = UnitSpec {
            binary: executable.clone(),
            version: self.version.clone(),
            arch: binary::arch(&self.member.server, seen)?,
            lowest_port: server.peer_port.min(server.client_port),
        };
        let file = |path: String, mode: u32, contents: String| WantedFile { path, mode, contents };
        let mut files = vec![
            file(self.layout.config_file().to_string(), 0o640, texts.standing.clone()),
            file(self.layout.guard_file().to_string(), 0o755, unit::guard(self.layout)),
            file(
                self.layout.unit_file().to_string(),
                0o644,
                unit::render(self.layout, &spec),
            ),
        ];
        if seen.permit.is_some() {
            files.push(file(self.layout.founding_file().to_string(), 0o640, texts.founding));
        }
        files.extend(certificates.files.iter().cloned());
        let right_binary = seen.binary.as_deref() == Some(&self.version.to_string());
        let installed = right_binary && seen.enabled && files.iter().all(|file| file.is_there(seen));
        let runs_other = seen
            .executable
            .as_deref()
            .is_some_and(|path| path.trim_end_matches(" (deleted)") != executable.as_str());
        let other_configuration = seen
            .configuration
            .as_deref()
            .is_some_and(|before| needing_restart(before) != needing_restart(&texts.standing));
        let restart_needed = runs_other || other_configuration || certificates.restart_needed;
        Ok(Plan {
            files,
            certificates,
            configuration: texts.standing,
            installed,
            restart_needed,
        })
    }

    /// Brings everything into place and starts etcd, in one script; returns what is there then.
    async fn install(
        &self,
        host: &Host,
        plan: &Plan,
        seen: &Seen,
        start: Start,
        survey: Option<&Survey>,
    ) -> Result<Seen, BringUpError> {
        if seen.binary.as_deref() != Some(&self.version.to_string()) {
            binary::provide(host, self.member, self.version, seen, self.remaining()).await?;
        }
        // The unit names the executable, whose place may only be known now.
        let seen = if seen.binary.is_none() {
            &self.observe(host).await?
        } else {
            seen
        };
        let plan = if plan.installed { None } else { Some(self.plan(seen)?) };
        let mut script = Script::new("installing the member").timeout(self.remaining().min(Duration::from_secs(60)));
        script = script
            .set("data", self.layout.data_dir().as_str())
            .set("user", self.layout.user())
            .set("directory", self.layout.etc_dir().as_str())
            .set("pki", self.layout.pki_dir().as_str())
            .set("unit", self.layout.unit_name())
            .line(include_str!("prepare.sh"));
        for file in plan.iter().flat_map(|plan| &plan.files) {
            script = file.put(script, self.layout);
        }
        if let (Start::Join, Some(survey)) = (start, survey) {
            let joining = wanted::joining(self.member, self.topology, self.layout, self.version, survey)?;
            script = joining.put(script, self.layout);
            let token = self.member.cluster.token();
            for path in [
                format!("{}/token", self.layout.etc_dir()),
                self.layout.joining_permit().to_string(),
            ] {
                script = script.write_file(&root_file(path, token));
            }
        }
        script = script.line("systemctl --quiet --no-reload enable \"$unit\" 2>/dev/null\nsystemctl daemon-reload");
        if start != Start::No {
            script = script.line(include_str!("start.sh"));
        }
        let binary = binary::path(self.member, self.version);
        let files = wanted::compared_files(self.layout);
        let script = observe::append(script, self.member, self.layout, &binary, &files, false);
        Ok(observe::seen(&host.run_checked(&script).await?))
    }

    /// How many founding members have started, as far as their servers can be reached.
    async fn count_founders(&self) -> usize {
        let founders = self.member.founders();
        let mut others = self.member.cluster.servers.clone();
        others.retain(|name, _| founders.contains(name) && *name != self.member.server);
        let observed = on_each(self.road, &others, HEALTH, false, |name, host| async move {
            observe_server(&host, self.topology, name).await
        })
        .await;
        let started = |seen: &&crate::resource::cluster::servers::Observation| {
            seen.holding.data.is_some() && !seen.holding.permit
        };
        1 + observed.values().flatten().filter(started).count()
    }

    /// Waits until the member answers as one of a cluster with a leader.
    async fn await_health(&self, host: &Host) -> Result<Status, BringUpError> {
        let began = Instant::now();
        let talk = self.talk()?;
        loop {
            let last = match talk.to(&self.member.server, HEALTH).await {
                Ok(api) => match api.status(HEALTH).await {
                    Ok(status) if status.has_leader() => return Ok(status),
                    Ok(_) => TalkError::Api(ApiError::NoLeader {
                        member: self.member.server.clone(),
                    }),
                    Err(error) => error.into(),
                },
                Err(error) => error,
            };
            let seen = self.observe(host).await?;
            if seen.service != Service::Running {
                return Err(BringUpError::Failed {
                    server: self.member.server.clone(),
                    log: self.log(host).await,
                });
            }
            if self.road.pause(Duration::from_millis(200)).await.is_err() {
                return Err(BringUpError::Stopped { runs: true });
            }
            if Instant::now() >= self.deadline {
                return Err(self.no_health(host, began, last).await);
            }
        }
    }

    async fn no_health(&self, host: &Host, began: Instant, last: TalkError) -> BringUpError {
        let log = self.log(host).await;
        BringUpError::NoHealth {
            server: self.member.server.clone(),
            waited: began.elapsed(),
            last: Box::new(last),
            log,
        }
    }

    /// Waits until every member reaches every other one.
    async fn verify(&self, host: &Host) -> Result<(), BringUpError> {
        let until = self.deadline.min(Instant::now() + VERIFY);
        let talk = self.talk()?;
        let api = match talk.to(&self.member.server, HEALTH).await {
            Ok(api) => api,
            Err(last) => return Err(self.no_health(host, Instant::now(), last).await),
        };
        let names = match api.members(HEALTH).await {
            Ok(members) => talk.names_of(&members),
            Err(last) => return Err(self.no_health(host, Instant::now(), last.into()).await),
        };
        let members: Vec<String> = names.values().cloned().collect();
        loop {
            let reached = talk.reached(&members, &names).await;
            let missing = links::missing(&members, &reached);
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                let lines = missing
                    .iter()
                    .map(|(from, to)| self.describe_link(from, to, reached.contains_key(from)));
                return Err(BringUpError::Links(lines.collect()));
            }
            if self.road.pause(Duration::from_millis(200)).await.is_err() {
                return Err(BringUpError::Stopped { runs: true });
            }
        }
    }

    fn describe_link(&self, from: &str, to: &str, asked: bool) -> String {
        if !asked {
            return format!("  {from} could not be asked whether it reaches {to}");
        }
        let servers = self.topology.servers();
        let find = |name: &str| {
            servers
                .iter()
                .find(|(server, _)| server.as_str() == name)
                .map(|(_, server)| server)
        };
        match (find(from), find(to)) {
            (Some(viewer), Some(peer)) => match crate::topology::address(viewer, peer) {
                Ok(address) => format!(
                    "  {from} does not reach {to}, which it dials at {address} port {}: let TCP from {from} through to it",
                    peer.peer_port
                ),
                Err(error) => format!("  {from} does not reach {to}: {error}"),
            },
            _ => format!("  {from} does not reach {to}"),
        }
    }

    async fn log(&self, host: &Host) -> String {
        let script = Script::new("reading the member's log")
            .set("unit", self.layout.unit_name())
            .line("journalctl -u \"$unit\" -n 8 -o cat --no-pager");
        match host.run(&script).await {
            Ok(output) => output.stdout.lines().map(|line| format!("  {line}\n")).collect(),
            Err(error) => format!("  (the log could not be read: {error})"),
        }
    }

    /// What the state is to say. Before the member answers, its IDs are those that its founding gives it.
    fn up(&self, plan: Plan, status: Option<&Status>) -> Up {
        let (member_id, cluster_id) = match status {
            Some(status) => (Some(MemberId(status.member_id)), Some(ClusterId(status.cluster_id))),
            None => self.founding_ids(),
        };
        Up {
            member_id,
            cluster_id,
            configuration: plan.configuration,
            expiry: plan.certificates.expiry,
        }
    }

    fn founding_ids(&self) -> (Option<MemberId>, Option<ClusterId>) {
        let founders = self.member.founders();
        let servers = self
            .topology
            .servers()
            .keys()
            .filter(|server| founders.iter().any(|name| name == server.as_str()));
        let ids: BTreeMap<&str, MemberId> = servers
            .filter_map(|server| {
                let url = self.topology.peer_url(server).ok()?;
                Some((server.as_str(), founding_member_id(&url, self.member.cluster.token())))
            })
            .collect();
        let all: Vec<MemberId> = ids.values().copied().collect();
        (
            ids.get(self.member.server.as_str()).copied(),
            Some(founding_cluster_id(&all)),
        )
    }
}
