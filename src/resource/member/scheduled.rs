//! The attribute `snapshots`: snapshots that the server takes of its member by itself.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::binary;
use super::errors::BringUpError;
use super::model::{MemberModel, default_data_dir};
use super::observe::{Look, Seen};
use super::wanted::WantedFile;
use crate::etcd::layout::Layout;
use crate::etcd::restoring;
use crate::etcd::scheduled::{self, Scheduled, calendar};
use crate::etcd::version::Version;
use crate::host::{Output, PRIVILEGE, Script};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;
use crate::topology::{ClusterName, Topology};

/// How many stay unless the configuration says otherwise.
const KEEP: u32 = 24;
/// The key of a timer that does nothing, in `drift`.
const TIMER: &str = "snapshot timer";

/// The attribute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ScheduledModel {
    /// When.
    pub schedule: String,
    /// How many stay.
    #[serde(default)]
    pub keep: Option<u32>,
    /// Where they go.
    #[serde(default)]
    pub directory: Option<String>,
}

/// What was seen of it on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenScheduled {
    /// Whether the timer waits for its time.
    pub active: bool,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Whether the folder is there.
    pub directory: bool,
    /// What is in the way on this server: on which attribute, and what.
    pub wrong: Option<(&'static str, String)>,
}

impl SeenScheduled {
    /// What an observing script found.
    pub fn of(output: &Output) -> Self {
        let wrong = ["schedule", "directory", "tools"]
            .into_iter()
            .find_map(|what| Some((what, output.value(&format!("snapshots.{what}"))?.to_owned())));
        Self {
            active: output.value("timer.ActiveState") == Some("active"),
            enabled: output.value("timer.UnitFileState") == Some("enabled"),
            directory: output.value("snapshots") == Some("there"),
            wrong,
        }
    }
}

/// The attribute's schema.
pub fn attribute() -> Attribute {
    Attribute::object("snapshots", vec![
        Attribute::string("schedule").required().describe(
            "When, as a calendar expression of systemd's, such as `hourly`, `*-*-* 03:30` or `*:0/15`, in the server's time zone unless it \
             ends with one. Up to a minute later at random, so that the members don't all do it at once.",
        ),
        Attribute::number("keep").default(i64::from(KEEP)).describe(
            "How many stay on the server. The oldest are deleted when another one is in place. Default: 24.",
        ),
        Attribute::string("directory").or_computed().describe(
            "The folder on the server that they go to, root's alone. Default: `/var/lib/etcd-snapshots/<cluster>`.",
        ),
    ])
    .describe(
        "Snapshots that the server takes of its own member by a timer of systemd's, whatever becomes of the machine that runs Terraform. Default: \
         none.",
    )
}

/// Checks what the configuration alone tells.
pub fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    let snapshots = config.get("snapshots");
    let at = |attribute: &'static str| Path::of("snapshots").attribute(attribute);
    if let Some(schedule) = snapshots.get("schedule").as_str()
        && let Err(why) = calendar::check(schedule)
    {
        let text = format!(
            "{schedule:?} is no calendar expression of systemd's: {why}. Examples: \"hourly\", \"*-*-* 03:30\" (every day), \
             \"Sun 04:00\", \"*:0/15\" (every quarter of an hour)."
        );
        diagnostics.push(Diagnostic::error("Invalid schedule", text).at(at("schedule")));
    }
    let keep = snapshots.get("keep");
    let whole = keep.as_i64().and_then(|keep| u32::try_from(keep).ok());
    if !keep.is_null() && !keep.is_unknown() && whole.is_none_or(|keep| keep == 0) {
        let text = "It has to be a whole number, 1 at least.";
        diagnostics.push(Diagnostic::error("Invalid keep", text).at(at("keep")));
    }
    // The default of the data directory hangs on the name.
    let name = config.at(&["cluster", "name"]).as_str();
    let cluster = name.and_then(|name| ClusterName::parse(name).ok());
    let data = config.get("data_dir");
    let data = match data.as_str() {
        Some(data) => Some(data.to_owned()),
        None => name.filter(|_| data.is_null()).map(default_data_dir),
    };
    let layout = cluster
        .zip(data)
        .and_then(|(cluster, data)| Layout::new(&cluster, Some(&data)).ok());
    if let (Some(layout), Some(directory)) = (layout, snapshots.get("directory").as_str())
        && let Err(error) = scheduled::directory(&layout, directory)
    {
        diagnostics.push(Diagnostic::error("Invalid directory for snapshots", error.to_string()).at(at("directory")));
    }
}

