//! A cluster that was made by other means: what its members say, and whether all of it can be taken over. Only looks.

mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;

use super::given::Given;
use super::{Found, FoundMember, refused};
use crate::etcd::api::{Api, Member, Status, TlsMaterial};
use crate::etcd::certificates::PrivateKeyPem;
use crate::etcd::former::Former;
use crate::etcd::version::Version;
use crate::host::Secret;
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::path::Path;
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::model::{self, ClusterModel};
use crate::resource::cluster::servers::on_each;
use crate::resource::connection::ShownKeys;
use crate::resource::former::{self, Sight};
use crate::resource::member::wanted::Keys;
use crate::resource::road::Road;
use crate::resource::server::model::ServerModel;
use crate::resource::talk::Talk;
use crate::topology::{ClusterName, Domain};

/// How long a server or a member may take to answer.
const READ: Duration = Duration::from_secs(20);

/// What one server says of the member on it.
struct Seen {
    keys: ShownKeys,
    sight: Sight,
    former: Former,
    version: Version,
}

/// What a member on a server said of itself, and who asked it.
struct Answer {
    api: Api,
    status: Status,
}

/// Looks at all servers and members.
///
/// # Errors
/// If one can't be asked, or stands in the way.
pub async fn look(road: &Road, given: &Given, service: &str) -> Result<Found, Diagnostics> {
    let name = given.cluster.as_str();
    let whole = |problem: String| refused(name, &problem);
    if service == format!("etcd-{name}.service") {
        return Err(whole(format!(
            "This provider would run the cluster's members by the service {service} too. Give the cluster another name."
        )));
    }
    let mut models = BTreeMap::new();
    for (key, server) in given.servers.as_map().into_iter().flatten() {
        let model: ServerModel = from_value(server).map_err(|error| whole(error.to_string()))?;
        models.insert(key.clone(), model);
    }
    let seen = on_servers(road, name, &models, service).await?;
    let tls = seen.values().any(|one| one.former.tls);
    if seen.values().any(|one| one.former.tls != tls) {
        return Err(whole(
            "Some of its members use TLS, and others don't. Bring all of them to one first.".to_owned(),
        ));
    }
    let mut cluster = describe(given, service, &seen);
    let mut trust = trust::Trust::default();
    if tls {
        trust = trust::look(road, name, &models, &seen).await?;
        cluster.set("certificate_authorities", trust.authorities.clone());
    }
    let answers = ask(road, name, &cluster, trust.borrowed.take()).await?;
    let members = listed(&answers).await.map_err(whole)?;
    let statuses = answers
        .iter()
        .map(|(server, answer)| (server.clone(), answer.status.clone()));
    let problems = problems(&statuses.collect(), &members);
    if !problems.is_empty() {
        return Err(whole(problems.join(" ")));
    }
    let id = answers.values().next().map_or(0, |answer| answer.status.cluster_id);
    let token = format!("adopted-{id:x}");
    for (server, one) in &seen {
        if let Some(other) = one.sight.token.as_ref().filter(|other| **other != token) {
            return Err(whole(format!(
                "Server {server} belongs to a cluster of the same name with the token {other:?}. Give this cluster another name."
            )));
        }
    }
    cluster.set("token", token);
    let found: Result<BTreeMap<String, FoundMember>, String> = seen
        .into_iter()
        .map(|(server, one)| {
            let answer = answers.get(&server).map(|answer| &answer.status);
            let mut member = found_member(name, &server, one, answer, &members)?;
            let domain = cluster.get("domain").as_str().unwrap_or_default();
            member.lost_names = trust.lost_names(&models[&server], domain);
            Ok((server, member))
        })
        .collect();
    let members = found.map_err(whole)?;
    Ok(Found { cluster, members })
}

