//! Snapshots that a server takes of its own member, by a timer of systemd's: they go on, and can be restored, whatever becomes of the
//! machine that runs Terraform.
//!
//! The script does what `etcdctl` on the server can: it takes none of a member that may be behind the cluster or whose data differ, writes
//! none that is not whole, deletes none before the next one is in place, and leaves room on the disk.

pub mod calendar;

use super::layout::{Layout, PathError, ServerPath};
use super::program;
use super::restoring;
use super::unit::{KEPT_FROM, KEPT_FROM_TOO, LIBRARIES, WRITABLE};
use super::version::Version;
use crate::host::PRIVILEGE;
use crate::topology::ClusterName;

/// How many mebibytes are left free on the disk.
const RESERVE_MIB: u32 = 512;
/// Folders with files of ours, which go with the member.
const OURS: [&str; 3] = ["/etc/etcd", "/usr/local/lib/etcd", "/var/lib/etcd-restore"];

/// What a server takes snapshots with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// When, as systemd's calendar expression.
    pub schedule: String,
    /// How many stay.
    pub keep: u32,
    /// Where they go.
    pub directory: ServerPath,
    /// The etcd that runs; its client is beside it.
    pub binary: ServerPath,
    /// Its version.
    pub version: Version,
    /// Where the member listens for clients on the server itself.
    pub endpoint: String,
    /// Whether that takes a certificate.
    pub tls: bool,
}

/// Where snapshots go unless the user says otherwise.
#[must_use]
pub fn default_directory(cluster: &ClusterName) -> String {
    format!("/var/lib/etcd-snapshots/{cluster}")
}

/// The folder for snapshots.
///
/// # Errors
/// [`PathError`] if the service could not write there, if it is not for them alone, or if it goes with the member.
pub fn directory(layout: &Layout, chosen: &str) -> Result<ServerPath, PathError> {
    let path = ServerPath::parse(chosen)?;
    let bad = |why| PathError {
        path: chosen.to_owned(),
        why,
    };
    path.usable_by_service()?;
    if path.is_shared() {
        return Err(bad("the system uses this folder; snapshots need one of their own"));
    }
    let (own, data) = (path.as_str(), layout.data_dir());
    if path.is_within(data.as_str()) || data.is_within(own) {
        return Err(bad(
            "the data directory is renamed as a whole when the member goes, and snapshots have to stay; take a folder beside it",
        ));
    }
    if OURS.iter().any(|ours| path.is_within(ours)) {
        return Err(bad("what is in it goes with the member, and snapshots have to stay"));
    }
    Ok(path)
}

/// The timer's name. No cluster's own unit can have it: `@` is in no cluster's name.
#[must_use]
pub fn timer_name(cluster: &ClusterName) -> String {
    format!("etcd-snapshot@{cluster}.timer")
}

/// The name of the service that takes one.
#[must_use]
pub fn service_name(cluster: &ClusterName) -> String {
    format!("etcd-snapshot@{cluster}.service")
}

/// Where the timer stands.
#[must_use]
pub fn timer_file(cluster: &ClusterName) -> String {
    format!("/etc/systemd/system/{}", timer_name(cluster))
}

/// Where the service stands.
#[must_use]
pub fn service_file(cluster: &ClusterName) -> String {
    format!("/etc/systemd/system/{}", service_name(cluster))
}

/// Where the script stands: `root`, 0755.
#[must_use]
pub fn script_file(layout: &Layout) -> String {
    format!("{}/scheduled-snapshot", layout.etc_dir())
}

/// When a snapshot was taken, in RFC 3339, and its revision, as the name of its file says; `None` for another file.
#[must_use]
pub fn parse_name(cluster: &ClusterName, name: &str) -> Option<(String, i64)> {
    let (stamp, revision) = name
        .strip_prefix(cluster.as_str())?
        .strip_prefix('-')?
        .split_once("Z-r")?;
    let (day, hour) = stamp.split_once('T')?;
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let revision = revision.strip_suffix(".db")?;
    if !digits(day, 8) || !digits(hour, 6) || !digits(revision, revision.len()) {
        return None;
    }
    let (year, month, day) = (&day[..4], &day[4..6], &day[6..]);
    let (hour, minute, second) = (&hour[..2], &hour[2..4], &hour[4..]);
    let taken_at = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    Some((taken_at, revision.parse().ok()?))
}

/// The text of the timer.
#[must_use]
pub fn timer(cluster: &ClusterName, schedule: &str) -> String {
    format!(
        "\
# Managed by Terraform (terraform-provider-etcd). Changes made here are overwritten.
[Unit]
Description=Snapshots of the etcd cluster {cluster}, from this server's member

[Timer]
OnCalendar={schedule}
# A member that sends a snapshot has more to do than the others: they are not to do it all at once.
RandomizedDelaySec=60
AccuracySec=1
# One that was missed while the server was off is made up for.
Persistent=yes
Unit={service}

[Install]
WantedBy=timers.target
",
        service = service_name(cluster)
    )
}

/// The text of the service. It runs as root, which alone can read root's certificate, and with none of root's capabilities.
#[must_use]
pub fn service(layout: &Layout, what: &Scheduled) -> String {
    let (directory, tools) = (&what.directory, tools(what));
    let script = script_file(layout);
    format!(
        "\
# Managed by Terraform (terraform-provider-etcd). Changes made here are overwritten.
[Unit]
Description=Snapshot of the etcd cluster {cluster}, from this server's member
Documentation=https://etcd.io/docs/
After={member}
RequiresMountsFor={directory}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh {script}
TimeoutStartSec=1h
SyslogIdentifier=etcd-snapshot
Nice=10
IOSchedulingPriority=7
UnsetEnvironment=HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
CapabilityBoundingSet=
{KEPT_FROM}
ReadWritePaths=-{directory}
NoExecPaths=/ -{directory} {WRITABLE}
ExecPaths=/usr -/bin -/sbin {tools} {LIBRARIES}
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
{KEPT_FROM_TOO}
",
        cluster = layout.cluster(),
        member = layout.unit_name(),
    )
}

/// The folder of etcd's programs.
fn tools(what: &Scheduled) -> &str {
    what.binary.as_str().rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The text of the script.
#[must_use]
pub fn script(layout: &Layout, what: &Scheduled) -> String {
    let tools = tools(what);
    let pki = if what.tls {
        layout.pki_dir().to_string()
    } else {
        String::new()
    };
    format!(
        "#!/bin/sh
# Managed by Terraform (terraform-provider-etcd). Changes made here are overwritten.
cluster={}
unit={}
directory={}
keep={}
reserve={RESERVE_MIB}
endpoint={}
pki={pki}
tools={tools}
reader={}
{PRIVILEGE}{}{}",
        layout.cluster(),
        layout.unit_name(),
        what.directory,
        what.keep,
        what.endpoint,
        restoring::tool(&what.version),
        program::SCRIPT,
        include_str!("scheduled/snapshot.sh")
    )
}

#[cfg(test)]
#[path = "scheduled/tests.rs"]
mod tests;
