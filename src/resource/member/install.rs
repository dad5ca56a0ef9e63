//! What is to be on a member's server, and bringing it there in one script.

use std::collections::BTreeSet;
use std::time::Duration;

use super::binary::{self, BinaryError};
use super::bring_up::BringUp;
use super::errors::BringUpError;
use super::model::MemberModel;
use super::observe::{self, Look, Seen};
use super::revoked;
use super::scheduled;
use super::survey::{QUESTION, Survey};
use super::wanted::{self, Certificates, WantedFile, certificates, configurations};
use crate::etcd::config::check;
use crate::etcd::layout::Layout;
use crate::etcd::names;
use crate::etcd::restoring::{self, Order, snapshot_folder};
use crate::etcd::unit::{self, UnitSpec};
use crate::etcd::version::{Minor, Version};
use crate::host::said;
use crate::host::{Host, MOUNTS, Output, PRIVILEGE, RunError, Script};
use crate::membership::member::Start;
use crate::resource::cluster::servers::root_file;
use crate::topology::{ServerName, Topology, hosts_block, timing};

/// What the start of a process may take longer on one server than on another.
const LEEWAY: Duration = Duration::from_millis(50);
/// The longest that founders let the first one start before them.
const LONGEST_HEAD_START: Duration = Duration::from_secs(1);

/// What is to be on the server, and how it differs from what was seen.
pub(super) struct Plan {
    pub(super) files: Vec<WantedFile>,
    pub(super) certificates: Certificates,
    pub(super) configuration: String,
    /// Snapshots by a timer.
    scheduled: Option<scheduled::Wanted>,
    pub(super) installed: bool,
    pub(super) restart_needed: bool,
    /// Whether other authorities are trusted, or other certificates revoked: etcd reads that only when it starts.
    trusts_others: bool,
}

/// What of a configuration a running member has to be restarted for: `initial-cluster*` are not read again by a
/// member that has data.
pub(super) fn needing_restart(configuration: &str) -> Vec<&str> {
    configuration
        .lines()
        .filter(|line| !line.starts_with("initial-cluster") && !line.starts_with('#'))
        .collect()
}

impl Plan {
    /// Whether certificates have ended that can be renewed by themselves.
    pub(super) fn has_expired(&self) -> bool {
        !self.certificates.restart_needed && !self.certificates.expired.is_empty()
    }
}

/// The guard and the service unit, and the units that keep the cluster's names.
///
/// # Errors
/// If etcd is not built for the server's processor, or the executable's path can't stand in a unit.
pub(super) fn service_files(
    member: &MemberModel,
    topology: &Topology,
    layout: &Layout,
    version: &Version,
    seen: &Seen,
) -> Result<[WantedFile; 4], BringUpError> {
    let (_, server) = topology.find(&member.server)?;
    let spec = UnitSpec {
        binary: binary::executable(member, version, seen)?,
        version: version.clone(),
        arch: binary::arch(&member.server, seen)?,
        lowest_port: server.peer_port.min(server.client_port),
    };
    let unit = WantedFile {
        path: layout.unit_file().to_string(),
        mode: 0o644,
        contents: unit::render(layout, &spec).into(),
    };
    let [service, path] = names::units(layout).map(|(path, contents)| WantedFile {
        path,
        mode: 0o644,
        contents: contents.into(),
    });
    Ok([guard_file(layout), unit, service, path])
}

fn guard_file(layout: &Layout) -> WantedFile {
    WantedFile {
        path: layout.guard_file().to_string(),
        mode: 0o755,
        contents: unit::guard(layout).into(),
    }
}

