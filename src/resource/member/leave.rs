//! A member leaves: out of the cluster first, then off the server.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::model::MemberModel;
use super::observe;
use super::talk::{Talk, TalkError};
use crate::etcd::api::Api;
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

/// The member list as one member sees it, with that member's connection.
struct List {
    api: Api,
    own: Option<u64>,
    /// The server whose member is the leader, and another healthy voter's ID to hand over to.
    leader: Option<u64>,
    successor: Option<u64>,
    peers: Vec<Peer>,
}

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
    let list = match &talk {
        Some(talk) => list(talk, member, topology).await,
        None => None,
    };
    let others_run = match &list {
        Some(_) => true,
        None => others_run(road, member, layout).await,
    };
    match decide(
        &member.server,
        false,
        list.as_ref().map(|list| list.peers.as_slice()),
        others_run,
    ) {
        Leaving::StopAll | Leaving::Gone | Leaving::Last => Ok(()),
        Leaving::Refuse(refusal) => Err(format!("Nothing was changed: {refusal}.")),
        Leaving::Remove => {
            let (Some(list), Some(talk)) = (list, talk) else {
                return Ok(());
            };
            hand_over(&talk, &list).await;
            let Some(id) = list.own else { return Ok(()) };
            remove_from_list(&list.api, id, deadline).await
        }
    }
}

/// If the member leads, its leadership goes to another one first. A failure costs an election and nothing more.
async fn hand_over(talk: &Talk<'_>, list: &List) {
    let (Some(own), Some(successor)) = (list.own, list.successor) else {
        return;
    };
    if list.leader != Some(own) {
        return;
    }
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

/// The member list, from the first other member that answers, with everybody's health; from the member itself where
/// no other one answers.
async fn list(talk: &Talk<'_>, member: &MemberModel, topology: &Topology) -> Option<List> {
    let servers: Vec<String> = topology.servers().keys().map(ToString::to_string).collect();
    let asked = servers.iter().map(|name| async move {
        let api = talk.to(name, QUESTION).await.ok()?;
        let status = api.status(QUESTION).await.ok()?;
        Some((name.clone(), api, status))
    });
    let answers: Vec<_> = join_all(asked)
        .await
        .into_iter()
        .flatten()
        .filter(|(_, _, status)| status.leader != 0)
        .collect();
    let leader = answers.first().map(|(_, _, status)| status.leader);
    let healthy: Vec<u64> = answers.iter().map(|(_, _, status)| status.member_id).collect();
    let (_, api, _) = answers.into_iter().min_by_key(|(name, _, _)| *name == member.server)?;
    let names = talk.names(&api).await.ok()?;
    let members = api.members(QUESTION).await.ok()?;
    let own = members
        .iter()
        .find(|one| names.get(&one.id) == Some(&member.server))
        .map(|one| one.id);
    let peers = members.iter().map(|one| Peer {
        name: names.get(&one.id).cloned().unwrap_or_else(|| format!("{:x}", one.id)),
        voter: !one.is_learner,
        healthy: healthy.contains(&one.id),
        leaving: false,
    });
    let peers = peers.collect();
    let successor = members
        .iter()
        .find(|one| !one.is_learner && Some(one.id) != own && healthy.contains(&one.id))
        .map(|one| one.id);
    Some(List {
        api,
        own,
        leader,
        successor,
        peers,
    })
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
