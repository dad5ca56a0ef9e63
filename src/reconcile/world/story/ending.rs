//! How a story ends: all faults go, the user applies until nothing changes any more, and takes the whole cluster down.

use super::{End, SERVERS, Stage, boot};
use crate::membership::{founding, leaving, member, quorum};
use crate::reconcile::world::call::Why;
use crate::reconcile::world::etcd::Violation;
use crate::reconcile::world::history::voters;
use crate::reconcile::world::machine::{Process as Runs, Server, Servers};

impl Stage {
    /// All faults are gone, and the user applies until nothing changes any more. What was refused is tried again after everything that the
    /// member list has was brought back, as the refusals advise.
    pub(super) async fn bring_to_its_end(&mut self) -> Result<End, Violation> {
        {
            let mut world = self.world();
            for server in 0..SERVERS {
                world.machines[server].cut = false;
                world.machines[server].place = 0;
                boot(&mut world, server);
            }
            world.faults += 1;
        }
        let end = self.converge().await?;
        if end == End::Whole || !self.can_live() {
            return Ok(end);
        }
        let wish = self.config.clone();
        // Those that founded it too: a founding that is not seen to be over goes by them.
        let listed = {
            let world = self.world();
            let lives = world.histories.iter().filter(|of| of.led && !of.over);
            let founders: Servers = lives.flat_map(|of| of.founders.iter().copied()).collect();
            world.listed().union(&founders).copied().collect::<Servers>()
        };
        self.config.servers.clone_from(&listed);
        self.config.members.clone_from(&listed);
        self.tell(|| format!("{end:?}; bringing back {listed:?}"));
        // All members in the place of others at once take two applies, as the refusal says.
        let once = !wish.members.is_disjoint(&listed);
        for (what, wish) in [("brought back", None), ("brought to what is wished", Some(wish))] {
            if wish.is_some() && !once {
                return Ok(end);
            }
            self.config = wish.unwrap_or_else(|| self.config.clone());
            match self.converge().await? {
                End::Whole => {}
                end if is_for_the_user(&end) => return Ok(end),
                end => return Err(format!("the cluster could live, and is not {what}: {end:?}")),
            }
        }
        Ok(End::WholeAfter(Box::new(end)))
    }

    /// The user applies the same until nothing changes any more.
    async fn converge(&mut self) -> Result<End, Violation> {
        let mut before = None;
        loop {
            self.wait()?;
            let can_live = self.can_live();
            let run = match self.plan(&Servers::new(), 10, false) {
                Ok(run) if run.is_nothing() => {
                    self.is_whole()?;
                    return Ok(End::Whole);
                }
                Ok(run) => run,
                Err(refused) => return Ok(End::PlanRefused(refused)),
            };
            let run = self.run(run).await?;
            self.state = run.state;
            if can_live && !self.can_live() {
                return Err(format!("the cluster lived, and an apply ended it: {:?}", run.failed));
            }
            let mut failed = run.failed;
            failed.sort_by_key(|(server, _)| *server);
            let end = End::Refused(failed);
            if end != End::Refused(Vec::new()) && before.as_ref() == Some(&end) {
                return Ok(end);
            }
            self.rounds += 1;
            if self.rounds > 60 {
                return Err("applies change something again and again".to_owned());
            }
            before = Some(end);
        }
    }

    /// The members are those that were wished, all of them vote, and all run what was wished.
    fn is_whole(&self) -> Result<(), Violation> {
        let world = self.world();
        let of = world.histories.iter().find(|of| of.led && !of.over);
        let Some(of) = of else {
            // A founding waits for members that the configuration does not have yet.
            let founders = world.histories.iter().map(|of| of.founders.len()).max();
            if founders.is_some_and(|founders| self.config.members.len() < quorum(founders)) {
                return Ok(());
            }
            return Err("nothing is to be done, and there is no cluster".to_owned());
        };
        // There may be others: members whose create failed when they ran already, on servers that are to have none.
        let vote: Servers = voters(of.list()).map(|(_, one)| one.server).collect();
        if !self.config.members.is_subset(&vote) {
            return Err(format!("nothing is to be done, and the members are {:?}", of.list()));
        }
        let runs = |server: &Server| world.machines[*server].process == Runs::Running(self.config.wanted);
        if let Some(other) = self.config.members.iter().find(|server| !runs(server)) {
            return Err(format!(
                "nothing is to be done, and s{other} is {:?}",
                world.machines[*other].process
            ));
        }
        Ok(())
    }

    fn once_in(&self, times: usize) -> bool {
        self.world().chance.once_in(times)
    }

    fn any_parallelism(&self) -> usize {
        1 + self.world().faults % 10
    }

    /// The whole cluster is destroyed, without questions.
    pub(super) async fn take_down(&mut self) -> Result<(), Violation> {
        self.world().teardown = true;
        let known = self.state.members();
        // It may be killed first, more than once.
        while self.once_in(3) {
            self.wait()?;
            let steps = self.world().chance.below(150);
            let Ok(run) = self.plan(&Servers::new(), self.any_parallelism(), true) else {
                return Err("a destroy was refused".to_owned());
            };
            self.state = self.run_and_kill(run, steps).await?;
        }
        let lived = self.lives();
        for _ in 0..4 {
            self.wait()?;
            let Ok(run) = self.plan(&Servers::new(), self.any_parallelism(), true) else {
                return Err("a destroy was refused".to_owned());
            };
            let run = self.run(run).await?;
            self.state = run.state;
            if self.state.is_empty() {
                return Ok(());
            }
            // A founding that was cut off is brought to its end first. And without a quorum, processes that don't know what the others
            // are asked for can't tell that everybody leaves.
            let world = self.world();
            let founded = world.histories.iter().any(|of| of.led);
            let blind = !founded || (self.processes > 1 && !lived);
            let unfounded = |why: &Why| blind && *why == Why::Leaving(leaving::Refusal::NoQuorum);
            // And members that no state knows of are the user's: taken over by an apply, or taken away.
            let holds = |server: &Server| world.machines[*server].log.is_some();
            let mut holding = (0..SERVERS).filter(holds).chain(world.listed());
            let strangers = holding.any(|server| !known.contains(&server));
            let mut failed = run.failed.iter();
            if strangers || failed.any(|(_, why)| needs_another_wish(why) || unfounded(why)) {
                return Ok(());
            }
        }
        Err("the cluster can't be destroyed".to_owned())
    }
}

/// Whether only another wish of the user's can end it.
fn is_for_the_user(end: &End) -> bool {
    match end {
        End::Whole | End::WholeAfter(_) => false,
        End::Refused(all) => all.iter().any(|(_, why)| needs_another_wish(why)),
        End::PlanRefused(_) => true,
    }
}

fn needs_another_wish(why: &Why) -> bool {
    match why {
        Why::StillInUse | Why::HoldsData | Why::Vacating(_) => true,
        Why::Member(refusal) => matches!(refusal, member::Refusal::Skew { .. } | member::Refusal::Version { .. }),
        Why::Leaving(refusal) => matches!(refusal, leaving::Refusal::LastOne),
        Why::Founding(refusals) => refusals.contains(&founding::Refusal::PermitLost),
        _ => false,
    }
}
