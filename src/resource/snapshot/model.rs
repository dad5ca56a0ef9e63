//! What a configuration says about a snapshot.

use std::path::PathBuf;

use serde::Deserialize;

use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema, Type};
use crate::plugin::value::Value;
use crate::resource::cluster::model::{self as cluster, ClusterModel};
use crate::resource::reference::remember_cluster;
use crate::resource::timeouts;

/// Where snapshots go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To this file.
    File(PathBuf),
    /// Into this folder, each under a name of its own.
    Folder(PathBuf),
}

/// A snapshot as plan and state have it.
#[derive(Clone, Debug, Deserialize)]
pub struct SnapshotModel {
    /// Its cluster.
    pub cluster: ClusterModel,
    /// Its file.
    #[serde(default)]
    pub path: Option<String>,
    /// The folder of its file.
    #[serde(default)]
    pub directory: Option<String>,
    /// How many stay in that folder.
    #[serde(default)]
    pub keep: Option<usize>,
}

impl SnapshotModel {
    /// Where it goes.
    pub fn place(&self) -> Option<Place> {
        match (&self.path, &self.directory) {
            (Some(path), None) => Some(Place::File(path.into())),
            (None, Some(directory)) => Some(Place::Folder(directory.into())),
            _ => None,
        }
    }
}

/// Where a snapshot goes, and from which member it is: the same for the resource and what else takes snapshots.
pub fn shared_attributes() -> Vec<Attribute> {
    let mut cluster_attributes = cluster::shared_attributes();
    cluster_attributes.extend(cluster::attributes_without_keys());
    vec![
        Attribute::object("cluster", cluster_attributes)
            .required()
            .describe("The cluster: `etcd_cluster.<name>`. Private keys are left out: they get into no state here."),
        Attribute::string("path")
            .describe("The file on this machine that the snapshot is written to. Another snapshot takes its place as a whole."),
        Attribute::string("directory").describe(
            "In place of `path`: a folder on this machine. Each snapshot gets a name of cluster, time and revision in it, such as \
             `main-20260131T235959Z-r4711.db`.",
        ),
        Attribute::number("keep").describe(
            "With `directory`: how many snapshots of this cluster stay in it. When there are more, the oldest are deleted. Default: all.",
        ),
    ]
}

/// The schema of the resource.
pub fn schema() -> Schema {
    let fact = |name, description| Attribute::string(name).computed().use_state().describe(description);
    let number = |name, description| Attribute::number(name).computed().use_state().describe(description);
    let mut attributes = shared_attributes();
    attributes.extend([
        Attribute::string("member").or_computed().use_state().describe(
            "The server whose member it is taken from. Default: a healthy voting member that has caught up and does not lead. The one that is \
             named here is taken even if it has lost its quorum.",
        ),
        Attribute::map("triggers", Type::String)
            .describe("Any texts. When one of them changes, the next apply takes another snapshot."),
        Attribute::string("on_destroy").default("keep").describe(
            "What becomes of the file when this resource is destroyed: `keep` (the default) or `delete`.",
        ),
        fact("id", "The file."),
        fact("file", "The file that holds the snapshot."),
        number("revision", "The revision of the newest change in it."),
        number("size", "Its size in bytes."),
        fact("sha256", "The SHA-256 of the file, in hexadecimal."),
        fact("cluster_id", "etcd's ID of the cluster, in hexadecimal."),
        fact("etcd_version", "The version of etcd that the member ran."),
        fact("taken_at", "When it was taken, in RFC 3339."),
        timeouts::attribute(&[
            ("create", "How long a snapshot may take. Default: `1h`."),
            ("update", "How long another snapshot may take. Default: `1h`."),
        ]),
    ]);
    Schema {
        version: 0,
        description: "A snapshot of an etcd cluster in a file on the machine that runs Terraform: taken from one healthy member through \
                      the SSH connection to its server, and checked.",
        attributes: remember_cluster(attributes),
    }
}

/// What the schema computes anew with each snapshot.
pub const TAKEN: [&str; 8] = [
    "id",
    "file",
    "revision",
    "size",
    "sha256",
    "cluster_id",
    "etcd_version",
    "taken_at",
];

