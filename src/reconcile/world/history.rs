//! What the members of one cluster agree on: etcd's replicated log as far as its members and its length go. Only what is committed
//! is in it; whoever is elected without all of it has lost writes.

use std::collections::BTreeMap;

use super::machine::{Server, Servers};
use crate::membership::quorum;

/// A member's ID.
pub type Id = u32;

/// A member in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The server of its peer URL.
    pub server: Server,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it has said its name.
    pub started: bool,
}

/// A member list.
pub type List = BTreeMap<Id, Listed>;

/// Its voters.
pub fn voters(list: &List) -> impl Iterator<Item = (Id, &Listed)> {
    list.iter().filter(|(_, one)| one.voter).map(|(id, one)| (*id, one))
}

/// One cluster.
#[derive(Debug)]
pub struct History {
    /// The token that it was founded with, and the names: both make its ID.
    pub token: u32,
    pub founders: Servers,
    /// The member lists, each from a length of the log on.
    lists: Vec<(usize, List)>,
    /// How many entries are committed.
    pub length: usize,
    /// Who leads, as far as it is a leader still.
    pub leader: Option<Id>,
    /// Whether it ever had a leader.
    pub led: bool,
    /// Whether nothing is left of it, by accident or on request.
    pub over: bool,
    /// The process that has the lock in it.
    pub lock: Option<u32>,
}

impl History {
    /// One that is founded now.
    pub fn new(token: u32, founders: &Servers) -> Self {
        let founder = |server: &Server| {
            let listed = Listed {
                server: *server,
                voter: true,
                started: false,
            };
            (founding_id(*server), listed)
        };
        Self {
            token,
            founders: founders.clone(),
            lists: vec![(1, founders.iter().map(founder).collect())],
            length: 1,
            leader: None,
            led: false,
            over: false,
            lock: None,
        }
    }

    /// The member list that a member with so much of the log goes by.
    pub fn list_at(&self, length: usize) -> &List {
        let known = self.lists.iter().rev().find(|(from, _)| *from <= length);
        &known.unwrap_or(&self.lists[0]).1
    }

    /// The member list.
    pub fn list(&self) -> &List {
        &self.lists[self.lists.len() - 1].1
    }

    /// How many voters are a quorum.
    pub fn quorum(&self) -> usize {
        quorum(voters(self.list()).count())
    }

    /// One entry more.
    pub fn append(&mut self, change: impl FnOnce(&mut List)) {
        self.length += 1;
        let mut list = self.list().clone();
        change(&mut list);
        if list != *self.list() {
            self.lists.push((self.length, list));
        }
    }
}

/// The ID that a founder has.
pub fn founding_id(server: Server) -> Id {
    Id::try_from(server).unwrap_or(Id::MAX)
}
