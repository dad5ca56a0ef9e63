//! What `etcd_cluster` does on its servers: observe, write every server's view, leave permits, clear up. All
//! servers at once, one script each.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::{Duration, SystemTime};

use futures::future::join_all;

use super::preflight::Preflight;
use crate::etcd::names;
use crate::etcd::restoring::Order;
use crate::host::{ClockOffset, FileSpec, Host, MOUNTS, Output, PRIVILEGE, RunError, Script, said};
use crate::membership::founding::{Holding, Seen};
use crate::membership::preflight::Disk;
use crate::membership::whereabouts::Machine;
use crate::resource::road::{Road, RoadError};
use crate::resource::server::model::ServerModel;
use crate::resource::talk::Lent;
use crate::resource::{mounted, ports, whereabouts};
use crate::topology::{ServerName, Topology, hosts_block};

/// Why a step on one server failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It was not reached.
    #[error(transparent)]
    Road(#[from] RoadError),
    /// The script failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl StepError {
    /// Whether the server was not reached, or no longer.
    pub fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Road(error) => matches!(error, RoadError::Connect(_)),
            Self::Run(error) => error.is_of_the_connection(),
        }
    }
}

/// What every server gave, or why it gave nothing.
pub type Each<T> = BTreeMap<String, Result<T, StepError>>;

/// Does something on all servers at once.
pub async fn on_each<'a, T, F>(
    road: &'a Road,
    servers: &'a BTreeMap<String, ServerModel>,
    within: Duration,
    patient: bool,
    work: impl Fn(&'a str, Host) -> F,
) -> Each<T>
where
    F: Future<Output = Result<T, RunError>>,
{
    let work = &work;
    let all = servers.iter().map(|(name, server)| async move {
        let outcome = async {
            let host = road.connect(server, within, patient).await?;
            Ok(work(name, host).await?)
        };
        (name.clone(), outcome.await)
    });
    join_all(all).await.into_iter().collect()
}

/// What one server holds, with the view that is in its hosts file.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// For the decision on founding.
    pub holding: Holding,
    /// Data of a former member of a cluster of this name, which was set aside.
    pub aside: Vec<String>,
    /// Whether a process of its member runs.
    pub runs: bool,
    /// Its clock against ours.
    pub clock: Option<ClockOffset>,
    /// Whether it answers a preflight: what kind of machine it is, or why it does not. `None` where it was not to.
    pub listening: Option<Result<String, String>>,
    /// How its disk is, if that was measured.
    pub disk: Option<Disk>,
    /// The machine that answered.
    pub machine: Machine,
    /// A certificate to talk to the members with, if it was asked for one.
    pub lent: Option<Lent>,
    /// The addresses that the names of the servers have on this one. What else is in its block is under the name that it
    /// has there.
    pub addresses: BTreeMap<String, String>,
}

impl Observation {
    /// Files of another cluster of the same name are no member's of this one.
    pub fn compare_token(&mut self, own: &str) {
        if let Some(other) = self.holding.token.as_ref().filter(|token| *token != own) {
            self.holding.founded = false;
            self.machine.other_token = Some(said::one_line(other));
            self.machine.member = None;
        }
    }
}

/// Observes one server. Changes nothing; with a preflight, it listens for that from now on.
///
/// # Errors
/// If the script can't run.
pub async fn observe(
    host: &Host,
    topology: &Topology,
    server: &str,
    preflight: Option<&Preflight<'_>>,
) -> Result<Observation, RunError> {
    observe_and_borrow(host, topology, server, preflight, false).await
}

/// The same, and lends the certificate with which the members can be talked to.
///
/// # Errors
/// If the script can't run.
pub async fn observe_and_borrow(
    host: &Host,
    topology: &Topology,
    server: &str,
    preflight: Option<&Preflight<'_>>,
    borrow: bool,
) -> Result<Observation, RunError> {
    let cluster = topology.cluster();
    let ports = topology
        .find(server)
        .map(|(_, server)| format!("{} {}", server.peer_port, server.client_port))
        .unwrap_or_default();
    let mut script = Script::new("observing the server");
    if let Some(preflight) = preflight {
        // What an earlier one left has the port.
        script = preflight.ending(script);
    }
    script = script
        .set("cluster", cluster.as_str())
        .set("ports", ports)
        .set("begin_mark", hosts_block::begin_mark(cluster))
        .set("end_mark", hosts_block::end_mark(cluster))
        .line(ports::SCRIPT)
        .line(include_str!("../await_start.sh"))
        .line(include_str!("observe.sh"))
        .line(whereabouts::SCRIPT);
    if borrow {
        script = script.line(include_str!("../lend.sh")).line("lend \"$etc/pki\"");
    }
    if let Some(preflight) = preflight {
        script = preflight.begin(script, server);
    }
    let output = host
        .run_checked(&script.line("tell date_last \"$(date +%s.%N)\""))
        .await?;
    Ok(observation(&output, topology, SystemTime::now()))
}

