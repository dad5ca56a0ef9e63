//! A member's delete, as `resource/member/leave.rs` performs it.

use super::call::{Call, Outcome, Why};
use super::establish::names;
use super::etcd::{Survey, Violation, World};
use super::history::Listed;
use super::machine::{Machine, Process as Runs, Server, Servers};
use super::turn::{Got, Process, Turn};
use crate::membership::leaving::{Fate, InThisRun, Leaving, Peer, Refusal, decide};

const DEADLINE: usize = 600;
/// How many looks for a quorum that is not there at first.
const PATIENCE: usize = 40;

/// A member that leaves.
pub struct Leave {
    server: Server,
    /// The cluster as the member's state has it.
    servers: Servers,
    fate: Fate,
    /// Whether the plan knew that the cluster stays.
    stays: bool,
    turn: Turn,
    removing: Option<Survey>,
    polls: usize,
    patience: Option<usize>,
}

fn name(server: Server) -> String {
    format!("s{server}")
}

impl Leave {
    pub fn new(server: Server, servers: &Servers, fate: Fate, stays: bool) -> Self {
        Self {
            server,
            servers: servers.clone(),
            fate,
            stays,
            turn: Turn::default(),
            removing: None,
            polls: 0,
            patience: None,
        }
    }

    fn go_on(&mut self, process: &mut Process, call: usize, world: &mut World) -> Result<Outcome, Violation> {
        self.polls += 1;
        if process.stopped {
            return Ok(Outcome::Stopped { runs: false });
        }
        if let Some(survey) = &self.removing {
            return self.remove_from_list(survey.clone(), world);
        }
        if self.fate == Fate::Gone && !self.stays && process.leaving.is_superset(&self.servers) {
            world.note("stopped together");
            return Ok(self.rest(world));
        }
        if self.polls > DEADLINE {
            return Ok(Outcome::Failed(Why::Late));
        }
        if !self.turn.take(process, call) {
            return Ok(Outcome::Goes);
        }
        let survey = self.survey(world);
        let survey = match &survey {
            None => None,
            Some(found) => match self.turn.lock(process, world, found) {
                Got::No => return Ok(Outcome::Goes),
                Got::Before => survey,
                // Somebody else has changed the cluster meanwhile.
                Got::Now => self.survey(world),
            },
        };
        let members = survey.as_ref().map(|survey| self.peers(survey));
        let decided = |gone: &Servers| {
            let run = InThisRun {
                stays: self.stays,
                leaving: &names(&process.leaving),
                coming: &names(&process.coming),
                gone: &names(gone),
            };
            let others_run = { self.servers.iter() }
                .any(|other| *other != self.server && !process.leaving.contains(other) && !gone.contains(other));
            decide(&name(self.server), self.fate, &run, members.as_deref(), others_run)
        };
        let mut decision = decided(&Servers::new());
        if let Leaving::Refuse(Refusal::Quorum { .. } | Refusal::NoQuorum) = decision {
            decision = decided(&self.gone(process, world));
        }
        world.tell(|| format!("s{} leaves: {decision:?}", self.server));
        match (decision, survey) {
            (Leaving::Refuse(refusal), _) if refusal.may_pass() && self.polls < self.until(&refusal) => {
                if let Refusal::Awaited { .. } = refusal {
                    world.note("waited for a successor");
                }
                self.turn.end(process, world);
                Ok(Outcome::Goes)
            }
            (Leaving::Refuse(refusal), _) => Ok(Outcome::Failed(Why::Leaving(refusal))),
            (Leaving::Remove, Some(survey)) => {
                if survey.own == survey.leader
                    && let Some(own) = survey.own
                {
                    world.move_leader(survey.history, own);
                }
                self.remove_from_list(survey, world)
            }
            (Leaving::RemoveGivenUp, survey) => {
                let left_over = |one: &Listed| one.voter && !one.started && !self.servers.contains(&one.server);
                if let Some(survey) = survey
                    && let Some((id, _)) = survey.list.iter().find(|(_, one)| left_over(one))
                {
                    world.may_remove(survey.history, *id, &survey, self.turn.is_locked())?;
                    world.remove(survey.history, *id);
                }
                self.turn.end(process, world);
                Ok(Outcome::Goes)
            }
            (Leaving::Rest, _) => {
                world.note("left to rest");
                Ok(self.rest(world))
            }
            (Leaving::Gone | Leaving::Remove, _) => self.off_the_server(world),
        }
    }

