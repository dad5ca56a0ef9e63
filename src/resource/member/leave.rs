//! A member leaves: out of the cluster first, then off the server.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::model::MemberModel;
use super::observe;
use super::survey::{Survey, survey};
use super::talk::{Talk, TalkError};
use crate::etcd::api::{Api, Member};
use crate::etcd::layout::Layout;
use crate::host::{Host, RunError, Script};
use crate::membership::leaving::{Leaving, Peer, decide};
use crate::membership::member::Service;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::cluster::servers::stamp;
use crate::resource::road::Road;
use crate::topology::Topology;

/// How long to wait for other members of the cluster that are to be destroyed in the same run: Terraform asks for
/// them at the same time unless it may do only one thing at once.
const TOGETHER: Duration = Duration::from_millis(300);
const QUESTION: Duration = Duration::from_secs(5);

/// Takes a member out of its cluster and off its server.
pub async fn leave(
    road: &Road,
    member: &MemberModel,
    topology: &Topology,
    layout: &Layout,
    within: Duration,
) -> Diagnostics {
    let name = member.server.clone();
    let Some(server) = member.server() else {
        return Diagnostics::new();
    };
    let failed = |detail: String| {
        Diagnostics::from(Diagnostic::error(format!("Member {name} can't leave"), detail).at(Path::of("server")))
    };
    let deadline = Instant::now() + within;
    // Said before the server is reached: how long that takes differs from one to the other, and nobody shall take this member for
    // one that stays.
    if let Err(error) = road.leaving(member.cluster.token(), &member.server) {
        return failed(error.to_string());
    }
    let host = match road.connect(server, within.min(QUESTION * 3), false).await {
        Ok(host) => host,
        Err(error) => {
            return failed(format!(
                "Its server could not be reached, and removing the member of an unreachable server is not part of this \
                 version: {error}"
            ));
        }
    };
    let all = match together(road, member).await {
        Ok(all) => all,
        Err(error) => return failed(error.to_string()),
    };
    if !all {
        let line = match road.line(member.cluster.token()).await {
            Ok(line) => line,
            Err(error) => return failed(error.to_string()),
        };
        let outcome = out_of_cluster(road, member, topology, layout, &host, deadline).await;
        drop(line);
        if let Err(detail) = outcome {
            return failed(detail);
        }
    }
    match remove(&host, member, all).await {
        Ok(()) => Diagnostics::new(),
        Err(error) => failed(error.to_string()),
    }
}

/// Whether every member of the cluster is to leave in this run.
async fn together(road: &Road, member: &MemberModel) -> Result<bool, crate::resource::road::RoadError> {
    let until = Instant::now() + TOGETHER;
    loop {
        let leaving = road.leaving(member.cluster.token(), &member.server)?;
        if member.cluster.servers.keys().all(|server| leaving.contains(server)) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        road.pause(Duration::from_millis(20)).await?;
    }
}

/// Removes the member from the cluster, if it is in it and others remain.
async fn out_of_cluster(
    road: &Road,
    member: &MemberModel,
    topology: &Topology,
    layout: &Layout,
    host: &Host,
    deadline: Instant,
) -> Result<(), String> {
    let own = observe::observe(host, member, layout, "", &[], true)
        .await
        .map_err(|error| error.to_string())?;
    let certificate = own.certificates.get("server").cloned();
    let talk = Talk::borrow(road, member, topology, certificate.as_ref(), own.key.clone());
    let survey = match &talk {
        Some(talk) => survey(talk, member, topology).await,
        None => None,
    };
    let others_run = match &survey {
        Some(_) => true,
        None => others_run(road, member, layout).await,
    };
    let peers = survey.as_ref().map(peers);
    match decide(&member.server, false, peers.as_deref(), others_run) {
        Leaving::StopAll | Leaving::Gone | Leaving::Last => Ok(()),
        Leaving::Refuse(refusal) => Err(format!("Nothing was changed: {refusal}.")),
        Leaving::Remove => {
            let (Some(survey), Some(talk)) = (survey, talk) else {
                return Ok(());
            };
            hand_over(&talk, &survey).await;
            let Some(id) = survey.own else { return Ok(()) };
            remove_from_list(&survey.api, id, deadline).await
        }
    }
}

/// If the member leads, its leadership goes to another one first. A failure costs an election and nothing more.
async fn hand_over(talk: &Talk<'_>, survey: &Survey) {
    if survey.own != Some(survey.leader) {
        return;
    }
    let fit = |one: &&Member| !one.is_learner && Some(one.id) != survey.own && survey.healthy.contains(&one.id);
    let Some(successor) = survey.members.iter().find(fit).map(|one| one.id) else {
        return;
    };
    let Ok(name) = talk.own() else { return };
    let moved = match talk.to(name.as_str(), QUESTION).await {
        Ok(api) => api.move_leader(successor, QUESTION).await.map_err(TalkError::from),
        Err(error) => Err(error),
    };
    if let Err(error) = moved {
        tracing::debug!(%error, "the leader could not be moved");
    }
}

/// A removal may time out and still be done: the list tells.
async fn remove_from_list(api: &Api, id: u64, deadline: Instant) -> Result<(), String> {
    loop {
        let outcome = api.member_remove(id, QUESTION).await;
        let listed = api
            .members(QUESTION)
            .await
            .map(|members| members.iter().any(|member| member.id == id));
        match (outcome, listed) {
            (_, Ok(false)) => return Ok(()),
            (Err(error), _) | (Ok(_), Err(error)) if Instant::now() >= deadline => {
                return Err(format!("The cluster did not let it go: {error}"));
            }
            (Ok(_), Ok(true)) if Instant::now() >= deadline => return Err("It is still in the member list.".to_owned()),
            _ => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// The members as the decision on leaving needs them.
fn peers(survey: &Survey) -> Vec<Peer> {
    let peer = |one: &Member| Peer {
        name: survey
            .names
            .get(&one.id)
            .cloned()
            .unwrap_or_else(|| format!("{:x}", one.id)),
        voter: !one.is_learner,
        healthy: survey.healthy.contains(&one.id),
    };
    survey.members.iter().map(peer).collect()
}

/// Whether any other server runs its member, or can't be asked.
async fn others_run(road: &Road, member: &MemberModel, layout: &Layout) -> bool {
    let others = member
        .cluster
        .servers
        .iter()
        .filter(|(name, _)| **name != member.server);
    let asked = others.map(|(_, server)| async move {
        let Ok(host) = road.connect(server, QUESTION, false).await else {
            return true;
        };
        match observe::observe(&host, member, layout, "", &[], false).await {
            Ok(seen) => seen.service == Service::Running,
            Err(_) => true,
        }
    });
    join_all(asked).await.into_iter().any(|runs| runs)
}

/// Stops the member and takes it off the server.
async fn remove(host: &Host, member: &MemberModel, all: bool) -> Result<(), RunError> {
    let script = Script::new("taking the member off the server")
        .set("cluster", &member.cluster.name)
        .set("stamp", stamp())
        .set("mode", member.on_destroy.as_deref().unwrap_or("keep_data"))
        .line(include_str!("../remove_member.sh"))
        .set("all", if all { "all" } else { "" })
        .line("remove_member \"$cluster\" \"$stamp\" \"$mode\" \"$all\"");
    host.run_checked(&script).await.map(drop)
}
