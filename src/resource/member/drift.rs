//! What differs on a server from what the last apply left there, beyond what has an attribute of its own: the attribute
//! `drift`, which a plan shows and an apply empties.

use std::collections::BTreeMap;

use super::Whole;
use super::binary;
use super::install::service_files;
use super::observe::Seen;
use super::revoked;
use super::scheduled;
use super::wanted::{self, WantedFile};
use crate::membership::damage::Damage;
use crate::membership::member::{Data, Service};
use crate::plugin::value::Value;

/// The key of a service that is not started at boot.
const BOOT: &str = "start at boot";
/// The key of a member that the cluster's list does not have any more.
pub const MEMBER_LIST: &str = "member list";
/// What is said of it.
pub const REMOVED: &str = "was removed from the cluster";
/// The key of a member that belongs to another object of Terraform's.
const OBJECT: &str = "object";
/// What is said of it.
const ANOTHER: &str = "another object has taken it over: a run was killed, or two states have it";
/// The key of a server that could not be reached when the member was to be changed.
pub const SERVER: &str = "server";
/// What is said of it.
pub const UNREACHED: &str = "could not be reached, and does not have the last changes yet";
/// What is said of a member that its former service runs.
const NOT_TAKEN_OVER: &str = "runs the member; it was not taken over yet";
/// What is said of one of which that was begun.
const BEGUN: &str = "ran the member; it is being taken over";
/// What is said of a data directory without a write-ahead log.
const NO_DATA: &str = "holds no data of a member";

/// The key of what runs.
const PROCESS: &str = "process";
/// What is said of it when its file was replaced since it was started.
const RUNS_OTHER: &str = "runs another program than its file is now";
/// What is said of a program whose version is right, and whose checksum is not.
const OTHER_PROGRAM: &str = "is another program than the last apply left there";

/// Compares what was seen with what the state says. Keys are files by path, or parts of the member in words; values say
/// what is wrong.
pub fn drift(whole: &Whole, seen: &Seen) -> BTreeMap<String, String> {
    if let Some(service) = &whole.member.cluster.adopted_from {
        let what = match seen.adopting {
            true => Some(BEGUN),
            false => (seen.token.is_none() && seen.former_runs()).then_some(NOT_TAKEN_OVER),
        };
        if let Some(what) = what {
            return BTreeMap::from([(service.clone(), what.to_owned())]);
        }
    }
    let mut found = BTreeMap::new();
    let mut note = |part: &str, what: &str| found.insert(part.to_owned(), what.to_owned());
    if let Ok(executable) = binary::executable(&whole.member, &whole.version, seen) {
        match seen.binary.as_deref() {
            _ if seen.loose.is_some() => drop(note(executable.as_str(), "can be changed by another user than root")),
            None => drop(note(executable.as_str(), "is missing")),
            Some("") => drop(note(executable.as_str(), "is no etcd")),
            Some(version) if version != whole.version.to_string() => {
                note(executable.as_str(), &format!("is etcd {version}"));
            }
            Some(_) if is_other_program(whole, seen) => drop(note(executable.as_str(), OTHER_PROGRAM)),
            Some(_) => {}
        }
        let runs = seen.running_sum.as_ref().filter(|_| seen.service == Service::Running);
        if runs
            .zip(seen.binary_sum.as_ref())
            .is_some_and(|(runs, there)| runs != there)
        {
            note(PROCESS, RUNS_OTHER);
        }
        let other = seen.other_executable(executable.as_str());
        if let Some(other) = other.filter(|_| seen.service == Service::Running) {
            note(PROCESS, &format!("runs {other}"));
        }
    }
    let files = service_files(&whole.member, &whole.topology, &whole.layout, &whole.version, seen);
    for file in files.iter().flatten() {
        if let Some(what) = complaint(file, seen) {
            note(&file.path, what);
        }
    }
    if let Ok(Some(list)) = revoked::wanted(&whole.member, &whole.layout)
        && let Some(what) = complaint(&list, seen)
    {
        note(&list.path, what);
    }
    if let Ok(wanted) = scheduled::wanted(&whole.member, &whole.topology, &whole.layout, &whole.version, seen) {
        for (part, what) in scheduled::differences(wanted.as_ref(), &whole.layout, seen) {
            note(&part, &what);
        }
    }
    if seen.data != Data::Member {
        note(whole.layout.data_dir().as_str(), NO_DATA);
    }
    if !seen.enabled {
        note(BOOT, "is switched off");
    }
    found.extend(wanted::certificate_drift(
        &whole.member,
        &whole.topology,
        &whole.layout,
        &whole.version,
        seen,
    ));
    found
}

