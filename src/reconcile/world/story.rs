//! Stories: what a user wants one after the other, and what happens meanwhile.

mod ending;

use std::cell::RefCell;
use std::sync::MutexGuard;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::call::Why;
use super::etcd::{Violation, World};
use super::history::voters;
use super::machine::{Machine, Process as Runs, Server, Servers, Wanted};
use super::shared::{Shared, at};
use super::terraform::{Config, PlanRefused, Run, State};
use crate::membership::quorum;

/// Something that nobody asked for.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Down(Server),
    Up(Server),
    /// The server goes down in the middle of the next script on it.
    Cut(Server),
    /// Its etcd ends, and systemd starts it again.
    Crash(Server),
    /// Somebody stops the service.
    Stop(Server),
    /// The data directory is gone.
    Wipe(Server),
    /// The servers of these bits don't reach the others.
    Split(u16),
    Heal,
}

/// What the user does next, each as bits of servers.
#[derive(Clone, Debug)]
pub struct Act {
    /// Servers that come or go.
    pub servers: u16,
    /// Servers that stay the cluster's without a member.
    pub without: u16,
    pub roll: bool,
    pub upgrade: bool,
    pub replace: u16,
    pub parallelism: usize,
    /// A second run of the same, at the same time.
    pub twice: bool,
    pub killed: Option<usize>,
    pub stopped: Option<usize>,
    pub faults: Vec<(usize, Fault)>,
}

/// A story.
#[derive(Clone, Debug)]
pub struct Story {
    /// Of the order in which things go on.
    pub seed: u64,
    pub founders: usize,
    pub processes: usize,
    pub acts: Vec<Act>,
}

/// Servers that a story may have.
const SERVERS: usize = 9;
/// When a run has to be over.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

fn any_fault() -> impl Strategy<Value = Fault> {
    let server = 0..SERVERS;
    prop_oneof![
        3 => server.clone().prop_map(Fault::Down),
        3 => server.clone().prop_map(Fault::Up),
        2 => server.clone().prop_map(Fault::Cut),
        3 => server.clone().prop_map(Fault::Crash),
        1 => server.clone().prop_map(Fault::Stop),
        2 => server.prop_map(Fault::Wipe),
        2 => any::<u16>().prop_map(Fault::Split),
        2 => Just(Fault::Heal),
    ]
}

/// Few bits.
fn some_servers() -> impl Strategy<Value = u16> {
    prop_oneof![
        2 => Just(0),
        3 => (0..SERVERS).prop_map(|server| 1 << server),
        2 => (any::<u16>(), any::<u16>()).prop_map(|(one, other)| one & other),
        1 => any::<u16>(),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    let when = || prop_oneof![0usize..60, 0usize..600];
    let without = prop_oneof![4 => Just(0), 1 => some_servers()];
    let replace = prop_oneof![4 => Just(0), 1 => some_servers()];
    let interrupted = || prop::option::weighted(0.2, when());
    (
        (
            some_servers(),
            without,
            any::<bool>(),
            prop::bool::weighted(0.3),
            replace,
        ),
        (1usize..=10, prop::bool::weighted(0.2), interrupted(), interrupted()),
        prop::collection::vec((when(), any_fault()), 0..5),
    )
        .prop_map(
            |((servers, without, roll, upgrade, replace), (parallelism, twice, killed, stopped), faults)| Act {
                servers,
                without,
                roll,
                upgrade,
                replace,
                parallelism,
                twice,
                killed,
                stopped,
                faults,
            },
        )
}

/// Any story.
pub fn any_story() -> impl Strategy<Value = Story> {
    (
        any::<u64>(),
        1usize..=SERVERS,
        1usize..3,
        prop::collection::vec(any_act(), 1..5),
    )
        .prop_map(|(seed, founders, processes, acts)| Story {
            seed,
            founders,
            processes,
            acts,
        })
}

fn bits(mask: u16) -> Servers {
    (0..SERVERS).filter(|server| mask & (1 << server) != 0).collect()
}

/// How a story ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is as it was wished, and a second run finds nothing to do.
    Whole,
    /// So it is after what was refused at first was tried again.
    WholeAfter(Box<End>),
    /// It was refused, for these reasons, and is so again.
    Refused(Vec<(Option<Server>, Why)>),
    /// The plan was refused.
    PlanRefused(PlanRefused),
}

