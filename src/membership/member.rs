//! The next step of one member: observe, decide here, perform, and observe again. Killed between any two
//! steps, the next run finds its place by observing.

mod adoption;
mod peer_url;
mod refusal;

pub use adoption::Adoption;
pub use peer_url::PeerUrl;
pub use refusal::Refusal;

use super::{may_pause, quorum};

/// What the data directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing, or it is not there.
    Empty,
    /// The data of an etcd member.
    Member,
    /// Files that are none of etcd's.
    Other,
}

/// What the service manager says of the member's service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It is not running.
    Stopped,
    /// Its process runs; it may still wait for its peers.
    Running,
    /// It ended with an error.
    Failed,
}

/// What was observed of one member and, as far as it matters, of the other founding members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The token of the founding permit that the server holds.
    pub permit: Option<String>,
    /// The token that is written down on the server.
    pub token: Option<String>,
    /// Whether no member was ever installed there: a token, and perhaps a permit, is all that an interrupted create of a cluster leaves.
    pub bare: bool,
    /// Its data directory.
    pub data: Data,
    /// Whether that was made of a snapshot for this cluster, so that it may stand beside a permit.
    pub restored: bool,
    /// Its service.
    pub service: Service,
    /// Whether binary, configuration, certificates and unit are as wanted.
    pub installed: bool,
    /// Whether what is not as wanted needs a restart of a running member.
    pub restart_needed: bool,
    /// Whether a certificate has ended that it shows, which etcd reads again at each handshake, and nothing else of its trust changes.
    pub expired: bool,
    /// Whether peers, or it itself, have another address than before, and it has not dialled anew yet.
    pub peers_moved: bool,
    /// Another process that has one of the member's ports.
    pub port_taken: Option<(u16, String)>,
    /// How many founding members have started, this one included; `None` before it was looked at.
    pub founders_started: Option<usize>,
    /// What this member answers; `None` before it was asked.
    pub answers: Option<Answer>,
    /// The cluster as its other members see it; `None` before it was looked at.
    pub cluster: Option<Cluster>,
    /// Whether other members wait in this process to be restarted.
    pub others_wait: bool,
    /// Whether its log holds entries that the wanted version of etcd can't read.
    pub old_entries: bool,
    /// The minor version of etcd that a member which does not run ran last, as far as that is known: its data was written by that.
    pub last_minor: Option<u64>,
    /// How often it was tried to move the leadership away from this member.
    pub leader_moves: u8,
    /// Whether its data, or what it answers, is another server's member's; or whether it does not run, and another server runs as this one.
    pub copied: bool,
    /// How far it has come, if the member ran under another service and is being taken over from it.
    pub adoption: Option<Adoption>,
}

impl Observed {
    /// A member that runs, with everything in place, and has to be restarted.
    pub fn to_be_restarted(token: &str) -> Self {
        Self {
            permit: None,
            token: Some(token.to_owned()),
            bare: false,
            data: Data::Member,
            restored: false,
            service: Service::Running,
            installed: true,
            restart_needed: true,
            expired: false,
            peers_moved: false,
            port_taken: None,
            founders_started: None,
            answers: None,
            cluster: None,
            others_wait: false,
            old_entries: false,
            last_minor: None,
            leader_moves: 0,
            copied: false,
            adoption: None,
        }
    }
}

/// What a member says of itself once it answers as one of a cluster with a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It votes.
    Voter,
    /// It receives the log, and does not vote yet.
    Learner,
}

/// The cluster as the other members see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Nobody answers as one of a cluster with a leader.
    NoQuorum,
    /// It has a leader.
    Lives(Lives),
}

/// A cluster that has a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// How this member stands in the member list.
    pub own: Listed,
    /// The other voters.
    pub others: usize,
    /// How many of them are healthy.
    pub healthy: usize,
    /// Whether this member leads.
    pub leads: bool,
    /// The oldest and the newest minor version among the other members that answer: 5 for etcd 3.5.
    pub minors: Option<(u64, u64)>,
    /// Another server's learner, if there is one.
    pub learner: Option<OtherLearner>,
    /// Whether one of the other voters never started, and is of a server that the cluster does not have any more: a founder that was
    /// given up. It counts for every quorum.
    pub given_up: bool,
    /// Which peer URL the list has of this member.
    pub peer_url: PeerUrl,
}

