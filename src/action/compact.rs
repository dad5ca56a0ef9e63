//! `etcd_compact`: what was superseded long ago is forgotten.

use std::sync::Arc;

use async_trait::async_trait;

use super::site::{self, Site};
use crate::membership::upkeep::{History, compaction};
use crate::plugin::block::{Action, Context, Progress};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::Value;
use crate::resource::member::survey::QUESTION;
use crate::resource::road::Road;

/// The block.
pub struct Compact {
    road: Arc<Road>,
}

impl Compact {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn perform(&self, config: &Value, progress: &Progress) -> Result<(), Diagnostics> {
        let site = Site::of(&self.road, config)?;
        let wish = wish(config)?;
        let talk = site.talk().await?;
        let seen = site.survey(&talk, "").await?;
        let current = seen.api.revision(QUESTION).await;
        let current = current.map_err(|error| site.trouble("can't be asked", format!("{error}.")))?;
        let refused =
            |why: String| Diagnostic::error("Nothing was compacted", format!("{why}.")).at(Path::of(attribute(wish)));
        let Some(revision) = compaction(current, wish).map_err(refused)? else {
            progress.say(format!(
                "the cluster is at revision {current}: there is nothing to forget"
            ));
            return Ok(());
        };
        let physical = config.get("physical").as_bool() == Some(true);
        match seen.api.compact(revision, physical, site.remaining()).await {
            Ok(()) => progress.say(format!(
                "what was superseded before revision {revision} is forgotten; the cluster is at {current}"
            )),
            // Somebody has been there before, perhaps this very action.
            Err(error) if error.to_string().contains("has been compacted") => {
                progress.say(format!("revision {revision} was compacted already"));
            }
            Err(error) => return Err(site.trouble("was not compacted", format!("{error}.")).into()),
        }
        Ok(())
    }
}

fn attribute(wish: History) -> &'static str {
    match wish {
        History::From(_) => "revision",
        History::Keep(_) => "keep",
    }
}

fn wish(config: &Value) -> Result<History, Diagnostic> {
    match (config.get("revision").as_i64(), config.get("keep").as_i64()) {
        (Some(revision), None) if revision > 0 => Ok(History::From(revision)),
        (None, Some(keep)) if keep >= 0 => Ok(History::Keep(keep)),
        (Some(_), Some(_)) | (None, None) => Err(Diagnostic::error(
            "How much is to be forgotten?",
            "Give either `revision`, before which everything that was superseded is forgotten, or `keep`, the number of revisions that stay.",
        )),
        (Some(_), None) => Err(Diagnostic::error("No such revision", "Revisions begin at 1.").at(Path::of("revision"))),
        (None, Some(_)) => {
            Err(Diagnostic::error("Nothing can be kept of that", "The number can't be negative.").at(Path::of("keep")))
        }
    }
}

#[async_trait]
impl Action for Compact {
    fn name(&self) -> &'static str {
        "etcd_compact"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "Forgets values that were superseded or deleted before a revision.",
            attributes: vec![
                site::cluster_attribute(),
                Attribute::number("revision").describe("Everything that was superseded before this revision is forgotten."),
                Attribute::number("keep").describe("How many of the latest revisions stay. Either this or `revision`."),
                Attribute::bool("physical").describe(
                    "Whether to wait until the database has let go of it, so that a defragmentation wins the space. Default: true.",
                ).default(true),
                site::timeout_attribute(),
            ],
        }
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = site::validate(config);
        if !config.get("revision").is_unknown() && !config.get("keep").is_unknown() {
            diagnostics.append(wish(config).err().into_iter().collect());
        }
        diagnostics
    }

    async fn invoke(&self, _context: &Context, config: Value, progress: &Progress) -> Diagnostics {
        self.perform(&config, progress).await.err().unwrap_or_default()
    }
}
