//! `etcd_snapshot`: a snapshot of a cluster in a file on the machine that runs Terraform.

pub mod file;
pub mod model;
pub mod take;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use time::format_description::well_known::Rfc3339;

use crate::membership::incarnation::{Incarnation, is_superseded};
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, PlanRequest, PlanResponse, ReadRequest, ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Schema;
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::model as cluster;
use crate::resource::objects;
use crate::resource::road::Road;
use crate::resource::timeouts;
use model::{Place, SnapshotModel, TAKEN};
use take::{TakeError, Taken, Taking};

/// How long a snapshot may take.
const TAKE: Duration = Duration::from_secs(3600);

/// The block.
pub struct SnapshotResource {
    road: Arc<Road>,
}

impl SnapshotResource {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    /// The private state of a snapshot that was just written.
    fn written(&self, file: &std::path::Path) -> Vec<u8> {
        let object = lies_at(file);
        if let Some(newest) = self.road.newest() {
            newest.note(&file.display().to_string(), object.clone());
        }
        objects::keep(object.as_ref())
    }

    /// Whether the file at this place is a newer snapshot's. A warning says so, unless this run has taken that one.
    fn belongs_to_another(&self, file: &str, request: &ApplyRequest) -> Option<Diagnostics> {
        let (path, own) = (std::path::Path::new(file), objects::kept(&request.private));
        let newest = self.road.newest();
        if newest.and_then(|newest| newest.is_superseded(file, own.as_ref())) == Some(true) {
            tracing::info!("{file} is a newer snapshot: it stays");
            return Some(Diagnostics::new());
        }
        let other = match &own {
            Some(_) => is_superseded(own.as_ref(), lies_at(path).as_ref()),
            None => path.exists() && !has_checksum(path, request.prior.get("sha256")),
        };
        other.then(|| {
            let detail = format!("{file} was written by something else since. Delete it if you don't need it.");
            Diagnostic::warning("The file of a snapshot stays", detail).into()
        })
    }

    async fn take(&self, context: &Context, request: ApplyRequest, within: Duration) -> ApplyResponse {
        let keep = |diagnostics| ApplyResponse {
            state: request.prior.clone(),
            private: request.private.clone(),
            diagnostics,
        };
        let mut diagnostics = Diagnostics::new();
        let topology = cluster::topology(request.planned.get("cluster"), &Path::of("cluster"), &mut diagnostics);
        let model = from_value::<SnapshotModel>(&request.planned.unknown_as_null());
        let (topology, model, place) = match (topology, model) {
            (Some(topology), Ok(model)) => match model.place() {
                Some(place) => (topology, model, place),
                None => return keep(unreadable("it has no place").into()),
            },
            (_, Err(error)) => return keep(unreadable(&error.to_string()).into()),
            (None, _) => {
                if !diagnostics.has_errors() {
                    diagnostics.push(unreadable("its cluster is not known"));
                }
                return keep(diagnostics);
            }
        };
        let taking = Taking {
            road: &self.road,
            cluster: &model.cluster,
            topology: &topology,
            member: request.config.get("member").as_str(),
            place: &place,
            keep: model.keep,
            stop: &context.stop,
            progress: &|_| {},
        };
        match tokio::time::timeout(within, taking.take()).await {
            Ok(Ok(taken)) => ApplyResponse {
                diagnostics: maybe_old(&taken).into_iter().collect(),
                private: self.written(&taken.file),
                state: state_of(request.planned, &taken),
            },
            Ok(Err(error)) => keep(explain(&error, &model.cluster.name, &place).into()),
            Err(_) => {
                let text = format!(
                    "It was not there within {}. Nothing was changed. Raise timeouts.create and timeouts.update.",
                    humantime::format_duration(within)
                );
                keep(Diagnostic::error("The snapshot took too long", text).into())
            }
        }
    }
}

/// Which file lies there: two snapshots of one path may have the same contents, and never the same time.
fn lies_at(file: &std::path::Path) -> Option<Incarnation> {
    let written = std::fs::metadata(file).ok()?.modified().ok()?;
    let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
    Incarnation::parse(&since.as_nanos().to_string())
}

/// Whether the file is the one that a state of an older version has, which knows its checksum alone.
fn has_checksum(file: &std::path::Path, sha256: &Value) -> bool {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    let read = std::fs::File::open(file).and_then(|mut file| std::io::copy(&mut file, &mut hash));
    read.is_ok() && sha256.as_str() == Some(format!("{:x}", hash.finalize()).as_str())
}