/// A learner that is not this member's. etcd takes one at a time, so it is in the way of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherLearner {
    /// It takes part in the cluster.
    Healthy,
    /// It does not: it never started, or it is down.
    Down,
}

/// How a member stands in etcd's member list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Not at all.
    Not,
    /// Added, and never started.
    Unstarted,
    /// Started before, as a voter.
    Voter,
    /// Started before, as a learner.
    Learner,
}

/// What the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The cluster's token.
    pub token: String,
    /// How many members found the cluster.
    pub founders: usize,
    /// Whether this member is one of them.
    pub founder: bool,
    /// Whether they are the cluster's servers still, neither more nor less: a permit to found is good for exactly those.
    pub as_founded: bool,
    /// Whether to see that every directed pair is connected, once it runs.
    pub verify: bool,
    /// The minor version of etcd: 5 for 3.5.
    pub minor: u64,
    /// Whether the member list may have another peer URL of it than the wanted one.
    pub peer_url_differs: bool,
}

/// How etcd is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the permit, as a founder.
    Found,
    /// With the joining permit, as a member that was added.
    Join,
    /// With the data that it has.
    Resume,
    /// With the data that it has, and as it is: its log holds what the wanted version can't read, which it can do something about
    /// only while it runs.
    AsItIs,
    /// Anew, with the data that it has: it runs, and what changes needs that.
    Restart,
    /// Anew, as it is, to write a raft snapshot: the log before it holds what the wanted version can't read.
    Snapshot,
    /// Not at all: it runs, and what changes needs no restart.
    No,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bring files into place and start etcd so.
    Install(Start),
    /// Bring new certificates into place in place of those that have ended, and change nothing else.
    Renew,
    /// See whether the cluster lives, and how this member stands in its member list.
    LookAtCluster,
    /// Give up the turn until the other members of this process were restarted: the leader is the last.
    LetOthersFirst,
    /// Move the leadership to another member.
    MoveLeader,
    /// Keep aside the data of a member that was taken out of the cluster: it can't come back with it.
    SetAside,
    /// Take the member that lost its data out of the member list.
    RemoveOld,
    /// Make a voter of another server's learner, which an earlier run left as it is.
    PromoteOther,
    /// Take another one out of the member list that never voted: a founder that was given up, or else another server's learner, which can
    /// join again.
    RemoveOther,
    /// Add it to the member list, as a learner.
    AddLearner,
    /// Make a voter of it, when it has caught up.
    Promote,
    /// Take it over from its former service: stop it there, and start it with its data under its own.
    Adopt,
    /// Make its name its peer URL in the member list.
    Rename,
    /// Add the wanted peer URL to what the member list has of it: the others reach it before its restart and after.
    AddUrl,
    /// Take its former peer URLs out of the member list, once the others reach it at the wanted one.
    SettleUrl,
    /// Dial the peers that moved at their new addresses.
    Redial,
    /// See how many founders have started.
    CountFounders,
    /// Wait until the member answers: enough founders run.
    AwaitHealth,
    /// The process runs, and no quorum can be expected before others are created too.
    Leave,
    /// Everybody runs: verify every directed pair.
    Verify,
    /// It answers; somebody else verifies when the last one has started.
    Done,
    /// Not allowed.
    Refuse(Refusal),
}