/// Says where they go, where the configuration does not.
pub fn refine(config: &Value, planned: &mut Value) {
    let cluster = planned.at(&["cluster", "name"]).as_str();
    let cluster = cluster.and_then(|name| ClusterName::parse(name).ok());
    let mut snapshots = planned.get("snapshots").clone();
    if let (Some(cluster), Value::Map(_), true) =
        (cluster, &snapshots, config.at(&["snapshots", "directory"]).is_null())
    {
        snapshots.set("directory", scheduled::default_directory(&cluster));
        planned.set("snapshots", snapshots);
    }
}

/// What an import makes of what the server has.
pub fn of_import(schedule: Option<&str>, keep: Option<&str>, directory: Option<&str>) -> Value {
    let (Some(schedule), Some(keep), Some(directory)) =
        (schedule, keep.and_then(|keep| keep.parse::<i64>().ok()), directory)
    else {
        return Value::Null;
    };
    Value::object([
        ("schedule", schedule.into()),
        ("keep", keep.into()),
        ("directory", directory.into()),
    ])
}

/// The files by path, wanted or not.
pub fn paths(layout: &Layout) -> [String; 3] {
    let cluster = layout.cluster();
    [
        scheduled::script_file(layout),
        scheduled::service_file(cluster),
        scheduled::timer_file(cluster),
    ]
}

/// What is to be on the server.
pub struct Wanted {
    files: [WantedFile; 3],
    directory: String,
}

/// What is to be on the server, if the member is to have any.
///
/// # Errors
/// If something on the server is in the way.
pub fn wanted(
    member: &MemberModel,
    topology: &Topology,
    layout: &Layout,
    version: &Version,
    seen: &Seen,
) -> Result<Option<Wanted>, BringUpError> {
    let Some(model) = &member.snapshots else {
        return Ok(None);
    };
    if let Some((what, why)) = &seen.scheduled.wrong {
        return Err(BringUpError::Scheduled {
            server: member.server.clone(),
            what,
            why: why.clone(),
        });
    }
    let (_, server) = topology.find(&member.server)?;
    let loopback = match server.loopback() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    };
    let what = Scheduled {
        schedule: model.schedule.clone(),
        keep: model.keep.unwrap_or(KEEP),
        directory: scheduled::directory(layout, &model.directory(layout))?,
        binary: binary::executable(member, version, seen)?,
        version: version.clone(),
        endpoint: format!("{}://{loopback}:{}", topology.scheme(), server.client_port),
        tls: member.cluster.tls_enabled(),
    };
    let cluster = layout.cluster();
    let [script, service, timer] = paths(layout);
    let file = |path, mode, contents: String| WantedFile {
        path,
        mode,
        contents: contents.into(),
    };
    Ok(Some(Wanted {
        files: [
            file(script, 0o755, scheduled::script(layout, &what)),
            file(service, 0o644, scheduled::service(layout, &what)),
            file(timer, 0o644, scheduled::timer(cluster, &what.schedule)),
        ],
        directory: what.directory.to_string(),
    }))
}

impl ScheduledModel {
    /// Where they go.
    pub fn directory(&self, layout: &Layout) -> String {
        let default = || scheduled::default_directory(layout.cluster());
        self.directory.clone().unwrap_or_else(default)
    }
}

/// Whether it is all there as it is wanted, or nothing where nothing is.
pub fn in_place(wanted: Option<&Wanted>, layout: &Layout, seen: &Seen) -> bool {
    differences(wanted, layout, seen).is_empty()
}

/// How the server differs from what is wanted, by file or part.
pub fn differences(wanted: Option<&Wanted>, layout: &Layout, seen: &Seen) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut note = |part: &str, what: &str| drop(found.insert(part.to_owned(), what.to_owned()));
    let Some(wanted) = wanted else {
        for path in paths(layout).iter().filter(|path| seen.files.contains_key(*path)) {
            note(path, "is there, and is not wanted");
        }
        return found;
    };
    for file in wanted.files.iter().filter(|file| !file.is_there(seen)) {
        let differs = seen.files.contains_key(&file.path);
        note(&file.path, if differs { "differs" } else { "is missing" });
    }
    if !seen.scheduled.directory {
        note(&wanted.directory, "is missing");
    }
    match (seen.scheduled.active, seen.scheduled.enabled) {
        (true, true) => {}
        (false, _) => note(TIMER, "is stopped"),
        (true, false) => note(TIMER, "does not start at boot"),
    }
    found
}

