//! The clusters as they live: starts, elections, commits, and what etcd refuses. What it can't do without us is not in here.

mod changes;

use std::collections::BTreeMap;

use super::chance::Chance;
use super::history::{History, Id, List, founding_id, voters};
use super::machine::{Log, Machine, Process, Server, Servers, Wanted};
use crate::membership::quorum;

/// What must never be, in words.
pub type Violation = String;

/// All servers, and all clusters that were ever founded on them.
pub struct World {
    pub machines: Vec<Machine>,
    pub histories: Vec<History>,
    pub chance: Chance,
    /// How often something happened that nobody asked for.
    pub faults: usize,
    /// Whether something happened that not everybody has noticed.
    pub unsettled: bool,
    /// Whether the user wants all of it gone.
    pub teardown: bool,
    /// The processes of the provider that were killed, whose locks end by themselves.
    pub killed: Vec<u32>,
    next_id: Id,
    /// How often each thing was seen, so that it is known that the stories are about something.
    pub seen: BTreeMap<&'static str, usize>,
    /// What happened, in words, for a story that ended badly.
    pub told: Option<Vec<String>>,
    /// The first thing that happened and must never be.
    pub violation: Option<Violation>,
}

/// What the members say when all of them are asked (`resource/member/survey.rs`).
#[derive(Clone, Debug)]
pub struct Survey {
    pub history: usize,
    pub list: List,
    pub own: Option<Id>,
    pub leader: Option<Id>,
    /// Those that answer and know a leader, with their minor versions.
    pub healthy: BTreeMap<Id, u64>,
    /// Whether all had noticed what happened before, and what had happened by then.
    pub settled: bool,
    pub faults: usize,
}

impl World {
    pub fn new(machines: usize, seed: u64) -> Self {
        Self {
            machines: vec![Machine::new(); machines],
            histories: Vec::new(),
            chance: Chance(seed),
            faults: 0,
            unsettled: false,
            teardown: false,
            killed: Vec::new(),
            next_id: 1000,
            seen: BTreeMap::new(),
            told: None,
            violation: None,
        }
    }