/// Decides.
pub fn next_step(observed: &Observed, desired: &Desired) -> Step {
    let ours = observed.token.as_deref() == Some(desired.token.as_str());
    if let (false, false, Some(other)) = (ours, observed.bare, &observed.token) {
        return Step::Refuse(Refusal::OtherCluster(other.clone()));
    }
    if let Some(adoption) = observed.adoption {
        return adoption::adopt(adoption, observed, desired);
    }
    // A permit is consumed before etcd first runs: data beside an unused permit was there before, unless it was made of a snapshot.
    let permitted = observed.permit.as_deref() == Some(desired.token.as_str());
    match observed.data {
        Data::Other => return Step::Refuse(Refusal::ForeignData),
        Data::Member if observed.token.is_none() && !permitted => return Step::Refuse(Refusal::TokenGone),
        Data::Member if (permitted && !observed.restored) || !ours => return Step::Refuse(Refusal::ForeignData),
        Data::Member | Data::Empty => {}
    }
    if observed.service == Service::Running && observed.restart_needed {
        // It needs no restart and no other member, and without it the others can't be asked.
        if observed.expired {
            return Step::Renew;
        }
        return restart(observed, desired);
    }
    if observed.service != Service::Running {
        if let Some((port, process)) = &observed.port_taken {
            return Step::Refuse(Refusal::PortTaken(*port, process.clone()));
        }
        return match observed.data {
            Data::Member if permitted => Step::Install(Start::Found),
            Data::Member => resume(observed, desired),
            // With other names than the others have started with it would be of another cluster. One that has a quorum takes it as the
            // voter that it lists.
            _ if permitted && desired.as_founded => Step::Install(Start::Found),
            _ => join(observed, desired),
        };
    }
    if !observed.installed {
        return Step::Install(Start::No);
    }
    if observed.peers_moved {
        return Step::Redial;
    }
    if desired.peer_url_differs
        && let Some(step) = peer_url::settle(observed)
    {
        return step;
    }
    if !desired.verify {
        return Step::Done;
    }
    // A member that was added has a quorum to ask; one that founds may be the first of many.
    if desired.founder && observed.answers.is_none() {
        match observed.founders_started {
            None => return Step::CountFounders,
            Some(started) if started < quorum(desired.founders) => return Step::Leave,
            Some(_) => {}
        }
    }
    match observed.answers {
        None => Step::AwaitHealth,
        Some(_) if observed.copied => Step::Refuse(Refusal::Copied),
        Some(Answer::Learner) => Step::Promote,
        Some(Answer::Voter) => match observed.founders_started {
            Some(started) if started < desired.founders => Step::Done,
            _ => Step::Verify,
        },
    }
}

/// A member with data goes on with it, unless the cluster says that it was taken out: then it would end by itself, and
/// joins anew.
fn resume(observed: &Observed, desired: &Desired) -> Step {
    let minor = desired.minor;
    let unfit = observed.last_minor.filter(|last| minor < *last || minor > last + 1);
    match (observed.cluster, unfit) {
        (None, _) => Step::LookAtCluster,
        // Two processes would have one ID, and vote twice.
        (Some(_), _) if observed.copied => Step::Refuse(Refusal::Copied),
        (Some(Cluster::Lives(lives)), _) if lives.own == Listed::Not => Step::SetAside,
        (Some(_), Some(last)) => Step::Refuse(Refusal::Version { minor, last }),
        (Some(Cluster::Lives(lives)), None) if lives.peer_url == PeerUrl::Other => Step::AddUrl,
        (Some(_), None) if observed.old_entries => Step::Install(Start::AsItIs),
        // One that is listed as never started may have been cut off before it said its name: the data is its own.
        (Some(_), None) => Step::Install(Start::Resume),
    }
}

/// Whether a member with data that does not run may be started by what was seen of the cluster while somebody else had the turn. It changes
/// nothing of the cluster's, and who has the turn may well wait for the quorum that it would make.
pub fn goes_on_out_of_turn(observed: &Observed, desired: &Desired, cluster: Cluster) -> bool {
    let stopped = observed.data == Data::Member && observed.service != Service::Running;
    let looked = Observed {
        cluster: Some(cluster),
        ..observed.clone()
    };
    let next = || next_step(&looked, desired);
    stopped && matches!(next(), Step::Install(Start::Resume | Start::AsItIs))
}

/// A running member is restarted when a quorum stays healthy without it, the leader as the last one and only when it leads
/// no more.
fn restart(observed: &Observed, desired: &Desired) -> Step {
    if let Some((port, process)) = &observed.port_taken {
        return Step::Refuse(Refusal::PortTaken(*port, process.clone()));
    }
    let first = before_restart(observed, desired).or_else(|| peer_url::before_restart(observed));
    first.unwrap_or_else(|| Step::Install(anew(observed)))
}

