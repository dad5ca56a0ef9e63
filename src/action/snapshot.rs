//! `etcd_snapshot`: a snapshot when the user asks for it, or before something else happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::site::{self, Site, size};
use crate::plugin::block::{Action, Context, Progress};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::{Value, from_value};
use crate::resource::road::Road;
use crate::resource::snapshot::model::{self, SnapshotModel};
use crate::resource::snapshot::take::{Progress as Step, Taking};
use crate::resource::snapshot::{explain, maybe_old};

/// How many bytes are between two lines of progress.
const LINE_EVERY: u64 = 256 * 1024 * 1024;

/// The block.
pub struct Snapshot {
    road: Arc<Road>,
}

impl Snapshot {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn perform(
        &self,
        context: &Context,
        config: &Value,
        progress: &Progress,
    ) -> Result<Diagnostics, Diagnostics> {
        let site = Site::of(&self.road, config)?;
        let unread = |text: String| Diagnostic::error("The snapshot can't be read", text);
        let wanted = from_value::<SnapshotModel>(config).map_err(|error| unread(error.to_string()))?;
        let place = wanted.place().ok_or_else(|| unread("it has no place".to_owned()))?;
        let said = AtomicU64::new(0);
        let taking = Taking {
            road: &self.road,
            cluster: &site.model,
            topology: &site.topology,
            member: config.get("member").as_str(),
            place: &place,
            keep: wanted.keep,
            stop: &context.stop,
            progress: &|step| match step {
                Step::From(member) => progress.say(format!("taking it from the member on {member}")),
                Step::Written(written, whole) => {
                    let lines = written / LINE_EVERY;
                    if said.swap(lines, Ordering::Relaxed) < lines {
                        progress.say(format!("{} of {}", size(written), size(whole)));
                    }
                }
            },
        };
        let taken = tokio::time::timeout(site.remaining(), taking.take()).await;
        let taken = taken.map_err(|_| site.trouble("has no snapshot", "It was not there in time. Raise timeout."))?;
        let taken = taken.map_err(|error| explain(&error, &site.model.name, &place))?;
        progress.say(format!(
            "{}: {}, revision {}, sha256 {}",
            taken.file.display(),
            size(taken.facts.size),
            taken.facts.revision,
            taken.facts.sha256
        ));
        for file in &taken.pruned {
            progress.say(format!("{} was one too many and is deleted", file.display()));
        }
        Ok(maybe_old(&taken).into_iter().collect())
    }
}

#[async_trait]
impl Action for Snapshot {
    fn name(&self) -> &'static str {
        "etcd_snapshot"
    }

    fn schema(&self) -> Schema {
        let mut attributes = vec![site::cluster_attribute()];
        let places = model::shared_attributes().into_iter();
        attributes.extend(places.filter(|attribute| attribute.name != "cluster"));
        attributes.extend([
            Attribute::string("member").describe(
                "The server whose member it is taken from. Default: a healthy voting member that has caught up and does not lead. The one that is \
                 named here is taken even if it has lost its quorum.",
            ),
            site::timeout_attribute(),
        ]);
        Schema {
            version: 0,
            description: "Takes a snapshot of a cluster into a file on the machine that runs Terraform.",
            attributes,
        }
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = site::validate(config);
        model::validate_place(config, &mut diagnostics);
        if let (Some(servers), Some(member)) = (
            config.at(&["cluster", "servers"]).as_map(),
            config.get("member").as_str(),
        ) && !servers.contains_key(member)
        {
            let text = format!("The cluster has no server {member:?}.");
            diagnostics.push(Diagnostic::error("No such server in the cluster", text).at(Path::of("member")));
        }
        diagnostics
    }

    async fn invoke(&self, context: &Context, config: Value, progress: &Progress) -> Diagnostics {
        self.perform(context, &config, progress)
            .await
            .unwrap_or_else(|refused| refused)
    }
}
