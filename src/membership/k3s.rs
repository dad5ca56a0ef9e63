//! k3s servers with etcd in them: who founds, who joins, and when one may be restarted. k3s adds itself to its etcd and founds a cluster
//! whenever it is told to, so what is decided here is what it is told.

use std::collections::BTreeMap;
use std::fmt;

use super::quorum;

pub mod shared;

/// What a server has of etcd's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// None.
    #[default]
    Empty,
    /// A write-ahead log.
    Etcd,
    /// That of a member that was removed from its cluster: k3s puts it away at its next start.
    Removed,
    /// Something that is no etcd's: a k3s that ran before with another datastore.
    Other(String),
}

/// A server that was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The ID of the k3s cluster that it belongs to, of whatever name.
    pub id: Option<String>,
    /// It holds the right to found the cluster.
    pub permit: bool,
    /// Its k3s was ready once, in this cluster. The mark outlives the data.
    pub founded: bool,
    /// Its data.
    pub data: Data,
    /// k3s runs there, or is being started.
    pub runs: bool,
    /// There is a k3s that this provider did not install.
    pub foreign: Option<String>,
    /// What it lacks for translating addresses.
    pub lacks: Option<String>,
}

/// A server, as far as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was reached.
    Reached(Holding),
    /// It was not.
    Unreached(String),
}

/// Why a server is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was not reached.
    Unreached(String),
    /// It belongs to another k3s cluster.
    OtherCluster(String),
    /// It holds data of etcd's, and no cluster of this provider's.
    Data,
    /// It holds data of another datastore.
    OtherData(String),
    /// Somebody else's k3s is there.
    Foreign(String),
    /// It can't translate addresses.
    Lacks(String),
    /// Its member was removed from the cluster, and no other server holds data.
    Removed,
    /// Nobody holds the right to found the cluster, nor data.
    NoPermit,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreached(why) => write!(f, "was not reached, and may hold the cluster's data: {why}"),
            Self::OtherCluster(id) => write!(
                f,
                "belongs to another k3s cluster (/etc/etcd-k3s there has {id}). If it is this cluster, and its resources got other addresses, write `moved` blocks: the plan names them. If it is another one, use another server"
            ),
            Self::Data => f.write_str(
                "holds data of etcd's in /var/lib/rancher/k3s/server/db that is none of this cluster's. Move it away if it is not needed",
            ),
            Self::OtherData(path) => write!(
                f,
                "holds data of another k3s in {path}, which would be taken into the new cluster. Move it away if it is not needed"
            ),
            Self::Foreign(what) => write!(
                f,
                "has a k3s that was installed by other means ({what}). Uninstall that first (k3s-uninstall.sh): it is not taken over"
            ),
            Self::Lacks(what) => f.write_str(what),
            Self::Removed => f.write_str(
                "holds the data of a member that was removed from its cluster (/var/lib/rancher/k3s/server/db/etcd/tombstone), and no other \
                 server holds data, so there is no cluster to join. Its data may be the last there is, and was left as it is: bring the other \
                 servers back, or restore a snapshot by k3s' own means",
            ),
            Self::NoPermit => f.write_str(
                "finds no server of its cluster that holds data, and the right to found it is used up. If the cluster has never run, apply \
                 again: etcd_k3s_cluster issues the right anew when it has seen that all servers are empty. If it has, its data is gone: \
                 restore a snapshot by k3s' own means",
            ),
        }
    }
}

/// Whether a new cluster may be founded on these servers: on all or on none. The server that gets the permit is the first by name; the
/// permit moves if another one is created before it.
///
/// # Errors
/// Who is in the way, and why.
pub fn found(id: &str, servers: &BTreeMap<String, Seen>) -> Result<String, BTreeMap<String, Refusal>> {
    let mut refused = BTreeMap::new();
    for (name, seen) in servers {
        let refusal = match seen {
            Seen::Unreached(why) => Some(Refusal::Unreached(why.clone())),
            Seen::Reached(holding) => misfit(id, holding).or(match &holding.data {
                Data::Etcd | Data::Removed => Some(Refusal::Data),
                _ => None,
            }),
        };
        refused.extend(refusal.map(|refusal| (name.clone(), refusal)));
    }
    match servers.keys().next() {
        Some(first) if refused.is_empty() => Ok(first.clone()),
        _ => Err(refused),
    }
}