/// What became of it, as an error of a block that has the place in `path` or `directory`.
pub fn explain(error: &TakeError, cluster: &str, place: &Place) -> Diagnostic {
    let at = match (error, place) {
        (TakeError::File { .. }, Place::File(_)) => Path::of("path"),
        (TakeError::File { .. }, Place::Folder(_)) => Path::of("directory"),
        _ => Path::of("cluster"),
    };
    let detail = format!("{error}. Nothing was changed: earlier snapshots are as they were.");
    Diagnostic::error(
        format!("There is no snapshot of the cluster {cluster}"),
        capital(&detail),
    )
    .at(at)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

fn unreadable(what: &str) -> Diagnostic {
    Diagnostic::error("The snapshot can't be read", what)
}

/// A warning about one that was taken from a member without a leader.
pub fn maybe_old(taken: &Taken) -> Option<Diagnostic> {
    let text = format!(
        "The member on {} knew no leader when it was asked. The snapshot holds what that member has, up to revision {}; others may have more.",
        taken.member, taken.facts.revision
    );
    taken
        .without_leader
        .then(|| Diagnostic::warning("The snapshot may be old", text).at(Path::of("member")))
}

fn state_of(mut state: Value, taken: &Taken) -> Value {
    let file = taken.file.display().to_string();
    state.set("id", file.as_str());
    state.set("file", file);
    state.set("revision", taken.facts.revision);
    state.set("size", i64::try_from(taken.facts.size).unwrap_or(i64::MAX));
    state.set("sha256", taken.facts.sha256.as_str());
    state.set("member", taken.member.as_str());
    state.set("cluster_id", format!("{:x}", taken.cluster_id));
    state.set("etcd_version", taken.etcd_version.as_str());
    state.set("taken_at", taken.taken_at.format(&Rfc3339).unwrap_or_default());
    state
}

#[async_trait]
impl Resource for SnapshotResource {
    fn name(&self) -> &'static str {
        "etcd_snapshot"
    }

    fn schema(&self) -> Schema {
        model::schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        model::validate(config)
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let file = request
            .state
            .get("file")
            .as_str()
            .map(PathBuf::from)
            .unwrap_or_default();
        let size = request.state.get("size").as_i64();
        let found = tokio::fs::metadata(&file).await;
        let there = found.is_ok_and(|found| i64::try_from(found.len()).ok() == size);
        ReadResponse {
            // One that is gone, or not whole any more, is taken again.
            state: if there { request.state } else { Value::Null },
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let mut planned = request.planned;
        if !request.prior.is_null() && model::needs_another(&request.prior, &planned, &request.config) {
            TAKEN.iter().for_each(|name| planned.set(name, Value::Unknown));
            if request.config.get("member").is_null() {
                planned.set("member", Value::Unknown);
            }
        }
        if planned.get("file").is_unknown()
            && let Some(path) = planned.get("path").as_str().map(str::to_owned)
        {
            planned.set("file", path.as_str());
            planned.set("id", path);
        }
        PlanResponse {
            planned,
            requires_replace: Vec::new(),
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn create(&self, context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.planned, "create", TAKE);
        self.take(context, request, within).await
    }

    async fn update(&self, context: &Context, request: ApplyRequest) -> ApplyResponse {
        if request.planned.get("revision").is_unknown() {
            let within = timeouts::get(&request.planned, "update", TAKE);
            return self.take(context, request, within).await;
        }
        // Nothing but how many are kept can concern the files that there are.
        let keep = request
            .planned
            .get("keep")
            .as_i64()
            .and_then(|keep| usize::try_from(keep).ok());
        let folder = request.planned.get("directory").as_str();
        let cluster = request.planned.at(&["cluster", "name"]).as_str();
        let mut diagnostics = Diagnostics::new();
        if let (Some(keep), Some(folder), Some(cluster)) = (keep, folder, cluster)
            && let Err(error) = file::prune(std::path::Path::new(folder), cluster, keep)
        {
            let text = format!("Old snapshots in {folder} could not be deleted: {error}");
            diagnostics.push(Diagnostic::error("Old snapshots stay", text).at(Path::of("keep")));
        }
        ApplyResponse {
            state: if diagnostics.has_errors() {
                request.prior
            } else {
                request.planned
            },
            private: request.private,
            diagnostics,
        }
    }

    async fn delete(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let file = request.prior.get("file").as_str().unwrap_or_default();
        let mut diagnostics = Diagnostics::new();
        let deletes = request.prior.get("on_destroy").as_str() == Some("delete");
        if deletes && let Some(said) = self.belongs_to_another(file, &request) {
            return ApplyResponse::deleted(request.prior, request.private, said);
        }
        if deletes
            && let Err(error) = tokio::fs::remove_file(file).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            let text = format!("{file} could not be deleted: {error}");
            diagnostics.push(Diagnostic::error("The snapshot stays", text).at(Path::of("file")));
        }
        ApplyResponse::deleted(request.prior, request.private, diagnostics)
    }
}
