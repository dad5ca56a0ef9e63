//! `etcd_disarm_alarms`: an alarm is taken back when its reason is gone.

use std::sync::Arc;

use async_trait::async_trait;

use super::site::{self, Site, name_of};
use crate::etcd::api::Alarm;
use crate::membership::upkeep::{NOBODY_KNOWS_WHOSE, has_room};
use crate::plugin::block::{Action, Context, Progress};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::Value;
use crate::resource::member::survey::QUESTION;
use crate::resource::road::Road;
use crate::resource::talk::Talk;

/// The block.
pub struct DisarmAlarms {
    road: Arc<Road>,
}

impl DisarmAlarms {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn perform(&self, config: &Value, progress: &Progress) -> Result<(), Diagnostics> {
        let site = Site::of(&self.road, config)?;
        let talk = site.talk().await?;
        let seen = site.survey(&talk, "").await?;
        let asked = |error: &dyn std::fmt::Display| site.trouble("can't be asked", format!("{error}."));
        let alarms = seen.api.alarms(QUESTION).await.map_err(|error| asked(&error))?;
        if alarms.is_empty() {
            progress.say("no alarm is raised");
        }
        let corrupt = config.get("corrupt").as_bool() == Some(true);
        let mut refused = Diagnostics::new();
        for (id, alarm) in &alarms {
            let listed = seen.members.iter().any(|one| one.id == *id);
            let name = if listed { name_of(&seen, *id) } else { whose(*id) };
            let fit = match alarm {
                // Its database left with it.
                Alarm::NoSpace if !listed => Ok(()),
                Alarm::NoSpace => room(&talk, &name).await,
                Alarm::Corrupt if corrupt => Ok(()),
                Alarm::Corrupt if *id == NOBODY_KNOWS_WHOSE => Err(
                    "the data of the members differ, and no majority of them agrees. Find out whose are right (etcdctl endpoint hashkv), take the \
                     alarm back with `corrupt = true`, and replace the others one by one"
                        .to_owned(),
                ),
                Alarm::Corrupt => Err(format!(
                    "the data of the member on {name} differ from the others'. Replace that member (destroy and create it again, which fetches \
                     the data anew), and set `corrupt = true` once it is sound"
                )),
            };
            match fit {
                Err(why) => {
                    let at = if *alarm == Alarm::Corrupt { "corrupt" } else { "cluster" };
                    let summary = format!("The alarm of {name} stays");
                    refused.push(Diagnostic::error(summary, format!("{why}.")).at(Path::of(at)));
                }
                Ok(()) => {
                    let disarmed = seen.api.disarm(*id, *alarm, QUESTION).await;
                    disarmed.map_err(|error| site.trouble("has its alarm still", format!("{error}.")))?;
                    progress.say(format!("{name}: {alarm} is taken back"));
                }
            }
        }
        if refused.has_errors() { Err(refused) } else { Ok(()) }
    }
}

/// Who raised the alarm of a member that isn't listed.
fn whose(id: u64) -> String {
    if id == NOBODY_KNOWS_WHOSE {
        "the whole cluster".to_owned()
    } else {
        format!("a member that has left ({id:x})")
    }
}

async fn room(talk: &Talk<'_>, name: &str) -> Result<(), String> {
    let metrics = talk.metrics(name, QUESTION).await;
    let metrics =
        metrics.map_err(|error| format!("the member on {name} does not say how large its database is: {error}"))?;
    match (metrics.db_size, metrics.quota) {
        (Some(size), Some(quota)) => has_room(name, size, quota),
        _ => Err(format!("the member on {name} does not say how large its database is")),
    }
}

#[async_trait]
impl Action for DisarmAlarms {
    fn name(&self) -> &'static str {
        "etcd_disarm_alarms"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "Takes alarms back whose reason is gone, so that the cluster takes writes again.",
            attributes: vec![
                site::cluster_attribute(),
                Attribute::bool("corrupt").describe(
                    "Whether `CORRUPT` is taken back too. Only when the member whose data differed was replaced. Default: false.",
                ),
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
