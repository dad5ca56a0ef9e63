//! `etcd_defragment`: every member's database is written anew without its free space, one after the other, the leader last.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::move_leader::hand_to;
use super::site::{self, Site, members, name_of, size};
use crate::etcd::api::Status;
use crate::membership::upkeep::{Next, defragment, successor};
use crate::plugin::block::{Action, Context, Progress};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::schema::Schema;
use crate::plugin::value::Value;
use crate::resource::member::survey::{QUESTION, Survey};
use crate::resource::road::Road;
use crate::resource::talk::Talk;

/// The block.
pub struct Defragment {
    road: Arc<Road>,
}

impl Defragment {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn perform(&self, config: &Value, progress: &Progress) -> Result<(), Diagnostics> {
        let site = Site::of(&self.road, config)?;
        let wanted = site.wanted(config);
        let talk = site.talk().await?;
        let (mut done, mut moved, mut won) = (BTreeSet::new(), false, 0);
        loop {
            if self.road.stopped() {
                return Err(site.stopped().into());
            }
            let (turn, seen) = site.turn(&talk, "").await?;
            let members = members(&seen);
            let next = defragment(&members, seen.leader, &wanted, &done, moved);
            let outcome = match next {
                Next::Done => {
                    turn.end().await;
                    progress.say(format!("{} won on {} members", size(won), done.len()));
                    return Ok(());
                }
                Next::Refuse(why) => Err(site.trouble("was not defragmented further", format!("{why}."))),
                Next::MoveLeader(_) => {
                    moved = true;
                    lead_elsewhere(&site, &talk, &seen, progress).await;
                    Ok(())
                }
                Next::Defragment(id) => {
                    done.insert(id);
                    one(&site, &talk, &seen, id, progress)
                        .await
                        .map(|space| won = u64::saturating_add(won, space))
                }
            };
            // Others may have theirs between two members.
            turn.end().await;
            outcome?;
        }
    }
}

/// A leader that works on its database lets everybody wait. Where it goes on leading that is longer, and nothing worse.
async fn lead_elsewhere(site: &Site<'_>, talk: &Talk<'_>, seen: &Survey, progress: &Progress) {
    let Ok(Some(id)) = successor(&members(seen), seen.leader, None) else {
        return;
    };
    match hand_to(site, talk, seen, id).await {
        Ok(()) => progress.say(format!("{} leads now", name_of(seen, id))),
        Err(error) => tracing::debug!(error = error.detail, "the leader could not be moved"),
    }
}

/// Defragments a member, and waits until it serves again. Says how many bytes were won.
async fn one(site: &Site<'_>, talk: &Talk<'_>, seen: &Survey, id: u64, progress: &Progress) -> Result<u64, Diagnostic> {
    let name = name_of(seen, id);
    let failed = |why: String| site.trouble("was not defragmented", format!("The member on {name}: {why}."));
    let api = talk
        .to(&name, QUESTION)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let before = api.status(QUESTION).await.map_err(|error| failed(error.to_string()))?;
    progress.say(format!(
        "{name}: {}, of which {} are in use",
        size(before.db_size.unwrap_or(0)),
        size(before.db_size_in_use.unwrap_or(0))
    ));
    api.defragment(site.remaining())
        .await
        .map_err(|error| failed(error.to_string()))?;
    let after = serves_again(site, &api, &before).await.map_err(failed)?;
    let now = after.db_size.unwrap_or(0);
    let won = before.db_size.unwrap_or(0).saturating_sub(now);
    progress.say(format!("{name}: {} now, {} won", size(now), size(won)));
    Ok(won)
}

/// Waits until the member takes part in its quorum again, and has applied what was committed before.
async fn serves_again(site: &Site<'_>, api: &crate::etcd::api::Api, before: &Status) -> Result<Status, String> {
    loop {
        let (status, quorum) = tokio::join!(api.status(QUESTION), async {
            match before.is_learner {
                true => Ok(()),
                false => api.confirm_quorum(QUESTION).await,
            }
        });
        let last = match (status, quorum) {
            (Ok(status), Ok(())) if status.raft_applied_index >= before.raft_index => return Ok(status),
            (Ok(_), Ok(())) => "it has not caught up".to_owned(),
            (Err(error), _) | (_, Err(error)) => error.to_string(),
        };
        if site.remaining().is_zero() {
            return Err(format!("it was defragmented, and does not serve again: {last}"));
        }
        let waited = site.road.pause(Duration::from_millis(100)).await;
        waited.map_err(|error| error.to_string())?;
    }
}

#[async_trait]
impl Action for Defragment {
    fn name(&self) -> &'static str {
        "etcd_defragment"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "Writes the members' databases anew without the space that is free in them, one after the other, the leader last.",
            attributes: vec![
                site::cluster_attribute(),
                site::servers_attribute("The servers whose members are defragmented. Default: all."),
                site::timeout_attribute(),
            ],
        }
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        site::validate(config)
    }

    async fn invoke(&self, _context: &Context, config: Value, progress: &Progress) -> Diagnostics {
        self.perform(&config, progress).await.err().unwrap_or_default()
    }
}