fn observation(output: &Output, topology: &Topology, received: SystemTime) -> Observation {
    let names: BTreeMap<String, &ServerName> = topology
        .servers()
        .keys()
        .map(|server| (topology.domain().stable_name(server), server))
        .collect();
    let mut addresses: BTreeMap<String, String> = BTreeMap::new();
    for line in output.values("hosts") {
        let Some((address, name)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let Some(name) = name.split_whitespace().next() else {
            continue;
        };
        let server = names.get(name).map_or(name, |server| server.as_str());
        addresses
            .entry(server.to_owned())
            .and_modify(|all| *all = format!("{all}, {address}"))
            .or_insert_with(|| address.to_owned());
    }
    let holding = Holding {
        token: output.value("token").map(str::to_owned),
        permit: output.value("permit").is_some(),
        data: output.value("data").map(str::to_owned),
        founders: output.value("founding").map(names_in),
        founded: output.value("founded").is_some(),
        ports_taken: ports::read(output),
    };
    let machine = whereabouts::machine(output, |name| Some(said::name(name)));
    let runs = output.value("pid").is_some_and(|pid| pid != "0");
    let listening = output.value("listening").map(|machine| Ok(machine.to_owned()));
    let silent = output.value("not-listening").map(|why| Err(why.to_owned()));
    Observation {
        holding,
        aside: output.values("aside").map(str::to_owned).collect(),
        runs,
        clock: ClockOffset::of(output, received),
        listening: listening.or(silent),
        disk: super::preflight::disk(output),
        machine,
        lent: Lent::of(output),
        addresses,
    }
}

/// The names in an `initial-cluster`.
fn names_in(initial_cluster: &str) -> BTreeSet<String> {
    let entries = initial_cluster.split(',').filter_map(|entry| entry.split_once('='));
    entries.map(|(name, _)| name.to_owned()).collect()
}

/// What the founding decision needs to know of the servers.
pub fn seen(observations: &Each<Observation>) -> BTreeMap<String, Seen> {
    observations
        .iter()
        .map(|(name, outcome)| {
            let seen = match outcome {
                Ok(observation) => Seen::Reached(observation.holding.clone()),
                Err(error) => Seen::Unreached(error.to_string()),
            };
            (name.clone(), seen)
        })
        .collect()
}

/// The right to found.
#[derive(Clone, Copy)]
pub struct Permit<'a> {
    /// The snapshot to found from, if it is one.
    pub order: Option<&'a Order>,
}