impl BringUp<'_> {
    pub(super) async fn observe(&self, host: &Host) -> Result<Seen, RunError> {
        let look = Look {
            binary: &binary::path(self.member, self.version),
            files: &wanted::compared_files(self.layout),
            ports: true,
            key: false,
            obstacles: true,
        };
        let mut seen = observe::observe(host, self.member, self.layout, look).await?;
        if seen.replaced {
            // In a box: it is in every step's future otherwise, and those get too large for a thread's stack.
            seen.running = Box::pin(self.running_version()).await;
        }
        Ok(seen)
    }

    /// What the member itself says that it runs.
    async fn running_version(&self) -> Option<String> {
        let api = self.talk().ok()?.to(&self.member.server, QUESTION).await.ok()?;
        Some(api.status(QUESTION).await.ok()?.version)
    }

    /// What is to be on the server, compared with what was seen.
    pub(super) fn plan(&self, seen: &Seen) -> Result<Plan, BringUpError> {
        self.plan_for(seen, &[])
    }

    /// The same for a member that is dialled at these hosts too: its certificate for peers carries them.
    pub(super) fn plan_for(&self, seen: &Seen, hosts: &[String]) -> Result<Plan, BringUpError> {
        binary::is_roots(self.member, self.version, seen)?;
        let texts = configurations(self.member, self.topology, self.layout, self.version)?;
        let (member, topology, layout) = (self.member, self.topology, self.layout);
        let certificates = certificates(member, topology, layout, self.version, self.keys, seen, hosts)?;
        let executable = binary::executable(self.member, self.version, seen)?;
        let mut files = vec![WantedFile {
            path: self.layout.config_file().to_string(),
            mode: 0o640,
            contents: texts.standing.clone().into(),
        }];
        files.extend(service_files(
            self.member,
            self.topology,
            self.layout,
            self.version,
            seen,
        )?);
        if seen.permit.is_some() && seen.restore.is_none() {
            files.push(WantedFile {
                path: self.layout.founding_file().to_string(),
                mode: 0o640,
                contents: texts.founding.into(),
            });
        }
        files.extend(certificates.files.iter().cloned());
        // Connections that were accepted before are closed by a restart alone.
        let revoked = revoked::wanted(member, layout)?;
        let other_list = revoked.as_ref().is_some_and(|list| !list.is_there(seen));
        files.extend(revoked);
        let scheduled = scheduled::wanted(member, topology, layout, self.version, seen)?;
        let right_binary = !self.program.is_to_be_brought(self.version, seen);
        let retries = seen.tcp_retries2 == self.member.tcp_retries2;
        let installed = right_binary
            && seen.enabled
            && retries
            && files.iter().all(|file| file.is_there(seen))
            && scheduled::in_place(scheduled.as_ref(), layout, seen);
        let other_version = seen
            .running
            .as_ref()
            .is_some_and(|runs| *runs != self.version.to_string());
        let runs_other =
            other_version || seen.other_executable(executable.as_str()).is_some() || self.program.runs_other(seen);
        let other_configuration = seen
            .configuration
            .as_deref()
            .is_some_and(|before| needing_restart(before) != needing_restart(&texts.standing));
        let unit = self.layout.unit_file().to_string();
        let other_unit = files.iter().any(|file| file.path == unit && !file.is_there(seen));
        let restart_needed = runs_other
            || other_configuration
            || other_unit
            || other_list
            || certificates.restart_needed
            || seen.restart_pending;
        let trusts_others = other_list || certificates.restart_needed;
        Ok(Plan {
            trusts_others,
            files,
            certificates,
            configuration: texts.standing,
            scheduled,
            installed,
            restart_needed,
        })
    }

    /// Whether the member's log holds entries that the wanted version of etcd can't read: 3.7 knows nothing of the
    /// requests of etcd's second API that a member up to 3.5 wrote when it started (its `apply.Apply` panics:
    /// "unmarshal should never fail").
    pub(super) async fn has_old_entries(&self, host: &Host, seen: &Seen) -> Result<bool, BringUpError> {
        if self.version.minor() < Minor::V3_7 {
            return Ok(false);
        }
        let runs = match &seen.last {
            Some(last) => Some(last.clone()),
            None => Box::pin(self.running_version()).await,
        };
        // Where nothing says which version it is, the log does.
        if runs.is_some_and(|runs| !runs.starts_with("3.6.")) {
            return Ok(false);
        }
        let script = Script::new("looking for old entries in the member's log")
            .timeout(self.remaining())
            .set("user", self.layout.user())
            .set("data", self.layout.data_dir().as_str())
            .line(PRIVILEGE)
            .line(include_str!("old_entries.sh"));
        Ok(host.run_checked(&script).await?.value("old-entries").is_some())
    }

    /// Restarts the member as it is, with a configuration that has it write a raft snapshot at once: what is in the log
    /// before that is not read again.
    pub(super) async fn restart_for_snapshot(&self, host: &Host, seen: &Seen) -> Result<Seen, BringUpError> {
        let before = seen.configuration.as_deref().unwrap_or_default();
        let lines = before.lines().filter(|line| !line.starts_with("snapshot-count:"));
        let file = WantedFile {
            path: self.layout.snapshot_file().to_string(),
            mode: 0o640,
            contents: lines
                .chain(["snapshot-count: 1"])
                .map(|line| format!("{line}\n"))
                .collect::<String>()
                .into(),
        };
        let pending = root_file(self.layout.restart_pending().to_string(), "");
        let script = Script::new("having the member write a raft snapshot")
            .timeout(self.remaining().min(Duration::from_secs(90)))
            .set("unit", self.layout.unit_name())
            .set("data", self.layout.data_dir().as_str())
            .set("pending", self.layout.restart_pending().as_str())
            .write_file(&pending);
        let script = file.put(guard_file(self.layout).put(script, self.layout), self.layout);
        host.run_checked(&script.line(include_str!("snapshot.sh"))).await?;
        Ok(self.observe(host).await?)
    }

    /// Has the cluster's names kept in `/etc/hosts`, whatever else writes that file.
    pub(super) fn keeping_names(&self, script: Script) -> Script {
        let cluster = self.topology.cluster();
        let own = ServerName::parse(&self.member.server).ok();
        let view = own.and_then(|own| self.topology.view(&own).ok());
        let lines = view.map(|view| view.hosts_lines).unwrap_or_default();
        script
            .set("names", names::path_name(cluster))
            .set("copy", names::copy(cluster))
            .set("block", hosts_block::render(cluster, &lines))
            .line(include_str!("keep_names.sh"))
    }

    /// Brings new certificates into place in place of those that have ended: etcd reads them at each handshake.
    pub(super) async fn renew(&self, host: &Host, plan: &Plan) -> Result<Seen, BringUpError> {
        tracing::info!(
            server = self.member.server,
            "certificates have expired: new ones are brought before anything else"
        );
        let mut script = Script::new("renewing certificates that have expired");
        for file in &plan.certificates.expired {
            script = file.put(script, self.layout);
        }
        host.run_checked(&script).await?;
        Ok(self.observe(host).await?)
    }

    /// Brings everything into place and starts etcd, in one script; returns what is there then.
    pub(super) async fn install(
        &self,
        host: &Host,
        plan: &Plan,
        seen: &Seen,
        start: Start,
        survey: Option<&Survey>,
    ) -> Result<Seen, BringUpError> {
        let as_it_is = start == Start::AsItIs;
        let bring = !as_it_is && self.program.is_to_be_brought(self.version, seen);
        if bring {
            binary::provide(host, self.member, self.version, seen, &self.program, self.remaining()).await?;
        }
        // The unit names the executable, whose place may only be known now; and what is there now is what a process is compared with.
        let seen = if seen.binary.is_none() || bring {
            &self.observe(host).await?
        } else {
            seen
        };
        let unchanged = plan.installed || as_it_is;
        let plan = if unchanged { None } else { Some(self.plan(seen)?) };
        let mut script = Script::new("installing the member").timeout(self.remaining().min(Duration::from_secs(60)));
        script = script
            .set("data", self.layout.data_dir().as_str())
            .set("user", self.layout.user())
            .set("directory", self.layout.etc_dir().as_str())
            .set("pki", self.layout.pki_dir().as_str())
            .set("unit", self.layout.unit_name())
            .line(PRIVILEGE)
            .line(include_str!("prepare.sh"))
            .line(include_str!("prepare_data.sh"));
        // Cut off between the files and the start, the next run knows that it is still to come; and so it does where the server started it
        // by itself meanwhile.
        let starts = matches!(start, Start::Found | Start::Join | Start::Resume);
        let marks = start == Start::Restart || (starts && plan.is_some());
        let pending = root_file(self.layout.restart_pending().to_string(), "");
        if let Some(plan) = plan.as_ref().filter(|_| start != Start::No) {
            if marks && plan.trusts_others {
                script = script.write_file(&pending);
            }
            script = self.asking_etcd(script, plan, seen)?;
        }
        if let Some(file) = self.claim.file(self.layout.etc_dir().as_str()) {
            script = script.write_file(&file);
        }
        if start == Start::Restart {
            script = script
                .line(include_str!("../binaries.sh"))
                .line("before=$(binaries_of \"$unit\")");
        }
        if marks {
            script = script.write_file(&pending);
        }
        for file in plan.iter().flat_map(|plan| &plan.files) {
            script = file.put(script, self.layout);
        }
        if self.member.tcp_retries2 != seen.tcp_retries2 {
            script = script
                .set("cluster", &self.member.cluster.name)
                .line(include_str!("../tcp_retries.sh"))
                .line(match self.member.tcp_retries2 {
                    Some(number) => format!("set_retries \"$cluster\" {number}"),
                    None => "forget_retries \"$cluster\"".to_owned(),
                });
        }
        if let Some(plan) = &plan
            && !scheduled::in_place(plan.scheduled.as_ref(), self.layout, seen)
        {
            script = scheduled::put(script, plan.scheduled.as_ref(), self.layout);
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
        let restores = match &seen.restore {
            Some(order) if start == Start::Found => Some(order),
            _ => None,
        };
        if let Some(order) = restores {
            script = self.restoring(script, order, seen)?.timeout(self.remaining());
        }
        script = self.keeping_names(script.line(include_str!("enable.sh")));
        if start == Start::Found {
            script = script.line(format!("sleep {:.2}", self.head_start().as_secs_f64()));
        }
        if start != Start::No {
            script = script
                .set("pending", self.layout.restart_pending().as_str())
                .set("verb", if start == Start::Restart { "restart" } else { "start" })
                .line(include_str!("start.sh"));
        }
        if start == Start::Restart {
            script = script.line("remove_unused \"$before\"");
        }
        if restores.is_some() || start == Start::Join {
            script = script
                .set("folder", snapshot_folder(self.topology.cluster()))
                .line(MOUNTS)
                .line("delete_trees \"$folder\"; rmdir /var/lib/etcd-restore 2>/dev/null || true");
        }
        // The ports are the member's own now, and the binary is what it was.
        let look = Look {
            files: &wanted::compared_files(self.layout),
            ..Look::default()
        };
        let script = observe::append(script, self.member, self.layout, look);
        let output = host.run_checked(&script).await?;
        self.accepted(&output)?;
        let after = observe::seen(&output).after(seen);
        // The same process runs the same program.
        let running_sum = seen.running_sum.clone().filter(|_| start == Start::No);
        Ok(Seen { running_sum, ..after })
    }

    /// Has etcd say whether it accepts the wanted configuration, before any file is another but those with certificates: it reads those, and the member
    /// that runs takes them as they are. If it does not accept it, the script ends.
    pub(super) fn asking_etcd(&self, mut script: Script, plan: &Plan, seen: &Seen) -> Result<Script, BringUpError> {
        let trust = |file: &&WantedFile| self.layout.is_of_trust(&file.path);
        for file in plan.files.iter().filter(trust) {
            script = file.put(script, self.layout);
        }
        let file = WantedFile {
            path: self.layout.asked_file().to_string(),
            mode: 0o640,
            contents: check::asked(&plan.configuration).into(),
        };
        let arch = binary::arch(&self.member.server, seen)?;
        let script = script
            .set("check", &file.path)
            .set("program", binary::executable(self.member, self.version, seen)?.as_str())
            .set("arch", arch.to_string())
            .line(PRIVILEGE)
            .line(check::SCRIPT);
        let script = file.put(script, self.layout);
        Ok(script.line("if ! ask_etcd; then rm -f \"$check\"; exit 0; fi\nrm -f \"$check\""))
    }

    /// # Errors
    /// If etcd could not be run, or did not accept the configuration.
    pub(super) fn accepted(&self, output: &Output) -> Result<(), BringUpError> {
        if let Some(why) = check::not_run(output) {
            return Err(BringUpError::Binary(BinaryError::NotRun {
                server: self.member.server.clone(),
                user: self.layout.user().to_owned(),
                path: binary::path(self.member, self.version),
                why: said::one_line(&why),
            }));
        }
        let refused = |cause: String| BringUpError::Configuration {
            server: self.member.server.clone(),
            version: self.version.to_string(),
            cause: said::one_line(&cause),
        };
        check::refused(output).map_or(Ok(()), |cause| Err(refused(cause)))
    }

    /// Makes the member's data of the snapshot that lies on its server, unless an earlier run did.
    fn restoring(&self, script: Script, order: &Order, seen: &Seen) -> Result<Script, BringUpError> {
        if let Some(needs) = order.minor.filter(|needs| self.version.number().1 < *needs) {
            return Err(BringUpError::OldForSnapshot {
                server: self.member.server.clone(),
                version: self.version.to_string(),
                needs,
            });
        }
        let executable = binary::executable(self.member, self.version, seen)?;
        let folder = executable.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        let bump = order.bump_revision.map(|bump| bump.to_string());
        Ok(script
            .set("cluster", &self.member.cluster.name)
            .set("tool", format!("{folder}/{}", restoring::tool(self.version)))
            .set("snapshot", &order.snapshot)
            .set("bump", bump.unwrap_or_default())
            .set("name", &self.member.server)
            .set("peer_url", self.own_peer_url()?)
            .set("initial_cluster", self.topology.name_form())
            .set("token", &order.token)
            .line(PRIVILEGE)
            .line(restoring::script())
            .line(include_str!("restore.sh")))
    }

    /// How long this founder lets the first one start before it. etcd asks every founder, one after the other, whether the cluster is there
    /// already (`getClusterFromRemotePeers`): one that does not listen yet refuses at once, one that listens and does not serve yet costs a
    /// second. The first one meets refusals only, and the others ask it first, as peer URLs are asked in their order.
    fn head_start(&self) -> Duration {
        let founders: BTreeSet<String> = self.member.remaining_founders().into_iter().collect();
        if founders.first() == Some(&self.member.server) {
            return Duration::ZERO;
        }
        let others = u32::try_from(founders.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let cluster = &self.member.cluster;
        // A heartbeat is about a round trip.
        let heartbeat = cluster.heartbeat_interval.unwrap_or(timing::DEFAULT.heartbeat_ms);
        let measured = self.road.session(cluster.token()).round_trip();
        let round_trip = measured.unwrap_or(Duration::from_millis(heartbeat.into()));
        (round_trip.saturating_mul(others) + LEEWAY).min(LONGEST_HEAD_START)
    }
}

#[cfg(test)]
#[path = "install/tests.rs"]
mod tests;