/// The key of a member whose data is another server's member's.
const MEMBER_ID: &str = "member ID";

/// Notes that the data of the member is wrong in a way that a plan shows nowhere else.
pub fn note_damage(state: &mut Value, damage: &Damage) {
    if let Damage::Copied { from } = damage {
        let mut drift = state.get("drift").as_map().cloned().unwrap_or_default();
        let what = format!("is that of the member on {from}, whose data was copied");
        drift.insert(MEMBER_ID.to_owned(), what.into());
        state.set("drift", drift);
    }
}

/// Whether the last refresh saw that the member's data is another server's member's.
pub fn is_copied(state: &Value) -> bool {
    state
        .get("drift")
        .as_map()
        .is_some_and(|drift| drift.contains_key(MEMBER_ID))
}

/// Notes that the member belongs to another object; the next apply makes it this one's again.
pub fn note_other_object(state: &mut Value) {
    let mut drift = state.get("drift").as_map().cloned().unwrap_or_default();
    drift.insert(OBJECT.to_owned(), ANOTHER.into());
    state.set("drift", drift);
}

/// Whether an apply that ends what `state` says of the drift makes the member another one of the cluster's.
pub fn joins_anew(state: &Value) -> bool {
    let drift = state.get("drift").as_map().into_iter().flatten();
    drift
        .filter_map(|(_, what)| what.as_str())
        .any(|what| [REMOVED, NO_DATA].contains(&what))
}

/// The key of a member that the cluster's list has at another peer URL.
const PEER_URL: &str = "peer URL";

/// What a look at the member list says of the member's peer URL, if that is not the wanted one.
pub fn of_peer_url(listed: &[String], wanted: &str) -> Option<(String, String)> {
    (listed != [wanted.to_owned()]).then(|| {
        (
            PEER_URL.to_owned(),
            format!("is {} in the member list", listed.join(", ")),
        )
    })
}

/// Whether the member list has another peer URL of the member.
pub fn lists_another_url(state: &Value) -> bool {
    state
        .get("drift")
        .as_map()
        .is_some_and(|drift| drift.contains_key(PEER_URL))
}

/// Whether an apply that ends what `state` says of the drift may leave another program there: it is missing, or another one.
pub fn brings_program(state: &Value) -> bool {
    let drift = state.get("drift").as_map().into_iter().flatten();
    drift.map(|(part, _)| part).any(|part| part.ends_with("/etcd"))
}

/// Whether the member that `state` is about is still to be taken over from its former service.
pub fn is_to_be_adopted(state: &Value) -> bool {
    let drift = state.get("drift").as_map().into_iter().flatten();
    drift
        .filter_map(|(_, what)| what.as_str())
        .any(|what| [NOT_TAKEN_OVER, BEGUN].contains(&what))
}

/// What `drift` is when it was just imported.
pub fn of_import(service: &str) -> Value {
    BTreeMap::from([(service.to_owned(), Value::from(NOT_TAKEN_OVER))]).into()
}

/// Whether an apply that ends what `state` says of the drift issues certificates.
pub fn issues_certificates(state: &Value) -> bool {
    let drift = state.get("drift").as_map();
    drift.is_some_and(|drift| drift.keys().any(|part| part.contains("/pki/")))
}

fn is_other_program(whole: &Whole, seen: &Seen) -> bool {
    let left = whole.member.binary_sha256.as_ref();
    left.zip(seen.binary_sum.as_ref())
        .is_some_and(|(left, there)| left != there)
}

fn complaint(file: &WantedFile, seen: &Seen) -> Option<&'static str> {
    if file.is_there(seen) {
        None
    } else if seen.files.contains_key(&file.path) {
        Some("differs")
    } else {
        Some("is missing")
    }
}