/// Whether a cluster that is not founded yet lost its permit: nobody holds data, nobody runs, and everybody was asked.
pub fn is_stranded(servers: &BTreeMap<String, Seen>) -> bool {
    servers.values().all(|seen| match seen {
        Seen::Reached(holding) => holding.data == Data::Empty && !holding.permit && !holding.runs && !holding.founded,
        Seen::Unreached(_) => false,
    })
}

/// Whether any server holds the cluster's data.
pub fn is_founded(servers: &BTreeMap<String, Seen>) -> bool {
    servers
        .values()
        .any(|seen| matches!(seen, Seen::Reached(holding) if matches!(holding.data, Data::Etcd | Data::Removed)))
}

/// Whether the cluster was founded, as far as its servers tell: `None` if one of them was not reached, and could make the difference.
pub fn known(servers: &BTreeMap<String, Seen>) -> Option<bool> {
    let marked = |seen: &Seen| matches!(seen, Seen::Reached(holding) if holding.founded);
    if is_founded(servers) || servers.values().any(marked) {
        return Some(true);
    }
    let reached = |seen: &Seen| matches!(seen, Seen::Reached(_));
    servers.values().all(reached).then_some(false)
}

/// What no server of a cluster may have, new or old.
pub fn misfit(id: &str, holding: &Holding) -> Option<Refusal> {
    if let Some(other) = holding.id.as_ref().filter(|other| *other != id) {
        return Some(Refusal::OtherCluster(other.clone()));
    }
    if let Some(foreign) = &holding.foreign {
        return Some(Refusal::Foreign(foreign.clone()));
    }
    if let Data::Other(path) = &holding.data {
        return Some(Refusal::OtherData(path.clone()));
    }
    if holding.id.is_none() && matches!(holding.data, Data::Etcd | Data::Removed) {
        return Some(Refusal::Data);
    }
    holding.lacks.clone().map(Refusal::Lacks)
}

/// How a server is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the data that it has, if it is in the member list still: see [`resume`].
    Resume,
    /// Without the data that it has: its member was removed. That data is kept aside first.
    SetAside,
    /// As the first one of its cluster: it holds the permit.
    Found,
    /// The same, once the permit was taken from this other server.
    TakePermit(String),
    /// Through one of these servers, which hold the cluster's data.
    Join(Vec<String>),
    /// Not yet: the server that founds is being started.
    Await(String),
    /// Not at all.
    Refuse(String, Refusal),
}

/// How the server `name` is to be started. To found is only decided where everybody was seen, and nobody has data.
pub fn start(id: &str, name: &str, servers: &BTreeMap<String, Seen>) -> Start {
    let own = match servers.get(name) {
        Some(Seen::Reached(own)) => own,
        Some(Seen::Unreached(why)) => return Start::Refuse(name.to_owned(), Refusal::Unreached(why.clone())),
        None => return Start::Refuse(name.to_owned(), Refusal::NoPermit),
    };
    if let Some(refusal) = misfit(id, own) {
        return Start::Refuse(name.to_owned(), refusal);
    }
    if own.data == Data::Etcd {
        return Start::Resume;
    }
    let reached = || {
        servers.iter().filter_map(|(other, seen)| match seen {
            Seen::Reached(holding) if other != name => Some((other, holding)),
            _ => None,
        })
    };
    let ours = |holding: &Holding| holding.id.as_deref() == Some(id);
    let with_data: Vec<String> = reached()
        .filter(|(_, holding)| ours(holding) && holding.data == Data::Etcd)
        .map(|(other, _)| other.clone())
        .collect();
    if !with_data.is_empty() {
        return match own.data {
            Data::Removed => Start::SetAside,
            _ => Start::Join(with_data),
        };
    }
    for (other, seen) in servers {
        let refusal = match seen {
            Seen::Unreached(why) => Some(Refusal::Unreached(why.clone())),
            Seen::Reached(holding) => misfit(id, holding),
        };
        if let Some(refusal) = refusal {
            return Start::Refuse(other.clone(), refusal);
        }
    }
    // Where a member was removed there was a cluster, whatever became of the others.
    let removed = |seen: &Seen| matches!(seen, Seen::Reached(holding) if holding.data == Data::Removed);
    if let Some((other, _)) = servers.iter().find(|(_, seen)| removed(seen)) {
        return Start::Refuse(other.clone(), Refusal::Removed);
    }
    if own.permit {
        return Start::Found;
    }
    if let Some((other, _)) = reached().find(|(_, holding)| ours(holding) && holding.permit) {
        return Start::TakePermit(other.clone());
    }
    match reached().find(|(_, holding)| holding.runs) {
        Some((other, _)) => Start::Await(other.clone()),
        None => Start::Refuse(name.to_owned(), Refusal::NoPermit),
    }
}

