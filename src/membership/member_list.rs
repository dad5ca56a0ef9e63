//! The member list that a quorum confirms, with what the members themselves say. All decisions about members rest on it.

use std::collections::BTreeSet;

use super::leaving::Peer;
use super::member::{Listed, Lives, OtherLearner, PeerUrl};

/// A member in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its ID.
    pub id: u64,
    /// Its server: as the state knows it, or else as its peer URL names it in the cluster's own domain.
    pub server: Option<String>,
    /// Whether the state has that server.
    pub known: bool,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it has said its name to the others.
    pub started: bool,
    /// Whether it answers, and knows a leader.
    pub healthy: bool,
    /// The minor version that it says it runs: 5 for etcd 3.5.
    pub minor: Option<u64>,
}

impl Entry {
    /// Whether it never started, and the cluster does not have its server any more.
    pub fn is_left_over(&self) -> bool {
        self.server.is_some() && !self.known && !self.started
    }
}

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberList {
    /// The members.
    pub entries: Vec<Entry>,
    /// The ID of the member that asks, if it is listed.
    pub own: Option<u64>,
    /// The ID of the leader.
    pub leader: Option<u64>,
}

impl MemberList {
    /// The member that asks.
    pub fn own(&self) -> Option<&Entry> {
        self.entries.iter().find(|one| Some(one.id) == self.own)
    }

    /// All other members.
    pub fn others(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|one| Some(one.id) != self.own)
    }

    /// Whether the member that asks leads.
    pub fn leads(&self) -> bool {
        self.own.is_some() && self.own == self.leader
    }

    /// A founder that never started, and whose server the cluster does not have any more.
    pub fn given_up(&self) -> Option<&Entry> {
        { self.entries.iter() }.find(|one| one.voter && one.is_left_over())
    }

    /// A learner of another server. It keeps the next one from being added, and an earlier run that was cut off has left it: the holder
    /// of the lock is the only one that changes members now.
    pub fn other_learner(&self) -> Option<&Entry> {
        self.others()
            .find(|one| !one.voter && (one.known || one.is_left_over()))
    }

    /// The member that a run removes because it never voted: a founder that was given up, or else another server's learner.
    pub fn never_voted(&self) -> Option<&Entry> {
        self.given_up().or_else(|| self.other_learner())
    }

    /// The servers whose members answer.
    pub fn answering(&self) -> BTreeSet<String> {
        let healthy = self.entries.iter().filter(|one| one.healthy && one.known);
        healthy.filter_map(|one| one.server.clone()).collect()
    }

    /// The oldest and the newest minor version among the other members that answer.
    pub fn minors(&self) -> Option<(u64, u64)> {
        let minors = || self.others().filter(|one| one.healthy).filter_map(|one| one.minor);
        Some((minors().min()?, minors().max()?))
    }

    /// What the next step of the member that asks depends on. `peer_url`: which one the list has of it.
    pub fn lives(&self, peer_url: PeerUrl) -> Lives {
        let others = || self.others().filter(|one| one.voter);
        Lives {
            own: match self.own() {
                None => Listed::Not,
                Some(own) if !own.started => Listed::Unstarted,
                Some(own) if !own.voter => Listed::Learner,
                Some(_) => Listed::Voter,
            },
            others: others().count(),
            healthy: others().filter(|one| one.healthy).count(),
            leads: self.leads(),
            minors: self.minors(),
            learner: self.other_learner().map(|one| match one.healthy {
                true => OtherLearner::Healthy,
                false => OtherLearner::Down,
            }),
            given_up: self.given_up().is_some(),
            peer_url,
        }
    }

    /// What the decision on leaving depends on.
    pub fn peers(&self) -> Vec<Peer> {
        let peer = |one: &Entry| Peer {
            name: one.server.clone().unwrap_or_else(|| format!("{:x}", one.id)),
            voter: one.voter,
            healthy: one.healthy,
            given_up: one.is_left_over(),
        };
        self.entries.iter().map(peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, server: Option<&str>) -> Entry {
        Entry {
            id,
            server: server.map(str::to_owned),
            known: true,
            voter: true,
            started: true,
            healthy: true,
            minor: Some(5),
        }
    }

    #[test]
    fn the_list_tells_who_leads_and_which_versions_run() {
        let mut list = MemberList {
            entries: vec![entry(1, Some("a1")), entry(2, Some("b1")), entry(3, None)],
            own: Some(1),
            leader: Some(1),
        };
        list.entries[2].minor = Some(6);
        let lives = list.lives(PeerUrl::Wanted);
        assert_eq!((lives.own, lives.others, lives.healthy), (Listed::Voter, 2, 2));
        assert!(lives.leads && !lives.given_up && lives.learner.is_none());
        assert_eq!(lives.minors, Some((5, 6)));
        list.entries[2].healthy = false;
        assert_eq!(list.lives(PeerUrl::Wanted).minors, Some((5, 5)));
        // The state does not know the server of the last one, and its peer URL names none.
        assert_eq!(list.peers()[2].name, "3");
        list.own = None;
        assert!(!list.leads());
    }

    #[test]
    fn a_member_that_never_voted_is_found_in_order() {
        let learner = Entry {
            voter: false,
            ..entry(2, Some("b1"))
        };
        let given_up = Entry {
            known: false,
            started: false,
            ..entry(3, Some("c1"))
        };
        let mut list = MemberList {
            entries: vec![entry(1, Some("a1")), learner, given_up],
            own: Some(1),
            leader: Some(1),
        };
        assert_eq!(list.never_voted().map(|one| one.id), Some(3));
        assert_eq!(list.other_learner().map(|one| one.id), Some(2));
        assert!(list.peers()[2].given_up);
        // A member whose peer URL is not of the cluster's domain is nobody's to remove.
        list.entries[2].server = None;
        assert_eq!(list.never_voted().map(|one| one.id), Some(2));
    }
}