/// A story that is told.
pub struct Stage {
    pub world: Shared,
    state: State,
    config: Config,
    token: u32,
    processes: usize,
    rounds: usize,
}

impl Stage {
    pub fn new(story: &Story) -> Self {
        let servers: Servers = (0..story.founders).collect();
        Self {
            world: Shared::new(World::new(SERVERS, story.seed)),
            state: State::default(),
            config: Config {
                members: servers.clone(),
                servers,
                wanted: Wanted { minor: 5, options: 0 },
            },
            token: 0,
            processes: story.processes,
            rounds: 0,
        }
    }

    /// Plays it from beginning to end.
    pub fn play(&mut self, story: &Story) -> Result<End, Violation> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            for (number, act) in story.acts.iter().enumerate() {
                self.wish(act, number == 0);
                self.act(act).await?;
            }
            self.tell(|| "all faults are gone".to_owned());
            let end = self.bring_to_its_end().await?;
            self.tell(|| format!("{end:?}; all of it is to go"));
            self.take_down().await?;
            Ok(end)
        })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        self.world().tell(what);
    }

    /// What happened in a story, in words.
    pub fn told(story: &Story) -> String {
        let mut stage = Self::new(story);
        stage.world().told = Some(Vec::new());
        let _ = stage.play(story);
        let told = stage.world().told.take().unwrap_or_default();
        let last = told.len().saturating_sub(120);
        told[last..].join("\n")
    }

    fn wish(&mut self, act: &Act, first: bool) {
        let config = &mut self.config;
        if first {
            return;
        }
        let servers: Servers = config
            .servers
            .symmetric_difference(&bits(act.servers))
            .copied()
            .collect();
        if !servers.is_empty() {
            config.servers = servers;
        }
        config.members = config.servers.difference(&bits(act.without)).copied().collect();
        if config.members.is_empty() {
            config.members.clone_from(&config.servers);
        }
        config.wanted.options += u32::from(act.roll);
        // Versions are changed where the plan knows what all members run. Those that no state knows of, or that could not be reached since
        // an upgrade, the user has to look after.
        let known = self.state.members();
        let world = self.world.lock();
        let installed = world.machines.iter().enumerate();
        let mut installed = installed.filter_map(|(server, machine)| Some((server, machine.files?)));
        let all_fit = installed.all(|(server, files)| known.contains(&server) && files.minor == config.wanted.minor);
        if act.upgrade && all_fit {
            config.wanted.minor = (config.wanted.minor + 1).min(7);
        }
    }

    fn plan(&mut self, replace: &Servers, parallelism: usize, destroy: bool) -> Result<Run, PlanRefused> {
        self.token += 1;
        let config = Some(&self.config).filter(|_| !destroy);
        let how = (self.processes, parallelism);
        Run::plan(&mut self.world(), &self.state, config, replace, self.token, how)
    }

    async fn act(&mut self, act: &Act) -> Result<(), Violation> {
        let before = self.config.clone();
        self.tell(|| format!("{before:?}"));
        let Ok(run) = self.plan(&bits(act.replace), act.parallelism, false) else {
            // The user takes it back.
            self.config = before;
            return Ok(());
        };
        let run = RefCell::new(run);
        let second = match act.twice && self.state.has_cluster() {
            true => self
                .plan(&Servers::new(), act.parallelism, false)
                .ok()
                .map(RefCell::new),
            false => None,
        };
        let killed = {
            let first = async {
                let killed = async {
                    match act.killed {
                        Some(step) => tokio::time::sleep(at(step)).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = Run::drive(&run, &self.world) => false,
                    () = killed => true,
                }
            };
            let other = async {
                if let Some(run) = &second {
                    Run::drive(run, &self.world).await;
                }
            };
            let stopped = async {
                if let Some(step) = act.stopped {
                    tokio::time::sleep(at(step)).await;
                    run.borrow_mut().stop();
                }
            };
            let faults = async {
                let mut faults = act.faults.clone();
                faults.sort_by_key(|(when, _)| *when);
                let start = Instant::now();
                for (when, fault) in faults {
                    tokio::time::sleep_until(start + at(when)).await;
                    self.happen(fault);
                }
            };
            let meanwhile = async {
                tokio::join!(stopped, faults);
                std::future::pending::<()>().await;
            };
            let both = async { tokio::join!(first, other).0 };
            self.until_done(async {
                tokio::select! {
                    biased;
                    () = meanwhile => false,
                    killed = both => killed,
                }
            })
            .await?
        };
        let run = run.into_inner();
        self.state = match killed {
            true => run.kill(&mut self.world()),
            false => run.state,
        };
        Ok(())
    }

    /// Time passes until all of this is over.
    async fn until_done<T>(&self, over: impl Future<Output = T>) -> Result<T, Violation> {
        let outcome = tokio::select! {
            biased;
            () = self.world.nature() => None,
            over = over => Some(Ok(over)),
            () = tokio::time::sleep(LONGEST) => Some(Err("a run has no end".to_owned())),
        };
        match self.world().violation.take() {
            Some(violation) => Err(violation),
            None => outcome.unwrap_or_else(|| Err("nature ended".to_owned())),
        }
    }

    /// Long enough for everything that comes about by itself.
    fn wait(&self) -> Result<(), Violation> {
        let mut world = self.world();
        for _ in 0..4 {
            world.settle()?;
        }
        let killed = world.killed.clone();
        for of in &mut world.histories {
            of.lock = of.lock.filter(|lock| !killed.contains(lock));
        }
        Ok(())
    }

    fn happen(&self, fault: Fault) {
        let world = &mut *self.world();
        world.tell(|| format!("{fault:?}"));
        world.faults += 1;
        world.unsettled = true;
        match fault {
            Fault::Down(server) => world.machines[server].go_down(),
            Fault::Up(server) => boot(world, server),
            Fault::Cut(server) => world.machines[server].cut = true,
            Fault::Crash(server) if world.machines[server].runs() => world.machines[server].end(Runs::Crashed),
            Fault::Stop(server) => world.machines[server].end(Runs::Stopped),
            Fault::Wipe(server) => {
                let machine = &mut world.machines[server];
                if machine.runs() {
                    machine.end(Runs::Crashed);
                }
                if let Some(log) = machine.log.take() {
                    let mut logs = world.machines.iter().filter_map(|machine| machine.log.as_ref());
                    // Nothing is left of it that could be lost.
                    world.histories[log.history].over |= !logs.any(|other| other.history == log.history);
                }
            }
            Fault::Split(mask) => {
                for (server, machine) in world.machines.iter_mut().enumerate() {
                    machine.place = u8::from(mask & (1 << server) != 0);
                }
            }
            Fault::Heal => world.machines.iter_mut().for_each(|machine| machine.place = 0),
            Fault::Crash(_) => {}
        }
    }

    /// Whether nothing but the provider is needed for the cluster to live.
    fn can_live(&self) -> bool {
        self.has_quorum_of(|_| true)
    }

    /// Whether a quorum runs.
    fn lives(&self) -> bool {
        self.has_quorum_of(Machine::runs)
    }

    fn has_quorum_of(&self, counts: impl Fn(&Machine) -> bool) -> bool {
        let world = self.world();
        let mut led = { world.histories.iter().enumerate() }.filter(|(_, of)| of.led && !of.over);
        led.next().is_some_and(|(history, of)| {
            let with_data = voters(of.list()).filter(|(id, one)| {
                let machine = &world.machines[one.server];
                counts(machine) && machine.log.is_some_and(|log| log.history == history && log.id == *id)
            });
            with_data.count() >= quorum(voters(of.list()).count())
        })
    }

    /// Killed after so many steps; what the state has then.
    async fn run_and_kill(&self, run: Run, steps: usize) -> Result<State, Violation> {
        let run = RefCell::new(run);
        let cut = async {
            tokio::select! {
                biased;
                () = Run::drive(&run, &self.world) => {}
                () = tokio::time::sleep(at(steps)) => {}
            }
        };
        self.until_done(cut).await?;
        self.tell(|| format!("killed after {steps} steps"));
        Ok(run.into_inner().kill(&mut self.world()))
    }

    async fn run(&self, run: Run) -> Result<Run, Violation> {
        let run = RefCell::new(run);
        self.until_done(Run::drive(&run, &self.world)).await?;
        Ok(run.into_inner())
    }
}

fn boot(world: &mut World, server: Server) {
    let machine = &mut world.machines[server];
    if !machine.up {
        machine.up = true;
        if machine.enabled {
            machine.process = Runs::Crashed;
        }
    }
}