async fn on_servers(
    road: &Road,
    name: &str,
    models: &BTreeMap<String, ServerModel>,
    service: &str,
) -> Result<BTreeMap<String, Seen>, Diagnostics> {
    let looked = on_each(road, models, READ, false, |_, host| async move {
        let sight = former::look(&host, name, service).await?;
        Ok((ShownKeys::of(&host), sight))
    })
    .await;
    let mut seen = BTreeMap::new();
    let mut diagnostics = Diagnostics::new();
    for (server, outcome) in looked {
        let refuse = |why: &str| refused(name, &format!("Server {server}: {why}."));
        match outcome {
            Err(error) => diagnostics.append(refuse(&format!("it could not be asked: {error}"))),
            Ok((keys, sight)) => match sight.member(service, &models[&server]) {
                Err(obstacles) => diagnostics.append(refuse(&obstacles.join("; "))),
                Ok((former, version)) => {
                    let one = Seen {
                        keys,
                        sight,
                        former,
                        version,
                    };
                    seen.insert(server, one);
                }
            },
        }
    }
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    Ok(seen)
}

/// The cluster as far as its servers tell.
fn describe(given: &Given, service: &str, seen: &BTreeMap<String, Seen>) -> Value {
    let mut servers = given.servers.clone();
    for (server, one) in seen {
        let mut with_key = servers.get(server).clone();
        one.keys.pin(&mut with_key);
        servers.set(server, with_key);
    }
    let domain = ClusterName::parse(&given.cluster).map(|name| Domain::of_cluster(&name).to_string());
    let first = seen.values().next().map(|one| &one.former);
    let tls = if first.is_some_and(|former| former.tls) {
        Value::Null
    } else {
        Value::object([("enabled", false.into())])
    };
    Value::object([
        ("name", given.cluster.as_str().into()),
        ("servers", servers),
        ("tls", tls),
        ("domain", domain.ok().into()),
        (
            "heartbeat_interval",
            first.map(|former| i64::from(former.heartbeat_interval)).into(),
        ),
        (
            "election_timeout",
            first.map(|former| i64::from(former.election_timeout)).into(),
        ),
        ("founders", Vec::new().into()),
        ("certificate_authorities", Value::Null),
        ("adopted_from", service.into()),
    ])
}

/// Asks every member, with a certificate of the authority's where its key is known, and else with that of a member.
async fn ask(
    road: &Road,
    name: &str,
    cluster: &Value,
    borrowed: Option<(String, Secret)>,
) -> Result<BTreeMap<String, Answer>, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let topology = model::topology(cluster, &Path::root(), &mut diagnostics);
    let model: ClusterModel = from_value(cluster).map_err(|error| refused(name, &error.to_string()))?;
    let Some(topology) = topology else {
        diagnostics.append(refused(name, "These servers make no cluster."));
        return Err(diagnostics);
    };
    let keys = Keys {
        client: road.authority_keys(name).client_private_key.map(PrivateKeyPem::new),
        ..Keys::default()
    };
    let tls = match (&model.certificate_authorities, &keys.client) {
        (None, _) => None,
        (Some(authorities), Some(_)) => {
            let material = keys.for_this_run(authorities);
            Some(material.map_err(|error| refused(name, &error.to_string()))?)
        }
        (Some(authorities), None) => borrowed.map(|(cert_pem, key_pem)| TlsMaterial {
            ca_pem: authorities.client.trusted().to_owned(),
            cert_pem,
            key_pem,
        }),
    };
    let talk = Talk::new(road, &model, &topology, tls);
    let asked = model.servers.keys().map(|server| {
        let talk = &talk;
        async move {
            let api = talk.to(server, READ).await?;
            let status = api.status(READ).await?;
            Ok::<_, crate::resource::talk::TalkError>((server.clone(), Answer { api, status }))
        }
    });
    let mut answers = BTreeMap::new();
    for (server, outcome) in model.servers.keys().zip(join_all(asked).await) {
        match outcome {
            Ok((server, answer)) => drop(answers.insert(server, answer)),
            Err(error) if wants_user(&error.to_string()) => return Err(refused(name, AUTHENTICATION)),
            Err(error) => {
                let problem =
                    format!("The member on server {server} does not answer: {error}. All members have to be well.");
                diagnostics.append(refused(name, &problem));
            }
        }
    }
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    Ok(answers)
}