/// Writes one server's view into its hosts file and, where it is to found, leaves the permit.
///
/// # Errors
/// If the script fails: the hosts file can't be edited, the disk is full, or another run has founded the cluster meanwhile.
pub async fn prepare(
    host: &Host,
    topology: &Topology,
    server: &str,
    token: &str,
    permit: Option<Permit<'_>>,
    preflight: Option<&Preflight<'_>>,
) -> Result<(), RunError> {
    let cluster = topology.cluster();
    let view = ServerName::parse(server)
        .ok()
        .and_then(|name| topology.view(&name).ok());
    let lines = view.map(|view| view.hosts_lines).unwrap_or_default();
    let directory = format!("/etc/etcd/{cluster}");
    let mut script = Script::new("writing the server's view into /etc/hosts");
    if let Some(preflight) = preflight {
        // Before anything that may fail.
        script = preflight.ending(script);
    }
    script = script
        .line(PRIVILEGE)
        .line(hosts_block::script())
        .set("begin_mark", hosts_block::begin_mark(cluster))
        .set("end_mark", hosts_block::end_mark(cluster))
        .set("block", hosts_block::render(cluster, &lines))
        .set("directory", &directory)
        .set("data", format!("/var/lib/etcd/{cluster}"))
        .line("umask 022; mkdir -p /etc/etcd; umask 077; only_roots /etc/etcd; mkdir -p \"$directory\"")
        // The copy first: what puts the block back from it never puts back an earlier one.
        .write_file(&FileSpec {
            path: names::copy(cluster),
            mode: 0o600,
            owner: "0:0".to_owned(),
            contents: hosts_block::render(cluster, &lines).into_bytes().into(),
        })
        .line("edit_hosts /etc/hosts \"$begin_mark\" \"$end_mark\" \"$block\"");
    if let Some(Permit { order }) = permit {
        // The token first: a permit never stands without it.
        script = script
            .line(include_str!("not_founded.sh"))
            .write_file(&root_file(format!("{directory}/token"), token))
            // A configuration of an earlier founding may name other servers. The member's create writes the one for this permit.
            .line(
                "rm -f \"$directory/founding.yaml\" \"$directory/restore\" \"$directory/founded\"; sync \"$directory\"",
            );
        if let Some(order) = order {
            // Before the permit: whoever is to start with a snapshot's data must never found without.
            script = script.write_file(&root_file(format!("{directory}/restore"), &order.render()));
        }
        script = script
            .write_file(&root_file(format!("{directory}/founding-permit"), token))
            .line("sync \"$directory\"");
    }
    host.run_checked(&script).await.map(drop)
}

/// A file of root's own with one line.
pub fn root_file(path: String, contents: &str) -> FileSpec {
    FileSpec {
        path,
        mode: 0o600,
        owner: "0:0".to_owned(),
        contents: format!("{contents}\n").into_bytes().into(),
    }
}

/// What becomes of a member on a server which is cleared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// It is left as it is if it runs or holds data: it is a member of a cluster that was founded, and that stays.
    Refuse,
    /// It is left as it is if it runs: it is a member of a cluster that was founded.
    RefuseRunning,
    /// It is stopped, and its data kept aside.
    Take,
}

impl Members {
    fn word(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::RefuseRunning => "refuse-running",
            Self::Take => "take",
        }
    }
}

/// What clearing up found.
#[derive(Clone, Debug, Default)]
pub struct Cleared {
    /// A member of the cluster runs, and was to be left as it is.
    pub runs: bool,
    /// Its data, which was to be left as it is.
    pub holds: Option<String>,
    /// The token of another cluster of this name, which was left alone.
    pub other: Option<String>,
    /// The member of another server that the files there are of, which were left alone.
    pub anothers: Option<String>,
    /// Where data was kept.
    pub kept: Option<String>,
    /// What is mounted in what was to be deleted; nothing was changed then.
    pub mounted: Vec<String>,
}

/// Takes away what the cluster has on a server.
///
/// # Errors
/// If the script fails.
pub async fn clear(
    host: &Host,
    topology: &Topology,
    server: &str,
    token: &str,
    members: Members,
) -> Result<Cleared, RunError> {
    let name = topology.cluster();
    let script = Script::new("taking the cluster off the server")
        .line(PRIVILEGE)
        .line(hosts_block::script())
        .set("cluster", name.as_str())
        .set("token", token)
        .set("server", server)
        .set("begin_mark", hosts_block::begin_mark(name))
        .set("end_mark", hosts_block::end_mark(name))
        .set("stamp", stamp())
        .set("members", members.word())
        .line(MOUNTS)
        .line(include_str!("../binaries.sh"))
        .line(include_str!("../tcp_retries.sh"))
        .line(include_str!("../scheduled_snapshots.sh"))
        .line(include_str!("../remove_member.sh"))
        .line(include_str!("clear.sh"));
    let output = host.run_checked(&script).await?;
    Ok(Cleared {
        runs: output.value("runs").is_some(),
        holds: output.value("holds").map(str::to_owned),
        other: output.value("other").map(str::to_owned),
        anothers: output.value("anothers").map(said::name),
        kept: output.value("kept").map(str::to_owned),
        mounted: mounted::read(&output),
    })
}

/// The time as part of a file name.
pub fn stamp() -> String {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    time::OffsetDateTime::now_utc().format(&format).unwrap_or_default()
}