/// Checks where it is to go.
pub fn validate_place(config: &Value, diagnostics: &mut Diagnostics) {
    let (path, directory, keep) = (config.get("path"), config.get("directory"), config.get("keep"));
    let mut wrong = |attribute: &str, text: &str| {
        diagnostics.push(Diagnostic::error(format!("Invalid {attribute}"), text).at(Path::of(attribute)));
    };
    match (path.is_null(), directory.is_null()) {
        (true, true) => wrong("path", "One of path and directory has to say where the snapshot goes."),
        (false, false) => wrong("directory", "Only one of path and directory can be set."),
        _ => {}
    }
    for (name, value) in [("path", path), ("directory", directory)] {
        if value.as_str().is_some_and(str::is_empty) {
            wrong(name, "It is empty.");
        }
    }
    if path.as_str().is_some_and(|path| path.ends_with('/')) {
        wrong("path", "It is a folder. Use directory for one.");
    }
    if keep.is_null() || keep.is_unknown() {
        return;
    }
    if keep.as_i64().is_none_or(|keep| keep < 1) {
        wrong("keep", "It has to be a whole number, 1 at least.");
    }
    if !path.is_null() {
        wrong("keep", "It counts the snapshots in a directory; a path has one.");
    }
}

/// Checks what the configuration alone tells.
pub fn validate(config: &Value) -> Diagnostics {
    let mut diagnostics = timeouts::validate(config);
    let topology = cluster::topology(config.get("cluster"), &Path::of("cluster"), &mut diagnostics);
    validate_place(config, &mut diagnostics);
    if let Some(choice) = config.get("on_destroy").as_str()
        && !["keep", "delete"].contains(&choice)
    {
        let text = format!("{choice:?} is neither \"keep\" nor \"delete\".");
        diagnostics.push(Diagnostic::error("Invalid on_destroy", text).at(Path::of("on_destroy")));
    }
    if let (Some(topology), Some(member)) = (topology, config.get("member").as_str())
        && topology.find(member).is_err()
    {
        let names: Vec<String> = topology.servers().keys().map(ToString::to_string).collect();
        let text = format!(
            "The cluster has no server {member:?}. Its servers are: {}.",
            names.join(", ")
        );
        diagnostics.push(Diagnostic::error("No such server in the cluster", text).at(Path::of("member")));
    }
    diagnostics
}

/// Whether a plan needs another snapshot than the one that the state has.
pub fn needs_another(prior: &Value, planned: &Value, config: &Value) -> bool {
    let differs = |names: &[&str]| prior.at(names) != planned.at(names);
    let other_member = !config.get("member").is_null() && differs(&["member"]);
    ["path", "directory", "triggers"].iter().any(|name| differs(&[name]))
        || differs(&["cluster", "name"])
        || differs(&["cluster", "token"])
        || other_member
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn another_one_is_taken_when_something_asks_for_it() {
        let block = |trigger: &str, servers: &str| {
            let cluster = Value::object([
                ("name", "main".into()),
                ("token", "t".into()),
                ("servers", servers.into()),
            ]);
            Value::object([
                ("cluster", cluster),
                ("path", "a.db".into()),
                ("triggers", Value::object([("version", trigger.into())])),
                ("member", "a1".into()),
            ])
        };
        let config = Value::object([("member", Value::Null)]);
        assert!(!needs_another(&block("1", "one"), &block("1", "two"), &config));
        assert!(needs_another(&block("1", "one"), &block("2", "one"), &config));
        let mut other = block("1", "one");
        other.set("member", "b1");
        assert!(!needs_another(&block("1", "one"), &other, &config));
        assert!(needs_another(
            &block("1", "one"),
            &other,
            &Value::object([("member", "b1".into())])
        ));
    }

    #[test]
    fn it_goes_to_one_place() {
        let wrong = |pairs: &[(&str, Value)]| {
            let mut config = Value::Map(BTreeMap::new());
            pairs.iter().for_each(|(name, value)| config.set(name, value.clone()));
            let mut diagnostics = Diagnostics::new();
            validate_place(&config, &mut diagnostics);
            diagnostics.has_errors()
        };
        assert!(wrong(&[]));
        assert!(wrong(&[("path", "a".into()), ("directory", "b".into())]));
        assert!(wrong(&[("path", "a/".into())]));
        assert!(wrong(&[("path", "a".into()), ("keep", 2.into())]));
        assert!(wrong(&[("directory", "b".into()), ("keep", 0.into())]));
        assert!(!wrong(&[("directory", "b".into()), ("keep", 1.into())]));
        assert!(!wrong(&[("path", Value::Unknown)]));
    }
}
