//! The cluster as its members see it, asked all at once.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::model::MemberModel;
use super::talk::Talk;
use crate::etcd::api::{Api, Member, Status};
use crate::etcd::lock::Servers;
use crate::etcd::version::Version;
use crate::membership::damage::copied;
use crate::membership::member_list::{Entry, MemberList};
use crate::topology::Topology;

/// How long a member or its server may take to answer.
pub const QUESTION: Duration = Duration::from_secs(5);

/// What the members say.
pub struct Survey {
    /// One that answers, not this member's own if another one does.
    pub api: Api,
    /// The member list.
    pub members: Vec<Member>,
    /// The names of the servers by the IDs of their members.
    pub names: BTreeMap<u64, String>,
    /// The same for the decisions.
    pub list: MemberList,
    /// The ID of the leader.
    pub leader: u64,
    /// The leader, if it answers.
    pub leading: Option<Api>,
    /// The members that answer and know a leader, by their IDs.
    pub healthy: BTreeMap<u64, Status>,
    /// The voters among them, this member's own as the last.
    pub voters: Vec<Api>,
    /// The servers that answer as the member of another one, and the IDs that they answer with. They count as nobody.
    pub copies: BTreeMap<String, u64>,
    /// The servers of the voters, as far as they are reached.
    pub servers: Servers,
}

/// The server that a member's peer URL has by its name in the cluster's domain.
fn server_of<'m>(one: &'m Member, domain: &str) -> Option<&'m str> {
    let rest = format!(".{domain}:");
    let stable = one.peer_urls.iter().find_map(|url| Some(url.split_once(&rest)?.0));
    stable.map(|url| url.split_once("://").map_or(url, |(_, name)| name))
}

fn entries(
    members: &[Member],
    names: &BTreeMap<u64, String>,
    healthy: &BTreeMap<u64, Status>,
    topology: &Topology,
) -> Vec<Entry> {
    let minor = |status: &Status| Some(Version::parse(&status.version).ok()?.number().1);
    let entry = |one: &Member| {
        let name = names.get(&one.id).cloned();
        Entry {
            id: one.id,
            known: name.is_some(),
            // Of a server that the state does not know too: it came with an apply that failed for this member.
            server: name.or_else(|| server_of(one, topology.domain().as_ref()).map(str::to_owned)),
            voter: !one.is_learner,
            started: one.has_started(),
            healthy: healthy.contains_key(&one.id),
            minor: healthy.get(&one.id).and_then(minor),
        }
    };
    members.iter().map(entry).collect()
}

/// Asks all members of the cluster; `None` if none of them answers as one that has a leader.
pub async fn survey(talk: &Talk<'_>, member: &MemberModel, topology: &Topology) -> Option<Survey> {
    survey_as(talk, &member.server, member.id(), topology).await
}

/// The same, for the member on this server, or with an empty name for none of them.
pub async fn survey_as(talk: &Talk<'_>, server: &str, id: Option<u64>, topology: &Topology) -> Option<Survey> {
    let servers: Vec<String> = topology.servers().keys().map(ToString::to_string).collect();
    let asked = servers.iter().map(|name| async move {
        let api = talk.to(name, QUESTION).await.ok()?;
        let status = api.status(QUESTION).await.ok()?;
        Some((name.clone(), api, status))
    });
    let answers = join_all(asked)
        .await
        .into_iter()
        .flatten()
        .filter(|(_, _, status)| status.has_leader());
    let answers: Vec<_> = answers.collect();
    talk.know(answers.iter().map(|(name, _, status)| (status.member_id, name)));
    // A member's own list may be old; one that a quorum confirms is not. Learners can't confirm.
    let mut voters: Vec<_> = { answers.iter() }
        .filter(|(_, _, status)| !status.is_learner)
        .cloned()
        .collect();
    voters.sort_by_key(|(name, _, _)| *name == server);
    for (name, api, status) in &voters {
        if api.confirm_quorum(QUESTION).await.is_err() {
            continue;
        }
        let members = api.members(QUESTION).await.ok()?;
        let names = talk.names_of(&members);
        if copied(name, status.member_id, &names).is_some() {
            continue;
        }
        let leader = status.leader;
        let (copies, own_answers): (Vec<_>, Vec<_>) =
            { answers.iter().cloned() }.partition(|(name, _, status)| copied(name, status.member_id, &names).is_some());
        let copies = { copies.into_iter() }
            .map(|(name, _, status)| (name, status.member_id))
            .collect();
        let leading = own_answers.iter().find(|(_, _, status)| status.is_leader());
        let leading = leading.map(|(_, api, _)| api.clone());
        let voters = { voters.iter() }.filter(|(name, _, status)| copied(name, status.member_id, &names).is_none());
        let voters = voters.map(|(_, api, _)| api.clone()).collect();
        let healthy = own_answers.into_iter().map(|(_, _, status)| (status.member_id, status));
        let healthy: BTreeMap<u64, Status> = healthy.collect();
        let own = names
            .iter()
            .find(|(_, name)| **name == server)
            .map(|(id, _)| *id)
            // One that was not taken over yet, and is down, is known by its ID alone.
            .or_else(|| members.iter().map(|one| one.id).find(|one| Some(*one) == id))
            // A member that was made by hand may be listed by another URL.
            .or_else(|| {
                let named = members.iter().find(|one| !server.is_empty() && one.name == server);
                named.map(|one| one.id)
            });
        let listed = members.iter().filter(|one| !one.is_learner);
        let hosts = listed.clone().filter_map(|one| names.get(&one.id));
        let hosts = join_all(hosts.map(|name| talk.host(name, QUESTION))).await;
        let servers = Servers {
            hosts: hosts.into_iter().filter_map(Result::ok).collect(),
            voters: listed.count(),
            cluster: topology.cluster().to_string(),
        };
        let list = MemberList {
            entries: entries(&members, &names, &healthy, topology),
            own,
            leader: Some(leader),
        };
        return Some(Survey {
            api: api.clone(),
            servers,
            members,
            names,
            list,
            leader,
            leading,
            healthy,
            voters,
            copies,
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_url_names_its_server() {
        let at = |url: &str| Member {
            id: 1,
            name: String::new(),
            peer_urls: vec![url.to_owned()],
            client_urls: Vec::new(),
            is_learner: false,
        };
        let own = at("https://b1.main.etcd.internal:2380");
        assert_eq!(server_of(&own, "main.etcd.internal"), Some("b1"));
        assert_eq!(server_of(&own, "other.etcd.internal"), None);
        assert_eq!(server_of(&at("https://10.0.0.1:2380"), "main.etcd.internal"), None);
    }
}
