//! `etcd_restart`: the members are restarted one after the other, under the rules of any restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::site::{self, Site, name_of};
use crate::etcd::metrics::active_peers;
use crate::host::Script;
use crate::membership::links;
use crate::membership::member::{Cluster, Desired, Observed, PeerUrl, Start, Step, next_step};
use crate::plugin::block::{Action, Context, Progress};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::schema::Schema;
use crate::plugin::value::Value;
use crate::resource::member::hand_over::hand_over;
use crate::resource::member::survey::{QUESTION, Survey};
use crate::resource::road::Road;
use crate::resource::silence::{self, Waited};
use crate::resource::talk::Talk;

/// How long a refusal that may pass is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The block.
pub struct Restart {
    road: Arc<Road>,
}

impl Restart {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn perform(&self, config: &Value, progress: &Progress) -> Result<(), Diagnostics> {
        let site = Site::of(&self.road, config)?;
        let talk = site.talk().await?;
        let mut left = site.wanted(config);
        while let Some(name) = first(&site, &talk, &left).await? {
            if restart(&site, &talk, &name, left.len() > 1, progress).await? {
                left.remove(&name);
            }
        }
        Ok(())
    }
}

/// Who is next: the leader is the last one.
async fn first(site: &Site<'_>, talk: &Talk<'_>, left: &BTreeSet<String>) -> Result<Option<String>, Diagnostic> {
    if left.len() < 2 {
        return Ok(left.first().cloned());
    }
    let seen = site.survey(talk, "").await?;
    let leader = name_of(&seen, seen.leader);
    Ok(left.iter().find(|name| **name != leader).cloned())
}

/// Restarts one, when the very rules of a change that restarts it allow that. `false`: it leads since a moment ago, and others come first.
async fn restart(
    site: &Site<'_>,
    talk: &Talk<'_>,
    name: &str,
    others_wait: bool,
    progress: &Progress,
) -> Result<bool, Diagnostic> {
    let patience = site.deadline.min(Instant::now() + PATIENCE);
    let mut leader_moves = 0;
    let mut waited = Waited::from_now();
    loop {
        if site.road.stopped() {
            return Err(site.stopped());
        }
        let (turn, seen) = site.turn(talk, name).await?;
        let outcome = match step(site, &seen, others_wait, leader_moves) {
            Step::Install(Start::Restart) => anew(site, talk, &seen, name, progress).await.map(|()| Some(true)),
            Step::LetOthersFirst => Ok(Some(false)),
            Step::MoveLeader => {
                leader_moves += 1;
                if let Err(error) = hand_over(talk, &seen).await {
                    // It costs an election and nothing more.
                    tracing::debug!(%error, "the leader could not be moved");
                }
                Ok(None)
            }
            Step::Refuse(refusal) if refusal.may_pass() && Instant::now() < patience => Ok(None),
            Step::Refuse(refusal) => {
                Err(site.trouble("was not restarted further", format!("The member on {name}: {refusal}.")))
            }
            _ => {
                let detail = format!(
                    "A change of the cluster was left in the middle, and has to be finished before {name} is restarted: run `terraform apply`, then \
                     this action."
                );
                Err(site.trouble("was not restarted further", detail))
            }
        };
        turn.end().await;
        if let Some(restarted) = outcome? {
            return Ok(restarted);
        }
        waited.mend(end_silence(site, talk)).await;
        let paused = site.road.pause(Duration::from_millis(200)).await;
        paused.map_err(|_| site.stopped())?;
    }
}

/// What [`next_step`] says of a member whose files are as they are to be, and which is to be restarted all the same.
fn step(site: &Site<'_>, seen: &Survey, others_wait: bool, leader_moves: u8) -> Step {
    let own = seen.list.own().and_then(|own| own.minor);
    // One that does not answer is as its others are.
    let minor = own.unwrap_or_else(|| seen.list.minors().map_or(0, |(_, newest)| newest));
    let desired = Desired {
        token: site.model.token().to_owned(),
        founders: site.model.founders().len(),
        founder: false,
        as_founded: true,
        verify: true,
        minor,
        peer_url_differs: false,
    };
    let cluster = Some(Cluster::Lives(seen.list.lives(PeerUrl::Wanted)));
    let observed = Observed {
        others_wait,
        leader_moves,
        cluster,
        ..Observed::to_be_restarted(&desired.token)
    };
    next_step(&observed, &desired)
}

/// Restarts the member, and waits until it takes part again and everybody is connected with it.
async fn anew(
    site: &Site<'_>,
    talk: &Talk<'_>,
    seen: &Survey,
    name: &str,
    progress: &Progress,
) -> Result<(), Diagnostic> {
    let failed = |why: String| site.trouble("has a member that does not come back", format!("{name}: {why}."));
    progress.say(format!("{name} is being restarted"));
    let began = Instant::now();
    let mut waited = Waited::from_now();
    let server = site.model.server(name).map_err(|error| failed(error.to_string()))?;
    let host = site.road.connect(server, QUESTION * 3, false).await;
    let host = host.map_err(|error| failed(error.to_string()))?;
    let script = Script::new("restarting the member")
        .timeout(site.remaining().min(Duration::from_secs(90)))
        .set("cluster", &site.model.name)
        .set("token", site.model.token())
        .line(include_str!("restart.sh"))
        .line(include_str!("../resource/member/start.sh"));
    host.run_checked(&script)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let committed = seen.healthy.values().map(|status| status.raft_index).max();
    let expected: Vec<String> = seen
        .list
        .answering()
        .into_iter()
        .filter(|other| other != name)
        .collect();
    loop {
        let last = match is_back(talk, name, committed.unwrap_or_default(), &expected).await {
            Ok(()) => break,
            Err(last) => last,
        };
        if site.remaining().is_zero() {
            return Err(failed(format!("it was restarted, and then: {last}")));
        }
        waited.mend(end_silence(site, talk)).await;
        let paused = site.road.pause(Duration::from_millis(100)).await;
        paused.map_err(|_| site.stopped())?;
    }
    progress.say(format!("{name} is back after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

async fn end_silence(site: &Site<'_>, talk: &Talk<'_>) {
    silence::end(site.road, &site.model, &site.topology, Some(talk)).await;
}

/// Whether it has caught up, confirms a quorum, and each pair with it is connected both ways.
async fn is_back(talk: &Talk<'_>, name: &str, committed: u64, others: &[String]) -> Result<(), String> {
    let api = talk.to(name, QUESTION).await.map_err(|error| error.to_string())?;
    let status = api.status(QUESTION).await.map_err(|error| error.to_string())?;
    if !status.has_leader() || status.raft_applied_index < committed {
        return Err("it has not caught up".to_owned());
    }
    if !status.is_learner {
        api.confirm_quorum(QUESTION).await.map_err(|error| error.to_string())?;
    }
    let members = api.members(QUESTION).await.map_err(|error| error.to_string())?;
    let names = talk.names_of(&members);
    let mut all = others.to_vec();
    all.push(name.to_owned());
    let reached = links::by_name(&active_peers(&talk.metrics_of(&all, QUESTION).await), &names);
    match links::missing(&all, &reached).first() {
        Some((from, to)) => Err(format!("{from} is not connected to {to}")),
        None => Ok(()),
    }
}

#[async_trait]
impl Action for Restart {
    fn name(&self) -> &'static str {
        "etcd_restart"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "Restarts the members one after the other, the leader last, and only where a quorum stays.",
            attributes: vec![
                site::cluster_attribute(),
                site::servers_attribute("The servers whose members are restarted. Default: all."),
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
