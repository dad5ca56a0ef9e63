//! `etcd_move_leader`: another member leads.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::site::{self, Site, members, name_of};
use crate::membership::upkeep::successor;
use crate::plugin::block::{Action, Context, Progress};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::Value;
use crate::resource::member::survey::{QUESTION, Survey};
use crate::resource::road::Road;
use crate::resource::talk::Talk;

/// How long the new leader may take to show.
const SHOWS: Duration = Duration::from_secs(30);

/// The block.
pub struct MoveLeader {
    road: Arc<Road>,
}

impl MoveLeader {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn perform(&self, config: &Value, progress: &Progress) -> Result<(), Diagnostics> {
        let site = Site::of(&self.road, config)?;
        let talk = site.talk().await?;
        let (turn, seen) = site.turn(&talk, "").await?;
        let outcome = to(&site, &talk, &seen, config.get("server").as_str(), progress).await;
        turn.end().await;
        Ok(outcome?)
    }
}

async fn to(
    site: &Site<'_>,
    talk: &Talk<'_>,
    seen: &Survey,
    wanted: Option<&str>,
    progress: &Progress,
) -> Result<(), Diagnostic> {
    let refused = |why: String| {
        let at = if wanted.is_some() { "server" } else { "cluster" };
        Diagnostic::error(
            "The leadership stays where it is",
            format!("Nothing was changed: {why}."),
        )
        .at(Path::of(at))
    };
    let chosen = successor(&members(seen), seen.leader, wanted).map_err(refused)?;
    let from = name_of(seen, seen.leader);
    let Some(id) = chosen else {
        progress.say(format!("{from} leads already"));
        return Ok(());
    };
    hand_to(site, talk, seen, id).await?;
    progress.say(format!("{} leads now, {from} did before", name_of(seen, id)));
    Ok(())
}

/// Hands the leadership to this member, and waits until it has it.
pub(super) async fn hand_to(site: &Site<'_>, talk: &Talk<'_>, seen: &Survey, id: u64) -> Result<(), Diagnostic> {
    let (from, name) = (name_of(seen, seen.leader), name_of(seen, id));
    let failed = |why: String| {
        site.trouble(
            "has its old leader",
            format!("{from} did not hand over to {name}: {why}."),
        )
    };
    // Only the leader itself takes the wish.
    let leading = talk
        .to(&from, QUESTION)
        .await
        .map_err(|error| failed(error.to_string()))?;
    // It may time out and still be done, so what counts is who leads.
    let asked = leading.move_leader(id, QUESTION).await;
    let successor = talk
        .to(&name, QUESTION)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let until = site.deadline.min(Instant::now() + SHOWS);
    loop {
        let status = successor.status(QUESTION).await;
        if status.as_ref().is_ok_and(|status| status.leader == id) {
            return Ok(());
        }
        if let Err(error) = &asked
            && Instant::now() + Duration::from_secs(1) >= until
        {
            return Err(failed(error.to_string()));
        }
        if Instant::now() >= until {
            return Err(failed("it does not lead yet".to_owned()));
        }
        let waited = site.road.pause(Duration::from_millis(100)).await;
        waited.map_err(|_| site.stopped())?;
    }
}

#[async_trait]
impl Action for MoveLeader {
    fn name(&self) -> &'static str {
        "etcd_move_leader"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "Has another member lead.",
            attributes: vec![
                site::cluster_attribute(),
                Attribute::string("server").describe(
                    "The server whose member is to lead. Default: the healthy voting member that has applied most of the log.",
                ),
                site::timeout_attribute(),
            ],
        }
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = site::validate(config);
        let servers = config.at(&["cluster", "servers"]);
        if let (Some(known), Some(name)) = (servers.as_map(), config.get("server").as_str())
            && !known.contains_key(name)
        {
            let known = known.keys().cloned().collect::<Vec<_>>().join(", ");
            let detail = format!("The cluster has no server {name:?}. It has: {known}.");
            diagnostics.push(Diagnostic::error("No such server", detail).at(Path::of("server")));
        }
        diagnostics
    }

    async fn invoke(&self, _context: &Context, config: Value, progress: &Progress) -> Diagnostics {
        self.perform(&config, progress).await.err().unwrap_or_default()
    }
}
