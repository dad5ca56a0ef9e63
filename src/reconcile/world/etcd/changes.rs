//! What etcd does when it is asked to change the member list, or the leader.

use super::super::history::{Id, Listed, voters};
use super::super::machine::Server;
use super::World;
use crate::membership::quorum;

impl World {
    /// What etcd says of a new learner: peers connected, counted with the new one (`isConnectedToQuorumAfterAddingNewMemberSince`).
    pub fn add_learner(&mut self, history: usize, server: Server) -> bool {
        let of = &self.histories[history];
        let well = of.list().keys().filter(|id| self.is_well(history, **id)).count();
        let room = of.list().len() == 1 || well >= quorum(of.list().len() + 1);
        if of.list().values().any(|one| one.server == server) {
            return true;
        }
        if !room || of.list().values().any(|one| !one.voter) {
            return false;
        }
        self.next_id += 1;
        let id = self.next_id;
        let listed = Listed {
            server,
            voter: false,
            started: false,
        };
        self.commit(history, |list| {
            list.insert(id, listed);
        })
    }

    /// A learner that has started and caught up becomes a voter.
    pub fn promote(&mut self, history: usize, id: Id) -> bool {
        let length = self.histories[history].length;
        let caught_up = { self.running(history) }.any(|(_, _, log)| log.id == id && log.length + 1 >= length);
        caught_up
            && self.commit(history, |list| {
                if let Some(own) = list.get_mut(&id) {
                    own.voter = true;
                }
            })
    }

    /// What etcd says of a removal (`mayRemoveMember`): who started, and who is active, have to be enough without it.
    pub fn remove(&mut self, history: usize, id: Id) -> bool {
        let of = &self.histories[history];
        let Some(own) = of.list().get(&id).copied() else {
            return true;
        };
        if own.voter {
            let rest: Vec<(Id, &Listed)> = voters(of.list()).filter(|(other, _)| *other != id).collect();
            let started = rest.iter().filter(|(_, one)| one.started).count();
            let well = rest.iter().filter(|(other, _)| self.is_well(history, *other)).count();
            if started < quorum(rest.len()) || (self.is_well(history, id) && well < quorum(rest.len())) {
                return false;
            }
        }
        let removed = self.commit(history, |list| {
            list.remove(&id);
        });
        if removed && self.histories[history].leader == Some(id) {
            self.histories[history].leader = None;
            self.unsettled = true;
        }
        removed
    }

    /// The leadership goes to another voter that is well, if there is one.
    pub fn move_leader(&mut self, history: usize, from: Id) {
        let list = self.histories[history].list();
        let others = voters(list)
            .map(|(id, _)| id)
            .filter(|id| *id != from && self.is_well(history, *id));
        let others: Vec<Id> = others.collect();
        // Now and then it does not come about.
        if self.commits_at(history).is_none() || others.is_empty() || self.chance.once_in(5) {
            return;
        }
        let to = others[self.chance.below(others.len())];
        let length = self.histories[history].length;
        for machine in &mut self.machines {
            if let Some(log) = machine
                .log
                .as_mut()
                .filter(|log| log.history == history && log.id == to)
            {
                log.length = length;
            }
        }
        self.histories[history].leader = Some(to);
        self.note("leader moved");
    }
}