    /// Asked with a certificate that is borrowed from any server that has one.
    fn survey(&self, world: &World) -> Option<Survey> {
        let mut servers = self.servers.iter().map(|server| &world.machines[*server]);
        let borrowed = servers.any(|machine| machine.up && machine.files.is_some());
        borrowed.then(|| world.survey(&self.servers, self.server)).flatten()
    }

    /// How long a refusal that may pass is waited for.
    fn until(&mut self, refusal: &Refusal) -> usize {
        match refusal {
            Refusal::Awaited { .. } => DEADLINE,
            _ => *self.patience.get_or_insert(self.polls + PATIENCE),
        }
    }

    fn peers(&self, survey: &Survey) -> Vec<Peer> {
        let known = |server: Server| self.servers.contains(&server);
        let peer = |(id, one): (&u32, &Listed)| Peer {
            name: name(one.server),
            voter: one.voter,
            healthy: survey.healthy.contains_key(id),
            given_up: !one.started && !known(one.server),
        };
        survey.list.iter().map(peer).collect()
    }

    /// The servers that hold no member, or one that rests: of this one, and of those whose members nobody said are to leave.
    fn gone(&self, process: &Process, world: &World) -> Servers {
        let asked = { self.servers.iter() }.filter(|one| **one == self.server || !process.leaving.contains(one));
        let holds_none =
            |machine: &Machine| machine.up && !machine.runs() && (machine.log.is_none() || machine.resting);
        asked.copied().filter(|one| holds_none(&world.machines[*one])).collect()
    }

    fn remove_from_list(&mut self, survey: Survey, world: &mut World) -> Result<Outcome, Violation> {
        let Some(id) = survey.own else {
            return self.off_the_server(world);
        };
        world.may_remove(survey.history, id, &survey, self.turn.is_locked())?;
        if world.remove(survey.history, id) {
            return self.off_the_server(world);
        }
        if self.polls > DEADLINE {
            return Ok(Outcome::Failed(Why::Late));
        }
        self.removing = Some(survey);
        Ok(Outcome::Goes)
    }

    /// Stopped, with its data where it is.
    fn rest(&self, world: &mut World) -> Outcome {
        let machine = &mut world.machines[self.server];
        if machine.up {
            machine.end(Runs::Stopped);
            machine.enabled = false;
            machine.resting = machine.log.is_some();
        }
        world.unsettled = true;
        Outcome::Done
    }

    /// A server that can't be reached is left as it is, with a warning.
    fn off_the_server(&self, world: &mut World) -> Result<Outcome, Violation> {
        if world.listed().contains(&self.server) {
            return Err(format!("s{} has left, and is in the member list", self.server));
        }
        if world.machines[self.server].up {
            world.may_take_data(self.server)?;
            world.machines[self.server].remove_member();
        }
        Ok(Outcome::Done)
    }
}

impl Call for Leave {
    fn step(&mut self, process: &mut Process, call: usize, world: &mut World, _: u32) -> Result<Outcome, Violation> {
        if self.fate == Fate::Gone {
            process.coming.remove(&self.server);
            process.leaving.insert(self.server);
        }
        let outcome = self.go_on(process, call, world)?;
        if !matches!(outcome, Outcome::Goes) {
            self.turn.end(process, world);
        }
        Ok(outcome)
    }
}
