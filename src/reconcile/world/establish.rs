//! The cluster's create, update and delete, as `resource/cluster/mod.rs` and `establishing.rs` perform them.

use std::collections::{BTreeMap, BTreeSet};

use super::call::{Call, Outcome, Why};
use super::etcd::{Violation, World};
use super::machine::{Machine, Server, Servers};
use super::turn::Process;
use crate::membership::founding::{Founding, Holding, Seen, found, found_again, known};
use crate::membership::vacating::{Leaving, Listed, There, Vacating, decide};

/// What is to be done on the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Found,
    FoundAgain,
    Views,
    Delete,
}

/// A change of the cluster.
pub struct Establish {
    wish: Wish,
    founded: bool,
    servers: Servers,
    founders: Servers,
    /// The servers that it had.
    before: Servers,
    /// Servers that are the cluster's no more.
    removed: Servers,
    /// Whether to leave permits, once that is decided.
    permits: Option<bool>,
    to_write: Vec<Server>,
    /// What becomes of those, where the cluster was founded.
    vacating: BTreeMap<Server, Vacating>,
    /// Those that it could not be taken off.
    pub kept: Servers,
    /// Servers that were not written to.
    pub unwritten: Servers,
    failed: bool,
}

/// What the decision on founding sees of servers.
pub fn seen(world: &World, servers: &Servers) -> BTreeMap<String, Seen> {
    let holding = |machine: &Machine| Holding {
        token: machine.token.map(|token| token.to_string()),
        permit: machine.permit.is_some(),
        data: machine.log.map(|_| "data".to_owned()),
        founders: Some(names(&machine.founding)).filter(|founders| !founders.is_empty()),
        founded: machine.founded,
        ports_taken: Vec::new(),
    };
    let seen = |server: &Server| match &world.machines[*server] {
        machine if machine.up => Seen::Reached(holding(machine)),
        _ => Seen::Unreached("down".to_owned()),
    };
    servers
        .iter()
        .map(|server| (format!("s{server}"), seen(server)))
        .collect()
}

/// What becomes of a founding that was begun.
pub fn again(world: &World, token: u32, founders: &Servers, servers: &Servers) -> Founding {
    let removed = seen(world, &founders.difference(servers).copied().collect());
    found_again(&token.to_string(), &names(founders), &seen(world, servers), &removed)
}

/// Whether the cluster was founded, as far as its servers tell.
pub fn is_known(world: &World, token: u32, founders: &Servers, servers: &Servers) -> Option<bool> {
    known(&token.to_string(), &names(founders), &seen(world, servers))
}

/// The names of servers.
pub fn names(servers: &Servers) -> BTreeSet<String> {
    servers.iter().map(|server| format!("s{server}")).collect()
}

impl Establish {
    pub fn new(wish: Wish, founded: bool, servers: &Servers, before: &Servers, founders: &Servers) -> Self {
        Self {
            wish,
            founded,
            servers: servers.clone(),
            founders: founders.clone(),
            before: before.clone(),
            removed: before.difference(servers).copied().collect(),
            permits: None,
            to_write: servers.iter().copied().collect(),
            vacating: BTreeMap::new(),
            kept: Servers::new(),
            unwritten: Servers::new(),
            failed: false,
        }
    }

    /// A create, after the delete of one that could not be created.
    pub fn replace(servers: &Servers, cleared: Servers) -> Self {
        Self {
            removed: cleared,
            ..Self::new(Wish::Found, false, servers, &Servers::new(), servers)
        }
    }

    /// Whether anything was written.
    pub fn wrote(&self) -> bool {
        self.permits.is_some()
    }

    /// The servers that found the cluster from now on: permits were issued for them.
    pub fn founders(&self) -> &Servers {
        if self.permits == Some(true) {
            &self.servers
        } else {
            &self.founders
        }
    }

    /// Whether it was seen to be founded when it was changed.
    pub fn is_founded(&self) -> bool {
        self.wish == Wish::Views
    }

    /// Whether it was seen to be founded by other servers than it has now.
    pub fn was_founded(&self) -> bool {
        self.wish == Wish::FoundAgain && self.permits == Some(false) && self.founders != self.servers
    }

