//! Founding a cluster from a snapshot: the file is read before anything is touched, and brought to every server before any permit is.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;

use super::model::{ClusterModel, RestoreModel};
use super::plan::FOUNDED;
use crate::etcd::restoring::{Order, snapshot_folder};
use crate::etcd::snapshot::{self, Facts};
use crate::host::{Host, Script, Upload};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Attribute;
use crate::plugin::value::{Value, from_value};
use crate::resource::road::Road;
use crate::topology::{ClusterName, Topology};

/// The attribute `restore`.
pub fn attribute() -> Attribute {
    Attribute::object(
        "restore",
        vec![
            Attribute::string("snapshot_file")
                .required()
                .describe("The snapshot: a file on this machine, as `etcd_snapshot` or `etcdctl snapshot save` make it."),
            Attribute::number("bump_revision").describe(
                "By how much the revision is raised, with everything before it marked as compacted, so that clients which watch the cluster notice \
                 that it went back: more than the revisions that were lost, such as `1000000000`, and `1000000000000000` at most. Kubernetes needs it. etcd 3.6, and 3.5 \
                 in its later releases. Default: not at all.",
            ),
        ],
    )
    .describe(
        "Founds the cluster from a snapshot, as a new cluster with a token of its own. It counts when the cluster is created; later it \
         changes nothing.",
    )
}

/// The attribute `restored`.
pub fn computed() -> Attribute {
    let attributes = vec![
        Attribute::string("sha256")
            .computed()
            .describe("The SHA-256 of the file, in hexadecimal."),
        Attribute::number("revision")
            .computed()
            .describe("The revision of the newest change in it."),
        Attribute::number("size").computed().describe("Its size in bytes."),
    ];
    Attribute::object("restored", attributes)
        .computed()
        .use_state()
        .describe("The snapshot that it was founded from. Null for a cluster that was founded empty.")
}

/// A snapshot as `restored` has it.
pub fn value(facts: &Facts) -> Value {
    Value::object([
        ("sha256", facts.sha256.as_str().into()),
        ("revision", facts.revision.into()),
        ("size", i64::try_from(facts.size).unwrap_or(i64::MAX).into()),
    ])
}

/// By how much a revision may be raised. With a larger number it could overflow in etcd.
const BUMP: std::ops::RangeInclusive<i64> = 1..=1_000_000_000_000_000;

/// Checks what the configuration alone tells.
pub fn validate(config: &Value) -> Option<Diagnostic> {
    let bump = config.at(&["restore", "bump_revision"]);
    let wrong = !bump.is_null() && !bump.is_unknown() && bump.as_i64().is_none_or(|bump| !BUMP.contains(&bump));
    let text = "It has to be a whole number from 1 to 1000000000000000: etcd counts no further than 2^63. Leave it out to keep the revision as it is in the snapshot.";
    wrong.then(|| Diagnostic::error("Invalid bump_revision", text).at(at().attribute("bump_revision")))
}

fn at() -> Path {
    Path::of("restore")
}

/// Refines the plan: what the file is, where a cluster is to be founded from it; and that it is of no use to one that is there.
pub async fn refine(prior: &Value, planned: &mut Value) -> Diagnostics {
    if !prior.is_null() {
        planned.set("restored", prior.get("restored").clone());
        return changed(prior, planned).into_iter().collect();
    }
    let restore = planned.get("restore");
    if restore.is_null() {
        planned.set("restored", Value::Null);
        return Diagnostics::new();
    }
    let model = from_value::<RestoreModel>(&restore.unknown_as_null());
    let (true, Ok(model)) = (restore.is_wholly_known(), model) else {
        planned.set("restored", Value::Unknown);
        return Diagnostics::new();
    };
    match read(&model.snapshot_file).await {
        Ok(facts) => {
            planned.set("restored", value(&facts));
            Diagnostics::new()
        }
        Err(diagnostic) => diagnostic.into(),
    }
}

fn changed(prior: &Value, planned: &Value) -> Option<Diagnostic> {
    let (before, after) = (prior.get("restore"), planned.get("restore"));
    if before == after {
        return None;
    }
    if prior.get("founding").as_str() == Some(FOUNDED) {
        let text = "The cluster was founded before, and lives with the data that it has: what it is to be founded from says nothing any more, \
                    and nothing is restored. To go back to a snapshot, follow \"Go back to a snapshot\" in the guide on disaster recovery.";
        return (!after.is_null()).then(|| Diagnostic::warning("Nothing is restored", text).at(at()));
    }
    let text = "Its servers were told what to found it from, and may have begun. Put `restore` back as it was and apply. Nothing was changed.";
    Some(
        Diagnostic::error(
            "A cluster that is being founded can't be founded from something else",
            text,
        )
        .at(at()),
    )
}