/// The member list, confirmed by a quorum.
async fn listed(answers: &BTreeMap<String, Answer>) -> Result<Vec<Member>, String> {
    let Some(answer) = answers.values().find(|answer| !answer.status.is_learner) else {
        return Err("None of its members votes.".to_owned());
    };
    let asked = match answer.api.confirm_quorum(READ).await {
        Ok(()) => answer.api.members(READ).await,
        Err(error) => Err(error),
    };
    asked.map_err(|error| {
        let text = error.to_string();
        if wants_user(&text) {
            AUTHENTICATION.to_owned()
        } else {
            format!("It has no quorum, or does not give its member list: {text}.")
        }
    })
}

const AUTHENTICATION: &str = "Access control is on in it (etcdctl auth enable), and the certificate that was shown is not that of its user \
                              root. Give the private key of its authority for clients to the provider (certificate_authorities): with that \
                              one is issued.";

/// Whether etcd refuses for want of a user: from 3.6 on it does not even say how it is without one.
fn wants_user(error: &str) -> bool {
    let marks = [
        "user name is empty",
        "permission denied",
        "authentication failed",
        "invalid auth token",
    ];
    marks.iter().any(|mark| error.contains(mark))
}

/// What keeps the members from being taken over one at a time.
fn problems(statuses: &BTreeMap<String, Status>, members: &[Member]) -> Vec<String> {
    let mut problems = Vec::new();
    let clusters: BTreeSet<u64> = statuses.values().map(|status| status.cluster_id).collect();
    if clusters.len() > 1 {
        let list = statuses
            .iter()
            .map(|(server, status)| format!("{server} is in {:x}", status.cluster_id));
        problems.push(format!(
            "These servers are members of different clusters: {}.",
            list.collect::<Vec<_>>().join(", ")
        ));
        return problems;
    }
    for (server, status) in statuses {
        if !status.has_leader() {
            problems.push(format!("The member on server {server} knows no leader."));
        }
        if status.is_learner {
            problems.push(format!("The member on server {server} is a learner. Promote it first."));
        }
        if !status.errors.is_empty() {
            problems.push(format!(
                "The member on server {server} says: {}.",
                status.errors.join(", ")
            ));
        }
    }
    let ids: BTreeSet<u64> = statuses.values().map(|status| status.member_id).collect();
    if ids.len() < statuses.len() {
        problems.push("Two of these servers are the same member: is each reached at its own address?".to_owned());
    }
    for member in members.iter().filter(|member| !ids.contains(&member.id)) {
        problems.push(format!(
            "It has a member {:x} ({}, {}) that runs on none of these servers. Give its server too, or remove it with etcdctl.",
            member.id,
            if member.name.is_empty() { "never started" } else { &member.name },
            member.peer_urls.join(",")
        ));
    }
    problems
}

fn found_member(
    cluster: &str,
    server: &str,
    one: Seen,
    status: Option<&Status>,
    members: &[Member],
) -> Result<FoundMember, String> {
    let name = ClusterName::parse(cluster).map_err(|error| error.to_string())?;
    let data_dir = one.sight.data_dir(&name);
    let data_dir = data_dir.map_err(|why| format!("Server {server}: {why}."))?;
    let listed = members
        .iter()
        .find(|member| Some(member.id) == status.map(|status| status.member_id));
    Ok(FoundMember {
        keys: one.keys,
        executable: one.sight.executable,
        version: Some(one.version.to_string()),
        data_dir: Some(data_dir),
        config: one.former.config,
        member_id: status.map(|status| format!("{:x}", status.member_id)),
        cluster_id: status.map(|status| format!("{:x}", status.cluster_id)),
        peer_url: listed.map(|member| member.peer_urls.join(",")),
        client_url: listed.map(|member| member.client_urls.join(",")),
        ..FoundMember::default()
    })
}

#[cfg(test)]
mod tests;
