//! Brings a member up, step by step: observe, let [`crate::membership`] decide, perform, and observe again.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::binary::{self, BinaryError};
use super::model::MemberModel;
use super::observe::{self, Seen};
use super::talk::{Talk, TalkError};
use super::wanted::{self, Certificates, Keys, WantedError, WantedFile, certificates, configurations, needing_restart};
use crate::etcd::layout::{Layout, PathError};
use crate::etcd::unit::{self, UnitSpec};
use crate::etcd::version::Version;
use crate::host::{Host, RunError, Script};
use crate::membership::identity::{ClusterId, MemberId, founding_cluster_id, founding_member_id};
use crate::membership::links;
use crate::membership::member::{Desired, Observed, Refusal, Service, Start, Step, next_step};
use crate::resource::cluster::servers::{observe as observe_server, on_each};
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
    /// All of it must be done by then.
    pub deadline: Instant,
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
        };
        let (mut founders_started, mut answers) = (None, None);
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
            };
            let step = next_step(&observed, &desired);
            tracing::debug!(server = %server.name, ?step, "next step");
            match step {
                Step::Install(start) => seen = self.install(&host, &plan, &seen, start).await?,
                Step::CountFounders => founders_started = Some(self.count_founders().await),
                Step::AwaitHealth => answers = Some(self.await_health(&host).await?),
                Step::Verify => {
                    self.verify(&host).await?;
                    return self.up(plan);
                }
                Step::Leave | Step::Done => return self.up(plan),
                Step::Refuse(refusal) => {
                    return Err(BringUpError::Refused {
                        server: self.member.server.clone(),
                        refusal,
                    });
                }
            }
        }
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
    async fn install(&self, host: &Host, plan: &Plan, seen: &Seen, start: Start) -> Result<Seen, BringUpError> {
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
        script = script.line("systemctl daemon-reload\nsystemctl --quiet enable \"$unit\" 2>/dev/null");
        if start != Start::No {
            script = script.line(include_str!("start.sh"));
        }
        host.run_checked(&script).await?;
        Ok(self.observe(host).await?)
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
    async fn await_health(&self, host: &Host) -> Result<bool, BringUpError> {
        let began = Instant::now();
        let talk = Talk::issue(self.road, self.member, self.topology, self.keys);
        let talk = match talk {
            Ok(talk) => talk,
            Err(TalkError::Certificate(error)) => return Err(error.into()),
            Err(last) => return Err(self.no_health(host, began, last).await),
        };
        loop {
            let last = match talk.to(&self.member.server, HEALTH).await {
                Ok(api) => match api.status(HEALTH).await {
                    Ok(status) if status.leader != 0 => return Ok(true),
                    Ok(_) => TalkError::Api(crate::etcd::api::ApiError::NoLeader {
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
        let members = self.member.founders();
        let began = Instant::now();
        let talk = match Talk::issue(self.road, self.member, self.topology, self.keys) {
            Ok(talk) => talk,
            Err(TalkError::Certificate(error)) => return Err(error.into()),
            Err(last) => return Err(self.no_health(host, began, last).await),
        };
        let names = self.founding_ids();
        let names: BTreeMap<u64, String> = names.into_iter().map(|(name, id)| (id.0, name)).collect();
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

    /// The IDs that the founding members have.
    fn founding_ids(&self) -> Vec<(String, MemberId)> {
        let founders = self.member.founders();
        let servers = self
            .topology
            .servers()
            .keys()
            .filter(|server| founders.iter().any(|name| name == server.as_str()));
        servers
            .filter_map(|server| {
                let url = self.topology.peer_url(server).ok()?;
                Some((
                    server.to_string(),
                    founding_member_id(&url, self.member.cluster.token()),
                ))
            })
            .collect()
    }

    fn up(&self, plan: Plan) -> Result<Up, BringUpError> {
        let ids = self.founding_ids();
        let own = ids
            .iter()
            .find(|(name, _)| *name == self.member.server)
            .map(|(_, id)| *id);
        let all: Vec<MemberId> = ids.iter().map(|(_, id)| *id).collect();
        Ok(Up {
            member_id: own,
            cluster_id: Some(founding_cluster_id(&all)),
            configuration: plan.configuration,
            expiry: plan.certificates.expiry,
        })
    }
}
