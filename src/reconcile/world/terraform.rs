//! What Terraform and the blocks make of a configuration: refresh and plan (`resource/member/mod.rs`, `resource/cluster/mod.rs` and
//! `plan.rs`), and the calls in any order that Terraform may choose.

mod calls;

use std::collections::BTreeMap;

use super::bring_up::BringUp;
use super::call::{Outcome, Why};
use super::establish::{Establish, Wish, again, is_known};
use super::etcd::World;
use super::machine::{Process as Runs, Server, Servers, Wanted};
use super::turn::Process;
use crate::membership::founding::Founding;
use crate::membership::leaving::Fate;

/// What the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `servers` of the cluster.
    pub servers: Servers,
    /// `for_each` of the members.
    pub members: Servers,
    pub wanted: Wanted,
}

/// `founding` of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Prepared,
    Founded,
    Stranded,
}

#[derive(Clone, Debug)]
struct ClusterState {
    token: u32,
    servers: Servers,
    founders: Servers,
    phase: Phase,
    tainted: bool,
    /// A server's view is not what it should be.
    views_differ: bool,
}

#[derive(Clone, Debug)]
struct MemberState {
    servers: Servers,
    founders: Servers,
    wanted: Wanted,
    running_minor: u64,
    runs: bool,
    verified: bool,
    unreached: bool,
    drift: bool,
    joins_anew: bool,
}

/// Terraform's state.
#[derive(Clone, Debug, Default)]
pub struct State {
    cluster: Option<ClusterState>,
    members: BTreeMap<Server, MemberState>,
}

impl State {
    /// Whether it has a cluster that is not to be made anew.
    pub fn has_cluster(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| !cluster.tainted)
    }

    /// The members that it knows.
    pub fn members(&self) -> Servers {
        self.members.keys().copied().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.cluster.is_none() && self.members.is_empty()
    }

    fn refresh(&mut self, world: &World) {
        self.members.retain(|server, state| {
            let machine = &world.machines[*server];
            state.drift = state.unreached && !machine.up;
            if !machine.up {
                return true;
            }
            if machine.log.is_none() && machine.files.is_none() && machine.process == Runs::Stopped {
                return false;
            }
            state.unreached = false;
            state.joins_anew = machine.log.is_none();
            state.drift = machine.log.is_none() || !machine.enabled || machine.files != Some(state.wanted);
            state.drift |= machine.peers != state.servers;
            state.runs = machine.runs();
            let log = machine.log.as_ref();
            if let (Runs::Running(wanted), true, Some(log)) = (machine.process, machine.knows_leader, log) {
                state.running_minor = wanted.minor;
                let list = world.histories[log.history].list_at(log.length);
                state.runs &= list.get(&log.id).is_some_and(|own| own.voter);
            }
            if let Some(last) = machine.last_minor() {
                state.running_minor = last;
            }
            let stopped = !machine.runs() && log.is_some();
            let survey = Some(())
                .filter(|()| stopped)
                .and_then(|()| world.survey(&state.servers, *server));
            if survey.is_some_and(|survey| survey.own.is_none()) {
                state.drift = true;
                state.joins_anew = true;
            }
            true
        });
        let Some(cluster) = &mut self.cluster else { return };
        let reached = cluster
            .servers
            .iter()
            .map(|server| &world.machines[*server])
            .filter(|machine| machine.up);
        cluster.views_differ |= { reached }.any(|machine| machine.view != cluster.servers);
        let known = is_known(world, cluster.token, &cluster.founders, &cluster.servers);
        cluster.phase = if cluster.phase == Phase::Founded {
            Phase::Founded
        } else if known == Some(true) {
            // The first refresh after a create finds nothing changed.
            match cluster.phase {
                Phase::Prepared => Phase::Prepared,
                Phase::Stranded | Phase::Founded => Phase::Founded,
            }
        } else if let Founding::Permit(_) = again(world, cluster.token, &cluster.founders, &cluster.servers) {
            Phase::Stranded
        } else {
            Phase::Prepared
        };
    }
}

/// A call that is to be made.
enum Planned {
    Delete(Server, Fate, Servers),
    Cluster(Establish),
    Up(Server, Box<BringUp>, MemberState),
}

/// A call that was made, with what is to become of the state.
enum Made {
    Delete(Server),
    Cluster(Establish),
    Up(Server, Box<BringUp>, MemberState),
}

/// Which call goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Going {
    Delete(Server),
    Cluster,
    Up,
}

/// One run of Terraform.
pub struct Run {
    pub state: State,
    /// Whether the cluster is known to be founded.
    founded: Option<bool>,
    after: Option<ClusterState>,
    token: u32,
    processes: Vec<Process>,
    parallelism: usize,
    todo: Vec<Planned>,
    active: BTreeMap<usize, Going>,
    next: usize,
    pub failed: Vec<(Option<Server>, Why)>,
}

