//! What one server holds of its member.

use std::collections::BTreeMap;

use super::model::MemberModel;
use super::scheduled::{self, SeenScheduled};
use crate::etcd::layout::Layout;
use crate::etcd::program;
use crate::etcd::release::Sha256Sum;
use crate::etcd::restoring::Order;
use crate::etcd::version::Version;
use crate::etcd::wal;
use crate::host::{Host, Output, PRIVILEGE, RunError, Script};
use crate::membership::incarnation::Incarnation;
use crate::membership::member::{Data, Service};
use crate::resource::ports;
use crate::resource::talk::Lent;

/// A process that systemd has started so often again, and that is so many seconds old, may end once more.
const SEVERAL: f64 = 3.0;
const YOUNG: f64 = 60.0;

/// What was seen on the server.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The token of the founding permit.
    pub permit: Option<String>,
    /// The snapshot that it is to start with.
    pub restore: Option<Order>,
    /// The token of the cluster that its data was made for from a snapshot.
    pub restored: Option<String>,
    /// The token that is written down.
    pub token: Option<String>,
    /// The object of Terraform's that it belongs to.
    pub object: Option<Incarnation>,
    /// The data directory.
    pub data: Data,
    /// The service.
    pub service: Service,
    /// Whether its process ends again and again.
    pub ends_again: bool,
    /// Whether its process was started a moment ago.
    pub young: bool,
    /// Which process it is, and how often systemd has started it again.
    pub process: Option<Process>,
    /// Whether it was to be restarted for files that are in place, and the run was cut off before.
    pub restart_pending: bool,
    /// `net.ipv4.tcp_retries2`, where an apply has set it.
    pub tcp_retries2: Option<i64>,
    /// What it has for snapshots by a timer.
    pub scheduled: SeenScheduled,
    /// Whether it was to be taken over from its former service, and that has not come to its end yet.
    pub adopting: bool,
    /// What its former service is to it, if there is one of that name.
    pub former: Option<FormerService>,
    /// Whether it was stopped when nobody of its cluster was left, with its data in place.
    pub resting: bool,
    /// Whether the service starts at boot.
    pub enabled: bool,
    /// The file that the running process was started from.
    pub executable: Option<String>,
    /// Whether the file of the process was replaced since it was started.
    pub replaced: bool,
    /// The version that runs then, as the member itself says.
    pub running: Option<String>,
    /// The version that a member which does not run ran last.
    pub last: Option<String>,
    /// The ID that the data of a member which does not run has.
    pub data_id: Option<u64>,
    /// Another process that has one of the member's ports.
    pub port_taken: Option<(u16, String)>,
    /// SHA-256 of the files that were asked for, by path.
    pub files: BTreeMap<String, String>,
    /// The processor, as `uname -m` says.
    pub machine: String,
    /// Where the binary is, links followed.
    pub binary_path: Option<String>,
    /// The version that the binary says it is; empty where the path is there and is no etcd.
    pub binary: Option<String>,
    /// The SHA-256 of the binary.
    pub binary_sum: Option<String>,
    /// The SHA-256 of what the process runs, where that was started from the binary's place.
    pub running_sum: Option<String>,
    /// What of the binary, the programs beside it and the folders above them others than root can change: path, owner and mode.
    pub loose: Option<String>,
    /// Whether the binary is a script.
    pub script: bool,
    /// The configuration file.
    pub configuration: Option<String>,
    /// Certificates in PEM, by file name without ending.
    pub certificates: BTreeMap<String, String>,
    /// A certificate to talk to etcd with, where it was asked for.
    pub lent: Option<Lent>,
}

/// A process of the member's service, told from its next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pid: String,
    restarts: String,
}

impl Process {
    /// What systemd says of it; `None` if there is none.
    pub fn of(output: &Output) -> Option<Self> {
        let text = |key: &str| output.value(key).map(str::to_owned);
        Some(Self {
            pid: text("unit.MainPID").filter(|pid| pid != "0")?,
            restarts: text("unit.NRestarts")?,
        })
    }
}

/// The service that ran the member before this provider did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerService {
    /// Whether it has a process.
    pub runs: bool,
}

impl Seen {
    /// Whether its former service runs it still.
    pub fn former_runs(&self) -> bool {
        self.former.is_some_and(|former| former.runs)
    }

    /// With what was seen of the binary and the processor before, where this time nobody looked.
    pub fn after(self, before: &Seen) -> Self {
        Self {
            binary_path: self.binary_path.or_else(|| before.binary_path.clone()),
            binary: self.binary.or_else(|| before.binary.clone()),
            binary_sum: self.binary_sum.or_else(|| before.binary_sum.clone()),
            loose: self.loose.or_else(|| before.loose.clone()),
            ..self
        }
    }

    /// Whether nothing of the member is there.
    pub fn is_nothing(&self) -> bool {
        let taken_over = self.token.is_some() || !self.former_runs();
        self.data == Data::Empty && self.configuration.is_none() && self.service == Service::Stopped && taken_over
    }

    /// The minor version of etcd that a member which does not run ran last.
    pub fn last_minor(&self) -> Option<u64> {
        let last = Version::parse(self.last.as_deref()?).ok()?;
        Some(last.number().1)
    }

    /// The file that the process was started from, if that is not `wanted`. One that was replaced since is it still.
    pub fn other_executable(&self, wanted: &str) -> Option<&str> {
        let started_from = self.executable.as_deref()?.trim_end_matches(" (deleted)");
        (started_from != wanted).then_some(started_from)
    }
}