/// What has to be done or waited for before a member that runs may be stopped for a moment; `None` when it may be.
fn before_restart(observed: &Observed, desired: &Desired) -> Option<Step> {
    let Lives {
        own,
        others,
        healthy,
        leads,
        minors,
        given_up,
        ..
    } = match observed.cluster {
        None => return Some(Step::LookAtCluster),
        Some(_) if observed.copied => return Some(Step::Refuse(Refusal::Copied)),
        Some(Cluster::NoQuorum) => return Some(Step::Refuse(Refusal::NoQuorum)),
        Some(Cluster::Lives(lives)) => lives,
    };
    if let Some(other) = minors.and_then(|minors| too_far(desired.minor, minors)) {
        let minor = desired.minor;
        return Some(Step::Refuse(Refusal::Skew { minor, other }));
    }
    match own {
        Listed::Not => return Some(Step::Refuse(Refusal::Unlisted)),
        Listed::Unstarted | Listed::Learner => return None,
        Listed::Voter => {}
    }
    // All the others, and this one while it runs.
    if given_up && healthy + 1 >= quorum(others) {
        return Some(Step::RemoveOther);
    }
    let voters = others + 1;
    if !may_pause(voters, healthy) {
        return Some(Step::Refuse(Refusal::Restart { voters, healthy }));
    }
    if leads && observed.others_wait {
        return Some(Step::LetOthersFirst);
    }
    if leads && healthy > 0 && observed.leader_moves < LEADER_MOVES {
        return Some(Step::MoveLeader);
    }
    None
}

fn anew(observed: &Observed) -> Start {
    if observed.old_entries {
        Start::Snapshot
    } else {
        Start::Restart
    }
}

/// How often it is tried to move the leadership away. A leader that is restarted all the same costs an election and nothing more.
const LEADER_MOVES: u8 = 3;

/// The minor version among the others that is more than one away from this one.
fn too_far(minor: u64, (oldest, newest): (u64, u64)) -> Option<u64> {
    [oldest, newest].into_iter().find(|other| other.abs_diff(minor) > 1)
}

/// A member without data and without a founding permit joins the cluster, if there is one.
fn join(observed: &Observed, desired: &Desired) -> Step {
    let Lives {
        own,
        others,
        healthy,
        minors,
        learner,
        given_up,
        ..
    } = match observed.cluster {
        None => return Step::LookAtCluster,
        Some(Cluster::NoQuorum) => return Step::Refuse(Refusal::NoCluster),
        Some(Cluster::Lives(lives)) => lives,
    };
    // etcd refuses who is older than all; and one who is newer than all may be sent log entries that it can't read.
    let other = minors.and_then(|(oldest, newest)| match desired.minor {
        minor if minor < oldest => Some(oldest),
        minor if minor > newest => Some(newest),
        minor => too_far(minor, (oldest, newest)),
    });
    if let Some(other) = other {
        let minor = desired.minor;
        return Step::Refuse(Refusal::Skew { minor, other });
    }
    match own {
        Listed::Not if given_up && healthy >= quorum(others - 1) => Step::RemoveOther,
        // `isConnectedToQuorumAfterAddingNewMemberSince` in etcd's `etcdserver/util.go`.
        Listed::Not if others > 1 && healthy < quorum(others + 1) => Step::Refuse(Refusal::NoRoom {
            voters: others,
            healthy,
        }),
        Listed::Not => match learner {
            Some(OtherLearner::Healthy) => Step::PromoteOther,
            Some(OtherLearner::Down) => Step::RemoveOther,
            None => Step::AddLearner,
        },
        Listed::Unstarted => Step::Install(Start::Join),
        // What has no data any more must not come back under its old ID: it may have voted.
        Listed::Learner => Step::RemoveOld,
        Listed::Voter if healthy < quorum(others) => Step::Refuse(Refusal::Quorum { others, healthy }),
        Listed::Voter => Step::RemoveOld,
    }
}

#[cfg(test)]
mod tests;