    /// Something happened that must never be. The first one is kept.
    pub fn violated(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// Whether a process has the lock in a cluster.
    pub fn has_lock(&self, history: usize, process: u32) -> bool {
        self.histories[history].lock == Some(process)
    }

    /// A process takes the lock in a cluster, which a quorum has to grant.
    pub fn take_lock(&mut self, history: usize, process: u32) -> bool {
        if self.histories[history].lock.is_some_and(|holder| holder != process) {
            self.note("waited for the lock");
            return false;
        }
        if !self.commit(history, |_| {}) {
            return false;
        }
        self.histories[history].lock = Some(process);
        true
    }

    /// A process gives the lock back. Without a quorum it stays until its lease is over, and so does the lock of a process that was killed.
    pub fn give_lock_back(&mut self, history: usize, process: u32) {
        if self.has_lock(history, process) {
            self.commit(history, |_| {});
            self.histories[history].lock = None;
        }
    }

    /// Notes that something was seen.
    pub fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Tells what happens, where somebody listens.
    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            let what = what();
            // Who waits says the same again and again.
            let recent = &told[told.len().saturating_sub(16)..];
            if !recent.contains(&what) {
                told.push(what);
            }
        }
    }

    /// The servers where members of a cluster run, with their logs.
    fn running(&self, history: usize) -> impl Iterator<Item = (Server, &Machine, &Log)> {
        let logs = self.machines.iter().enumerate();
        logs.filter_map(move |(server, machine)| {
            let log = machine.running_log().filter(|log| log.history == history)?;
            Some((server, machine, log))
        })
    }

    /// The place of the leader, if it can commit.
    pub fn commits_at(&self, history: usize) -> Option<u8> {
        let of = &self.histories[history];
        let leader = of.leader?;
        let place = self.running(history).find(|(_, _, log)| log.id == leader)?.1.place;
        let votes = self.running(history).filter(|(_, machine, log)| {
            machine.place == place && of.list().get(&log.id).is_some_and(|listed| listed.voter)
        });
        (votes.count() >= of.quorum()).then_some(place)
    }

    /// Commits an entry, if that can be. A quorum has it at once, the others now or later.
    pub fn commit(&mut self, history: usize, change: impl FnOnce(&mut List)) -> bool {
        let Some(place) = self.commits_at(history) else {
            return false;
        };
        let of = &self.histories[history];
        let (leader, needed) = (of.leader, of.quorum());
        let have: Vec<(Server, Id, bool)> = self
            .running(history)
            .filter(|(_, machine, _)| machine.place == place)
            .filter_map(|(server, _, log)| Some((server, log.id, of.list().get(&log.id)?.voter)))
            .collect();
        let before = of.length;
        self.histories[history].append(change);
        let mut spare = have.iter().filter(|(_, _, voter)| *voter).count() - needed;
        for (server, id, voter) in have {
            let lags = Some(id) != leader && (!voter || spare > 0) && self.chance.once_in(3);
            if lags {
                spare -= usize::from(voter);
            } else if let Some(log) = &mut self.machines[server].log {
                log.length = before + 1;
            }
        }
        true
    }

    /// A client's write through any member that is part of a quorum.
    pub fn write(&mut self) {
        for history in 0..self.histories.len() {
            if self.commit(history, |_| {}) {
                self.note("write");
            }
        }
    }

    /// Whether a member is well: it runs, knows a leader, and reaches it.
    pub fn is_well(&self, history: usize, id: Id) -> bool {
        let place = self.commits_at(history);
        let mut running = self.running(history).filter(|(_, _, log)| log.id == id);
        running.any(|(_, machine, _)| machine.knows_leader && Some(machine.place) == place)
    }

    /// Time passes: ends are noticed, leaders elected, logs sent, names said, and what crashed starts again.
    pub fn settle(&mut self) -> Result<(), Violation> {
        for server in 0..self.machines.len() {
            if self.machines[server].process == Process::Crashed && self.machines[server].up {
                self.start(server)?;
            }
        }
        for history in 0..self.histories.len() {
            self.elect(history)?;
            self.replicate(history);
            if self.histories[history]
                .lock
                .is_some_and(|lock| self.killed.contains(&lock))
                && self.chance.once_in(4)
            {
                self.histories[history].lock = None;
            }
        }
        self.versions()?;
        self.unsettled = false;
        Ok(())
    }

    /// Raft's election: whoever has at least as much of the log as a quorum of the voters that it knows of.
    fn elect(&mut self, history: usize) -> Result<(), Violation> {
        let of = &self.histories[history];
        let running: Vec<(Server, u8, Log)> = { self.running(history) }
            .map(|(server, machine, log)| (server, machine.place, *log))
            .collect();
        let mut best: Option<&(Server, u8, Log)> = None;
        for candidate @ (server, place, log) in &running {
            let list = of.list_at(log.length);
            if !list.get(&log.id).is_some_and(|own| own.voter) {
                continue;
            }
            let votes = running.iter().filter(|(_, there, other)| {
                there == place && other.length <= log.length && list.get(&other.id).is_some_and(|one| one.voter)
            });
            if votes.count() < quorum(voters(list).count()) {
                continue;
            }
            if log.length < of.length && !of.over {
                return Err(format!(
                    "s{server} can be elected with {} of {} acknowledged entries",
                    log.length, of.length
                ));
            }
            if best.is_none_or(|(_, _, best)| best.length < log.length) {
                best = Some(candidate);
            }
        }
        if self.commits_at(history).is_some() {
            return Ok(());
        }
        let elected = best.map(|(_, _, log)| log.id);
        if let Some((server, _, log)) = best {
            let text = format!("s{server} leads cluster {history} with {} entries", log.length);
            self.tell(|| text);
        }
        self.histories[history].leader = elected;
        if elected.is_some() && !self.histories[history].led {
            self.histories[history].led = true;
            let others = self.histories.iter().enumerate();
            let mut others = others.filter(|(other, one)| *other != history && one.led && !one.over);
            if let Some((_, other)) = others.next() {
                let of = &self.histories[history];
                return Err(format!(
                    "a second cluster was founded: {:?} with token {} beside {:?} with token {}",
                    of.founders, of.token, other.founders, other.token
                ));
            }
        }
        Ok(())
    }

    /// Those that the leader reaches get its log; who was taken out ends; who is new says its name.
    fn replicate(&mut self, history: usize) {
        let place = self.commits_at(history);
        let mut nameless = Vec::new();
        let mut removed = Vec::new();
        let of = &self.histories[history];
        for (server, machine) in self.machines.iter_mut().enumerate() {
            let Some(log) = machine.log.as_mut().filter(|log| log.history == history) else {
                continue;
            };
            if !matches!(machine.process, Process::Running(_)) {
                continue;
            }
            machine.knows_leader = place == Some(machine.place) && of.list().contains_key(&log.id);
            if place == Some(machine.place) {
                match of.list().get(&log.id) {
                    None => removed.push(server),
                    Some(own) => {
                        log.length = of.length;
                        if !own.started {
                            nameless.push(log.id);
                        }
                    }
                }
            }
        }
        for server in removed {
            let process = if self.chance.once_in(2) {
                Process::Stopped
            } else {
                Process::Failed
            };
            self.machines[server].end(process);
        }
        for id in nameless {
            self.commit(history, |list| {
                if let Some(own) = list.get_mut(&id) {
                    own.started = true;
                }
            });
        }
    }

    /// Voters that run are one minor version apart at most.
    fn versions(&self) -> Result<(), Violation> {
        for (history, of) in self.histories.iter().enumerate() {
            let minors = self
                .running(history)
                .filter_map(|(_, machine, log)| match machine.process {
                    Process::Running(wanted) if of.list().contains_key(&log.id) => Some(wanted.minor),
                    _ => None,
                });
            let minors: Vec<u64> = minors.collect();
            let (oldest, newest) = (minors.iter().min(), minors.iter().max());
            if oldest.zip(newest).is_some_and(|(oldest, newest)| newest - oldest > 1) {
                return Err(format!("members run minor versions {minors:?}"));
            }
        }
        Ok(())
    }

    /// A start of the service: `etcd/unit/guard.sh`, and then etcd itself.
    pub fn start(&mut self, server: Server) -> Result<(), Violation> {
        let machine = &self.machines[server];
        let Some(files) = machine.files.filter(|_| machine.up) else {
            return Ok(());
        };
        self.unsettled = true;
        if self.machines[server].log.is_none() {
            if let Some(listed) = self.machines[server].joining.take() {
                self.machines[server].permit = None;
                self.machines[server].log = self.join(server, &listed, files);
            } else if self.machines[server].founding.is_empty() {
                // A permit without the configuration for it waits for that.
                self.machines[server].end(Process::Failed);
                return Ok(());
            } else if let Some(token) = self.machines[server].permit.take() {
                self.machines[server].log = self.found(server, token, files)?;
            }
        }
        let machine = &mut self.machines[server];
        (machine.permit, machine.joining) = (None, None);
        let Some(log) = &mut machine.log else {
            machine.end(Process::Failed);
            return Ok(());
        };
        let unreadable = files.minor < log.minor || (files.minor >= 7 && log.old_entries);
        if unreadable {
            machine.end(Process::Failed);
            return Ok(());
        }
        log.minor = files.minor;
        log.old_entries |= files.minor <= 5;
        machine.end(Process::Running(files));
        Ok(())
    }

    /// A restart of the service.
    pub fn restart(&mut self, server: Server) -> Result<(), Violation> {
        if let Some(log) = self.machines[server].running_log().copied()
            && self.histories[log.history].leader == Some(log.id)
        {
            self.histories[log.history].leader = None;
        }
        self.machines[server].end(Process::Stopped);
        self.start(server)
    }

    /// `existing`: some member that answers has exactly the list that this one was given.
    fn join(&mut self, server: Server, listed: &List, files: Wanted) -> Option<Log> {
        let place = self.machines[server].place;
        let mut peers = self
            .machines
            .iter()
            .filter(|peer| peer.place == place && peer.knows_leader);
        let history = peers.find_map(Machine::running_log)?.history;
        let list = self.histories[history].list();
        let own = list.iter().find(|(_, one)| one.server == server);
        let id = *own.filter(|_| list.keys().eq(listed.keys()))?.0;
        self.note("join");
        Some(Log {
            history,
            id,
            length: 0,
            minor: files.minor,
            old_entries: false,
        })
    }

    /// `new`, with the founding permit.
    fn found(&mut self, server: Server, token: u32, files: Wanted) -> Result<Option<Log>, Violation> {
        let founders = self.machines[server].founding.clone();
        let same = |of: &History| of.token == token && of.founders == founders && !of.over;
        let id = founding_id(server);
        let history = match self.histories.iter().position(same) {
            Some(history) => history,
            None => {
                self.histories.push(History::new(token, &founders));
                self.histories.len() - 1
            }
        };
        let of = &self.histories[history];
        if of.led && of.list().get(&id).is_some_and(|own| own.started) {
            return Err(format!("s{server} founds, and has founded before"));
        }
        self.note("found");
        Ok(Some(Log {
            history,
            id,
            length: 1,
            minor: files.minor,
            old_entries: files.minor <= 5,
        }))
    }

    /// All members on `servers` are asked, by a member on `own`.
    pub fn survey(&self, servers: &Servers, own: Server) -> Option<Survey> {
        let asked = servers.iter().map(|server| &self.machines[*server]);
        let answers: Vec<(&Machine, &Log)> = asked
            .filter(|machine| machine.up && machine.knows_leader)
            .filter_map(|machine| Some((machine, machine.running_log()?)))
            .collect();
        // A member's own list may be old; one that a quorum confirms is not.
        let confirmed = answers.iter().find(|(machine, log)| {
            let votes = self.histories[log.history]
                .list_at(log.length)
                .get(&log.id)
                .is_some_and(|one| one.voter);
            votes && self.commits_at(log.history) == Some(machine.place)
        });
        let history = confirmed?.1.history;
        let list = self.histories[history].list().clone();
        let minor = |machine: &Machine| match machine.process {
            Process::Running(wanted) => wanted.minor,
            _ => 0,
        };
        Some(Survey {
            history,
            own: list.iter().find(|(_, one)| one.server == own).map(|(id, _)| *id),
            list,
            leader: self.histories[history].leader,
            healthy: answers.iter().map(|(machine, log)| (log.id, minor(machine))).collect(),
            settled: !self.unsettled,
            faults: self.faults,
        })
    }
}