/// How a server stands in its cluster's member list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Not at all.
    Not,
    /// Added, and never started.
    Unstarted,
    /// As one that has started.
    Started {
        /// It votes.
        voter: bool,
    },
}

/// The step for a server that holds data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It goes on with that.
    GoOn,
    /// Its member was removed: the data is kept aside, and it joins again.
    SetAside,
    /// Not now.
    Refuse(String),
}

/// Decides on that. `listed` is how a quorum of the cluster has it, if one answers: without one nothing says that it was removed. `apart`: its etcd
/// answers, and none of the others knows it.
pub fn resume(listed: Option<Listed>, apart: bool) -> Resume {
    match listed {
        Some(Listed::Not) if apart => Resume::Refuse(
            "its etcd runs, and is not in the member list of the other servers' cluster: it is a cluster of its own, whose data was written \
             apart from theirs. Save what is needed of it (`k3s etcd-snapshot save` there), stop it (`systemctl stop k3s`), and apply again: \
             its data is kept aside then, and it joins the others"
                .to_owned(),
        ),
        Some(Listed::Not) => Resume::SetAside,
        _ => Resume::GoOn,
    }
}

/// The cluster as its members that answer see it, without the server in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Others {
    /// Voters.
    pub voters: usize,
    /// Those of them that answer and know a leader.
    pub healthy: usize,
    /// Another server's learner, and whether that answers.
    pub learner: Option<bool>,
}

/// What is done before a server without data joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    /// Nothing: k3s adds itself, as a learner.
    Start,
    /// Its old member is taken out, whose data is gone.
    RemoveOld,
    /// Another server's learner gets its vote: etcd has room for one learner.
    PromoteOther,
    /// Not now.
    Refuse(String),
}

/// Decides on joining.
pub fn join(listed: Listed, others: Others) -> Join {
    let Others {
        voters,
        healthy,
        learner,
    } = others;
    match listed {
        Listed::Started { voter: true } if healthy < quorum(voters) => Join::Refuse(format!(
            "its old member, whose data is gone, can't be taken out: {voters} other members vote, {} have to agree, and {healthy} are \
             healthy. Bring the others back first",
            quorum(voters)
        )),
        Listed::Started { .. } => Join::RemoveOld,
        // etcd's `isConnectedToQuorumAfterAddingNewMemberSince`.
        Listed::Not if voters > 1 && healthy < quorum(voters + 1) => Join::Refuse(format!(
            "{voters} members vote, and {healthy} of them are healthy, which is too few to add one: bring the others back, or take \
             the dead one out of the configuration first"
        )),
        Listed::Not => match learner {
            None => Join::Start,
            Some(true) => Join::PromoteOther,
            Some(false) => Join::Refuse(
                "another server was added and has no vote yet, and does not answer; etcd takes no second one until that is over. See what \
                 keeps that one, or take it out of the configuration"
                    .to_owned(),
            ),
        },
        Listed::Unstarted => Join::Start,
    }
}

/// What is done about a running server that is to be restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Do it.
    Now,
    /// The leader is the last one.
    LetOthersFirst,
    /// Its leadership is moved first.
    MoveLeader,
    /// Not now.
    Refuse(String),
}

/// Decides on a restart of a voter. With one or two voters there is no quorum without it: a pause can't be helped then.
pub fn restart(others: Others, leads: bool, others_wait: bool, moved: bool) -> Restart {
    let voters = others.voters + 1;
    let unavoidable = voters <= 2 && others.healthy == others.voters;
    if others.healthy < quorum(voters) && !unavoidable {
        return Restart::Refuse(format!(
            "of {voters} voting members {} have to stay healthy while it is restarted, and of the others only {} are",
            quorum(voters),
            others.healthy
        ));
    }
    if leads && others_wait {
        return Restart::LetOthersFirst;
    }
    if leads && others.healthy > 0 && !moved {
        return Restart::MoveLeader;
    }
    Restart::Now
}

#[cfg(test)]
mod tests;