async fn read(file: &str) -> Result<Facts, Diagnostic> {
    let refused = |why: String| {
        let text = format!("{why}. Nothing was changed on any server.");
        Diagnostic::error("This snapshot can't be restored", text).at(at().attribute("snapshot_file"))
    };
    let path = PathBuf::from(file);
    let facts = tokio::task::spawn_blocking(move || snapshot::read(&path)).await;
    facts
        .map_err(|error| refused(error.to_string()))?
        .map_err(|error| refused(error.to_string()))
}

/// A snapshot that a cluster is founded from.
pub struct Restoring {
    file: PathBuf,
    bump_revision: Option<u64>,
    facts: Facts,
}

impl Restoring {
    /// Reads the cluster's snapshot, all of it; `None` if it has none.
    ///
    /// # Errors
    /// If it is damaged, cut off, or something else.
    pub async fn read(cluster: &ClusterModel) -> Result<Option<Self>, Diagnostic> {
        let Some(restore) = &cluster.restore else {
            return Ok(None);
        };
        Ok(Some(Self {
            facts: read(&restore.snapshot_file).await?,
            file: restore.snapshot_file.clone().into(),
            bump_revision: restore.bump_revision,
        }))
    }

    /// What it is.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the servers are told.
    pub fn order(&self, cluster: &ClusterModel, topology: &Topology) -> Order {
        Order {
            token: cluster.token().to_owned(),
            snapshot: remote(topology.cluster()),
            bump_revision: self.bump_revision,
            minor: self.facts.needs_minor(),
        }
    }

    /// Brings the file to all servers at once; where it is already it stays.
    pub async fn bring(&self, road: &Road, cluster: &ClusterModel, within: Duration) -> Diagnostics {
        let Ok(name) = ClusterName::parse(&cluster.name) else {
            return Diagnostics::new();
        };
        let brought = cluster.servers.iter().map(|(server, model)| {
            let name = &name;
            async move {
                let brought = async {
                    let host = road
                        .connect(model, within, false)
                        .await
                        .map_err(|error| error.to_string())?;
                    self.bring_to(&host, name).await
                };
                let why: String = brought.await.err()?;
                let text = format!("The snapshot could not be brought to it: {why}. The cluster was not founded.");
                let at = Path::of("servers").key(server);
                Some(Diagnostic::error(format!("Server {server} is not ready"), text).at(at))
            }
        });
        join_all(brought).await.into_iter().flatten().collect()
    }

    async fn bring_to(&self, host: &Host, cluster: &ClusterName) -> Result<(), String> {
        // What is there, and what is made of it, perhaps on the same disk.
        let needed = (self.facts.size / 1024 + 1) * 2;
        let prepare = Script::new("making room for the snapshot")
            .set("folder", snapshot_folder(cluster))
            .set("needed", needed.to_string())
            .line(include_str!("make_room.sh"));
        host.run_checked(&prepare).await.map_err(|error| error.to_string())?;
        let upload = Upload {
            from: self.file.clone(),
            to: remote(cluster),
            mode: 0o600,
            sha256: self.facts.sha256.clone(),
            look_first: true,
        };
        host.upload(&upload).await.map(drop).map_err(|error| error.to_string())
    }
}

fn remote(cluster: &ClusterName) -> String {
    format!("{}/snapshot.db", snapshot_folder(cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_there_is_not_founded_from_something_else() {
        let block = |founding: &str, file: Option<&str>| {
            let restore = file.map_or(Value::Null, |file| Value::object([("snapshot_file", file.into())]));
            Value::object([("founding", founding.into()), ("restore", restore)])
        };
        let said = |founding, before, after| {
            let diagnostic = changed(&block(founding, before), &block(founding, after))?;
            Some(Diagnostics::from(diagnostic).has_errors())
        };
        assert_eq!(said("founded", Some("a.db"), Some("b.db")), Some(false));
        assert_eq!(said("founded", None, Some("b.db")), Some(false));
        assert_eq!(said("founded", Some("a.db"), None), None);
        assert_eq!(said("prepared", None, Some("b.db")), Some(true));
        assert_eq!(said("prepared", Some("a.db"), None), Some(true));
        assert_eq!(said("stranded", Some("a.db"), Some("a.db")), None);
    }
}