/// What to look at, beside what is always looked at.
#[derive(Clone, Copy, Default)]
pub struct Look<'a> {
    /// Where the binaries are to be; none of them is looked at where this is empty.
    pub binary: &'a str,
    /// The files to take checksums of.
    pub files: &'a [String],
    /// Whether other processes have the member's ports.
    pub ports: bool,
    /// A certificate to talk to etcd with, and its key.
    pub key: bool,
    /// Whether something on the server is in the way of what is wanted of it.
    pub obstacles: bool,
}

/// Observes. Changes nothing.
///
/// # Errors
/// If the script can't run.
pub async fn observe(host: &Host, member: &MemberModel, layout: &Layout, look: Look<'_>) -> Result<Seen, RunError> {
    let script = Script::new("observing the member");
    let script = append(script, member, layout, look);
    Ok(seen(&host.run_checked(&script).await?))
}

/// A script that observes when it has done what it did before: a round trip less. [`seen`] reads its output.
pub fn append(script: Script, member: &MemberModel, layout: &Layout, look: Look<'_>) -> Script {
    let ports = member
        .server()
        .filter(|_| look.ports)
        .map(|server| format!("{} {}", server.peer_port, server.client_port))
        .unwrap_or_default();
    scheduled::given(script, member, layout, look)
        .set("cluster", &member.cluster.name)
        .set("data", layout.data_dir().as_str())
        .set("unit", layout.unit_name())
        .set("user", layout.user())
        .set("head", wal::HEAD.to_string())
        .set("former", member.cluster.adopted_from.as_deref().unwrap_or_default())
        .set("ports", ports)
        .set("binary", look.binary)
        .set("files", look.files.join(" "))
        .set("with_key", if look.key { "yes" } else { "no" })
        .line(ports::SCRIPT)
        .line(include_str!("../await_start.sh"))
        .line(PRIVILEGE)
        .line(program::SCRIPT)
        .line(include_str!("../lend.sh"))
        .line(include_str!("observe.sh"))
}

fn number(output: &Output, key: &str) -> Option<f64> {
    output.value(key).and_then(|text| text.parse().ok())
}

/// Whether the member's process was started a moment ago.
fn young(output: &Output) -> bool {
    let started = number(output, "unit.ExecMainStartTimestampMonotonic").map(|micros| micros / 1e6);
    let now = number(output, "uptime");
    started.zip(now).is_some_and(|(started, now)| now - started < YOUNG)
}

/// Whether systemd starts the member's process again and again: it waits to do so, or it has done so several times and the process is young.
fn ends_again(output: &Output) -> bool {
    let several = number(output, "unit.NRestarts").is_some_and(|times| times >= SEVERAL);
    several && (output.value("unit.SubState") == Some("auto-restart") || young(output))
}

/// What an observing script found.
pub fn seen(output: &Output) -> Seen {
    let text = |key: &str| output.value(key).map(str::to_owned);
    let decoded = |key: &str| output.text(key).map(str::to_owned);
    let service = match (output.value("unit.ActiveState"), output.value("unit.MainPID")) {
        (Some("active" | "activating" | "reloading"), Some(pid)) if pid != "0" => Service::Running,
        (Some("failed"), _) => Service::Failed,
        _ => Service::Stopped,
    };
    let names = ["peer", "peer-client", "server", "operator", "peer-ca", "client-ca"];
    let sum = |key: &str| Some(Sha256Sum::parse(output.value(key)?).ok()?.as_str().to_owned());
    let mut seen = Seen {
        permit: text("permit"),
        restore: Order::read(|key| output.value(&format!("restore.{key}")).map(str::to_owned)),
        restored: text("restored"),
        token: text("token"),
        object: output.value("object").and_then(Incarnation::parse),
        data: match output.value("data") {
            Some("member") => Data::Member,
            Some("other") => Data::Other,
            _ => Data::Empty,
        },
        service,
        ends_again: ends_again(output),
        young: young(output),
        process: Process::of(output),
        restart_pending: output.value("restart-pending").is_some(),
        tcp_retries2: output.value("tcp-retries2").and_then(|number| number.parse().ok()),
        scheduled: SeenScheduled::of(output),
        adopting: output.value("adopting").is_some(),
        former: (output.value("former.LoadState") == Some("loaded")).then(|| FormerService {
            runs: output.value("former.MainPID").is_some_and(|pid| pid != "0"),
        }),
        resting: output.value("resting").is_some(),
        enabled: output.value("unit.UnitFileState") == Some("enabled"),
        executable: text("executable"),
        replaced: output.value("replaced").is_some(),
        running: None,
        last: text("last").filter(|version| !version.is_empty()),
        data_id: output.value("log-head").and_then(|head| wal::member_id(&unhex(head)?)),
        port_taken: ports::read(output).into_iter().next(),
        files: output
            .values("file")
            .filter_map(|line| line.split_once(' '))
            .map(|(sum, path)| (path.to_owned(), sum.to_owned()))
            .collect(),
        machine: text("machine").unwrap_or_default(),
        binary_path: text("binary-path"),
        binary: text("binary"),
        binary_sum: sum("binary-sum"),
        running_sum: sum("running-sum"),
        script: output.value("binary-script").is_some(),
        loose: text("binary-loose").filter(|loose| !loose.is_empty()),
        configuration: decoded("config"),
        certificates: names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), decoded(&format!("certificate.{name}"))?)))
            .collect(),
        lent: Lent::of(output),
    };
    // A process of another place is told by that, and may be about to become etcd.
    if seen
        .binary_path
        .as_deref()
        .is_none_or(|path| seen.other_executable(path).is_some())
    {
        seen.running_sum = None;
    }
    seen
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect()
}