/// Why a plan is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanRefused {
    NobodyStays,
    Version,
}

impl Run {
    /// Refreshes and plans. `token` is for a cluster that is new.
    pub fn plan(
        world: &mut World,
        state: &State,
        config: Option<&Config>,
        replace: &Servers,
        token: u32,
        (processes, parallelism): (usize, usize),
    ) -> Result<Self, PlanRefused> {
        let mut state = state.clone();
        state.refresh(world);
        let founded = state.cluster.as_ref().and_then(|cluster| match cluster.phase {
            Phase::Founded => Some(true),
            _ => is_known(world, cluster.token, &cluster.founders, &cluster.servers),
        });
        let first = token * 8;
        let mut run = Self {
            token: state.cluster.as_ref().map_or(token, |cluster| cluster.token),
            state,
            founded,
            after: None,
            processes: (0..processes)
                .map(|number| Process::new(first + number as u32))
                .collect(),
            parallelism,
            todo: Vec::new(),
            active: BTreeMap::new(),
            next: 0,
            failed: Vec::new(),
        };
        match config {
            None => run.plan_destroy(),
            Some(config) => run.plan_apply(config, replace, token)?,
        }
        Ok(run)
    }

    fn plan_destroy(&mut self) {
        let members = self.state.members.iter();
        self.todo = members
            .map(|(server, one)| Planned::Delete(*server, Fate::Gone, one.servers.clone()))
            .collect();
        if let Some(cluster) = &self.state.cluster {
            let founded = self.founded != Some(false);
            let delete = Establish::new(
                Wish::Delete,
                founded,
                &cluster.servers,
                &Servers::new(),
                &Servers::new(),
            );
            self.todo.push(Planned::Cluster(delete));
        }
    }

    fn plan_apply(&mut self, config: &Config, replace: &Servers, token: u32) -> Result<(), PlanRefused> {
        let after = self.plan_cluster(config, token)?;
        for (server, one) in &self.state.members {
            let fate = match (config.members.contains(server), replace.contains(server)) {
                (false, _) => Fate::Gone,
                (true, true) => Fate::Replaced,
                (true, false) => continue,
            };
            self.todo.push(Planned::Delete(*server, fate, one.servers.clone()));
        }
        for server in &config.members {
            let prior = self.state.members.get(server).filter(|_| !replace.contains(server));
            let planned = MemberState {
                servers: after.servers.clone(),
                founders: after.founders.clone(),
                wanted: config.wanted,
                running_minor: config.wanted.minor,
                runs: true,
                verified: true,
                unreached: false,
                drift: false,
                joins_anew: false,
            };
            let mut verify = true;
            if let Some(prior) = prior {
                let same = prior.servers == planned.servers && prior.founders == planned.founders;
                if same && prior.wanted == planned.wanted && prior.runs && prior.verified && !prior.drift {
                    continue;
                }
                if config.wanted.minor < prior.running_minor || config.wanted.minor > prior.running_minor + 1 {
                    return Err(PlanRefused::Version);
                }
                verify = !(prior.runs && prior.verified) || prior.joins_anew;
            }
            let mut up = BringUp::new(*server, &after.servers, &after.founders, config.wanted, verify);
            up.existed = prior.is_some();
            self.todo.push(Planned::Up(*server, Box::new(up), planned));
        }
        self.after = Some(after);
        Ok(())
    }

    /// `resource/cluster/plan.rs`: returns what the cluster is to be.
    fn plan_cluster(&mut self, config: &Config, token: u32) -> Result<ClusterState, PlanRefused> {
        let fresh = ClusterState {
            token,
            servers: config.servers.clone(),
            founders: config.servers.clone(),
            phase: Phase::Prepared,
            tainted: false,
            views_differ: false,
        };
        let before = self.state.cluster.clone();
        let Some(before) = before.clone().filter(|before| !before.tainted) else {
            self.token = token;
            // What could not be created is deleted first.
            let cleared = before.map(|before| before.servers).unwrap_or_default();
            let create = Establish::replace(&config.servers, cleared);
            self.todo.push(Planned::Cluster(create));
            return Ok(fresh);
        };
        if self.founded != Some(false) && before.servers.is_disjoint(&config.servers) {
            return Err(PlanRefused::NobodyStays);
        }
        let changed = before.servers != config.servers;
        let founded = self.founded == Some(true);
        let updates = changed || before.phase == Phase::Stranded || before.views_differ;
        let after = ClusterState {
            token: before.token,
            founders: before.founders.clone(),
            phase: match before.phase {
                Phase::Prepared | Phase::Stranded if !(founded && updates) => Phase::Prepared,
                _ => Phase::Founded,
            },
            ..fresh
        };
        if updates {
            let wish = if founded { Wish::Views } else { Wish::FoundAgain };
            let update = Establish::new(wish, founded, &config.servers, &before.servers, &before.founders);
            self.todo.push(Planned::Cluster(update));
        }
        Ok(after)
    }