/// Brings it into place, or takes it away.
pub fn put(script: Script, wanted: Option<&Wanted>, layout: &Layout) -> Script {
    let cluster = layout.cluster();
    let script = script.set("snapshots_of", cluster.as_str());
    let Some(wanted) = wanted else {
        return script
            .line(include_str!("../scheduled_snapshots.sh"))
            .line("remove_snapshots \"$snapshots_of\" keep_data");
    };
    let script = wanted
        .files
        .iter()
        .fold(script, |script, file| file.put(script, layout));
    script
        .set("snapshot_directory", &wanted.directory)
        .set("timer", scheduled::timer_name(cluster))
        .line(PRIVILEGE)
        .line("only_roots \"$snapshot_directory\"")
        .line("(umask 022; mkdir -p \"$(dirname \"$snapshot_directory\")\")")
        .line("[ -d \"$snapshot_directory\" ] || mkdir -m 0700 \"$snapshot_directory\"")
        // Enabling has systemd read its units anew, and only a timer that is started again goes by another schedule at once.
        .line("systemctl --quiet enable \"$timer\" 2>/dev/null")
        .line("systemctl daemon-reload")
        .line("systemctl restart \"$timer\"")
}

/// What an observing script needs to know. Whether something on the server is in the way is looked at where it is asked for.
pub fn given(script: Script, member: &MemberModel, layout: &Layout, look: Look<'_>) -> Script {
    let model = member.snapshots.as_ref();
    let schedule = model.filter(|_| look.obstacles).map(|model| model.schedule.as_str());
    let directory = model.map(|model| model.directory(layout)).unwrap_or_default();
    let version = Version::parse(&member.version).ok();
    script
        .set("timer", scheduled::timer_name(layout.cluster()))
        .set("schedule", schedule.unwrap_or_default())
        .set("snapshot_directory", directory)
        .set("reader", version.as_ref().map_or("etcdctl", restoring::tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(snapshots: &[(&'static str, Value)], data_dir: Value) -> Vec<String> {
        let snapshots = { snapshots.iter() }
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let config = Value::object([
            ("cluster", Value::object([("name", "main".into())])),
            ("data_dir", data_dir),
            ("snapshots", Value::Map(snapshots)),
        ]);
        let mut diagnostics = Diagnostics::new();
        validate(&config, &mut diagnostics);
        diagnostics.iter().map(|one| format!("{one:?}")).collect()
    }

    #[test]
    fn what_can_be_seen_to_be_wrong_is_said_on_its_attribute() {
        let good = ("schedule", Value::from("hourly"));
        assert!(complaints(std::slice::from_ref(&good), Value::Null).is_empty());
        assert!(
            complaints(
                &[good.clone(), ("keep", Value::Unknown), ("directory", Value::Unknown)],
                Value::Unknown
            )
            .is_empty()
        );
        assert!(
            complaints(
                &[good.clone(), ("directory", "/backup/etcd".into())],
                "/data/etcd".into()
            )
            .is_empty()
        );
        for (attribute, value) in [
            ("schedule", Value::from("every hour")),
            ("keep", 0.into()),
            ("keep", (-1).into()),
            ("directory", "snapshots".into()),
            ("directory", "/var/lib".into()),
            ("directory", "/root/snapshots".into()),
            ("directory", "/data/etcd/snapshots".into()),
            ("directory", "/data".into()),
            ("directory", "/etc/etcd/main/snapshots".into()),
        ] {
            let said = complaints(&[(attribute, value.clone())], "/data/etcd".into());
            assert!(
                said.len() == 1 && said[0].contains(attribute),
                "{attribute} {value:?}: {said:?}"
            );
        }
        // The data directory that nobody named.
        assert_eq!(
            complaints(&[("directory", "/var/lib/etcd/main/snapshots".into())], Value::Null).len(),
            1
        );
    }

    #[test]
    fn where_they_go_is_in_the_plan() {
        let block = |directory: Value| {
            let snapshots = Value::object([("schedule", "hourly".into()), ("directory", directory)]);
            Value::object([
                ("cluster", Value::object([("name", "main".into())])),
                ("snapshots", snapshots),
            ])
        };
        let planned = |config: Value, before: Value| {
            let mut planned = block(before);
            refine(&block(config), &mut planned);
            planned.at(&["snapshots", "directory"]).clone()
        };
        let default = Value::from("/var/lib/etcd-snapshots/main");
        assert_eq!(planned(Value::Null, Value::Unknown), default);
        assert_eq!(
            planned(Value::Null, "/backup".into()),
            default,
            "one that was taken back"
        );
        assert_eq!(planned("/backup".into(), "/backup".into()), Value::from("/backup"));
        assert_eq!(planned(Value::Unknown, Value::Unknown), Value::Unknown);
    }
}