    fn decide(&mut self, world: &mut World, token: u32) -> Result<Outcome, Violation> {
        if self.wish == Wish::Found {
            for server in std::mem::take(&mut self.removed) {
                let machine = &mut world.machines[server];
                if machine.up && machine.log.is_none() {
                    machine.clear();
                }
            }
        }
        if self.wish == Wish::FoundAgain {
            match is_known(world, token, &self.founders, &self.before) {
                Some(true) => (self.wish, self.founded) = (Wish::Views, true),
                None => self.founded = true,
                Some(false) => {}
            }
        }
        let servers = seen(world, &self.servers);
        let decision = match self.wish {
            Wish::Found => found(&token.to_string(), &servers),
            Wish::FoundAgain => again(world, token, &self.founders, &self.servers),
            Wish::Views | Wish::Delete => Founding::Underway,
        };
        world.tell(|| format!("cluster {:?} of {:?}: {decision:?}", self.wish, self.servers));
        let again = self.wish == Wish::FoundAgain && decision == Founding::Underway && self.founders != self.servers;
        if matches!(self.wish, Wish::Views | Wish::FoundAgain) && (self.founded || again) {
            self.vacating = self.vacate(world, &self.removed);
            let refused = self.vacating.values().find_map(|decision| match decision {
                Vacating::Refuse(refusal) => Some(refusal.clone()),
                _ => None,
            });
            if let Some(refusal) = refused {
                world.note("kept in the map");
                return Ok(Outcome::Failed(Why::Vacating(refusal)));
            }
        }
        self.permits = match decision {
            Founding::Permit(_) => {
                world.may_found()?;
                world.note("permits");
                Some(true)
            }
            Founding::Underway => Some(false),
            Founding::Refused(reasons) => {
                return Ok(Outcome::Failed(Why::Founding(
                    reasons.into_values().flatten().collect(),
                )));
            }
        };
        Ok(Outcome::Goes)
    }

    /// What becomes of the servers that leave, by the member list.
    fn vacate(&self, world: &World, removed: &Servers) -> BTreeMap<Server, Vacating> {
        let before: Servers = self.servers.union(removed).copied().collect();
        let survey = Some(()).filter(|()| !removed.is_empty());
        let survey = survey.and_then(|()| world.survey(&before, Server::MAX));
        let decided = removed.iter().map(|server| {
            let machine = &world.machines[*server];
            let there = There {
                runs: machine.runs(),
                data: machine.log.map(|_| "data".to_owned()),
                stays_as: None,
            };
            let listed = match &survey {
                None => Listed::Unknown,
                Some(survey) => match survey.list.iter().find(|(_, one)| one.server == *server) {
                    Some((id, _)) => Listed::Yes(u64::from(*id)),
                    None => Listed::No,
                },
            };
            let there = Some(there).filter(|_| machine.up);
            (*server, decide(&Leaving { there, listed }))
        });
        decided.collect()
    }

    /// `prepare` on one server. The servers are written to at once, so what happens to one keeps no other from it.
    fn write(&mut self, server: Server, world: &mut World, token: u32) {
        let machine = &mut world.machines[server];
        if !machine.up {
            self.failed |= self.wish != Wish::Views;
            self.unwritten.insert(server);
            return;
        }
        machine.view = self.servers.clone();
        if self.permits == Some(true) && machine.log.is_some() {
            // Another run has founded it meanwhile.
            self.failed = true;
        } else if self.permits == Some(true) {
            machine.token = Some(token);
            if std::mem::take(&mut machine.cut) {
                machine.go_down();
                world.faults += 1;
                self.failed = true;
                return;
            }
            machine.founding.clear();
            machine.founded = false;
            machine.permit = Some(token);
        }
    }

    /// `clear.sh` on one server. Returns whether its member is in use, or holds what nobody else does.
    fn clear(&self, server: Server, world: &mut World, token: u32) -> Result<Option<Why>, Violation> {
        let machine = &world.machines[server];
        if !machine.up || machine.token.is_some_and(|other| other != token) {
            return Ok(None);
        }
        let founded = self.founded || self.was_founded();
        // Under the lock, after another look at the list: whoever adds a member again has the lock too.
        let take = self.vacating.get(&server) == Some(&Vacating::Take)
            && self.vacate(world, &Servers::from([server])).get(&server) == Some(&Vacating::Take);
        let founded = founded && !take;
        if founded && machine.runs() {
            return Ok(Some(Why::StillInUse));
        }
        if founded && self.wish != Wish::Delete && machine.log.is_some() {
            return Ok(Some(Why::HoldsData));
        }
        world.may_take_data(server)?;
        world.machines[server].clear();
        Ok(None)
    }
}

impl Call for Establish {
    fn step(&mut self, process: &Process, world: &mut World, token: u32) -> Result<Outcome, Violation> {
        if self.permits.is_none() && process.stop.is_cancelled() {
            return Ok(Outcome::Stopped { runs: false });
        }
        if self.wish == Wish::Delete {
            self.removed.append(&mut self.servers);
        } else if self.permits.is_none() {
            return self.decide(world, token);
        } else if let Some(server) = self.to_write.pop() {
            self.write(server, world, token);
            return Ok(Outcome::Goes);
        }
        let mut refused = None;
        if self.wish != Wish::Found {
            for server in std::mem::take(&mut self.removed) {
                let why = self.clear(server, world, token)?;
                if why.is_some() {
                    self.kept.insert(server);
                }
                refused = why.or(refused);
            }
        }
        Ok(match (refused, self.failed) {
            (Some(why), _) => Outcome::Failed(why),
            (None, true) => Outcome::Failed(Why::Unreached),
            (None, false) => Outcome::Done,
        })
    }
}