    /// Whether nothing is to be done.
    pub fn is_nothing(&self) -> bool {
        self.todo.is_empty() && self.active.is_empty()
    }

    /// Terraform is interrupted: what runs is asked to stop, and nothing is begun any more.
    pub fn stop(&mut self) {
        self.todo.clear();
        self.processes.iter().for_each(|process| process.stop.cancel());
    }

    /// Killed. What was done is in the state.
    pub fn kill(self, world: &mut World) -> State {
        world.killed.extend(self.processes.iter().map(|process| process.number));
        self.state
    }

    fn may_begin(&self, planned: &Planned) -> bool {
        let deletes = |of: Option<Server>| {
            let waits = self
                .todo
                .iter()
                .any(|one| matches!(one, Planned::Delete(server, ..) if of.is_none_or(|of| of == *server)));
            waits || { self.active.values() }
                .any(|one| matches!(one, Going::Delete(server) if of.is_none_or(|of| of == *server)))
        };
        let cluster = || {
            let goes = self.active.values().any(|one| *one == Going::Cluster);
            goes || self.todo.iter().any(|one| matches!(one, Planned::Cluster(_)))
        };
        match planned {
            Planned::Delete(..) => true,
            Planned::Cluster(_) => !deletes(None),
            Planned::Up(server, ..) => !cluster() && !deletes(Some(*server)),
        }
    }

    /// What rests on a delete or on a change of the cluster that failed is not begun.
    fn skip(&mut self, deleted: Option<Server>) {
        let cluster = self.todo.iter().any(|planned| matches!(planned, Planned::Cluster(_)));
        self.todo.retain(|planned| match planned {
            Planned::Delete(..) => true,
            Planned::Cluster(_) => false,
            Planned::Up(server, ..) => !cluster && deleted.is_some_and(|deleted| deleted != *server),
        });
    }

    fn process_of(&self, server: Option<Server>) -> usize {
        server.map_or(0, |server| server % self.processes.len())
    }

    fn conclude(&mut self, done: Made, outcome: Outcome, world: &mut World) {
        let well = matches!(outcome, Outcome::Done);
        let failed = match &outcome {
            Outcome::Failed(why) => Some(why.clone()),
            _ => None,
        };
        let server = match &done {
            Made::Delete(server) | Made::Up(server, ..) => Some(*server),
            Made::Cluster(_) => None,
        };
        match done {
            Made::Delete(server) if well => drop(self.state.members.remove(&server)),
            Made::Delete(server) => self.skip(Some(server)),
            Made::Cluster(establish) => {
                if well || (establish.wrote() && matches!(outcome, Outcome::Failed(_))) {
                    let prior = self.state.cluster.as_ref().map(|cluster| &cluster.servers);
                    let (created, changed) = (
                        prior.is_none(),
                        prior != self.after.as_ref().map(|after| &after.servers),
                    );
                    self.state.cluster.clone_from(&self.after);
                    if let Some(cluster) = &mut self.state.cluster {
                        cluster.founders = establish.founders().clone();
                        cluster.servers.extend(&establish.kept);
                        if establish.was_founded() || (changed && establish.is_founded()) {
                            cluster.phase = Phase::Founded;
                        }
                        cluster.views_differ = !establish.unwritten.is_empty();
                        // Terraform makes anew what it could not create.
                        cluster.tainted = created && !well;
                    }
                }
                if !well {
                    self.skip(None);
                }
            }
            Made::Up(server, up, mut planned) => {
                let prior = self.state.members.get(&server);
                let views_only = prior.is_some_and(|prior| {
                    prior.wanted == up.wanted && prior.runs && prior.verified && (!prior.drift || prior.unreached)
                });
                match &outcome {
                    Outcome::Done => drop(self.state.members.insert(server, planned)),
                    Outcome::Stopped { runs: true } => {
                        planned.verified = false;
                        self.state.members.insert(server, planned);
                    }
                    Outcome::Failed(Why::Unreached) if views_only && !world.machines[server].up => {
                        planned.unreached = true;
                        self.state.members.insert(server, planned);
                        world.tell(|| format!("s{server} can't be reached, and only its view is to change"));
                        return;
                    }
                    _ => {}
                }
            }
        }
        world.tell(|| {
            format!(
                "{}: {outcome:?}",
                server.map_or("cluster".to_owned(), |server| format!("s{server}"))
            )
        });
        self.failed.extend(failed.map(|why| (server, why)));
    }
}
