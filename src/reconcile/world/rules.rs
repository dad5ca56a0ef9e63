//! What must hold whenever the provider acts. It is asked for before etcd is, which refuses some of it by itself.

use super::etcd::{Survey, Violation, World};
use super::history::{Id, voters};
use super::machine::{Server, Servers};
use crate::membership::quorum;

impl World {
    /// Whether a decision rests on all that has happened. A server that goes down after it was looked at is nobody's doing.
    fn is_current(&self, survey: &Survey) -> bool {
        survey.settled && survey.faults == self.faults
    }

    /// The clusters that a member of this server is one of, with its ID there.
    fn standing(&self, server: Server) -> Option<(usize, Id)> {
        let log = self.machines[server].log.as_ref()?;
        let of = &self.histories[log.history];
        (of.led && !of.over && of.list().contains_key(&log.id)).then_some((log.history, log.id))
    }

    /// Before a running member is restarted.
    pub fn may_restart(&mut self, server: Server, survey: &Survey, locked: bool) -> Result<(), Violation> {
        let Some((history, id)) = self.standing(server) else {
            return Ok(());
        };
        let list = self.histories[history].list();
        if !list.get(&id).is_some_and(|own| own.voter) {
            return Ok(());
        }
        if !locked {
            return Err(format!("s{server} is restarted out of its turn"));
        }
        if !self.is_current(survey) {
            return Ok(());
        }
        let others: Vec<Id> = voters(list)
            .map(|(other, _)| other)
            .filter(|other| *other != id)
            .collect();
        let well = others.iter().filter(|other| self.is_well(history, **other)).count();
        let all = others.len() + 1;
        if well < quorum(all) && !(all <= 2 && well == others.len()) {
            return Err(format!(
                "s{server} is restarted, and {well} of {all} voters stay healthy"
            ));
        }
        if self.histories[history].leader == Some(id) && well > 0 {
            self.note("leader restarted");
        }
        self.note("restart");
        Ok(())
    }

    /// Before a member is taken out of the list.
    pub fn may_remove(&mut self, history: usize, id: Id, survey: &Survey, locked: bool) -> Result<(), Violation> {
        let list = self.histories[history].list();
        let Some(own) = list.get(&id).copied() else {
            return Ok(());
        };
        if !locked {
            return Err(format!("the member of s{} is taken out by who has no turn", own.server));
        }
        if !own.voter {
            self.note("learner removed");
            return Ok(());
        }
        let rest: Vec<Id> = voters(list)
            .map(|(other, _)| other)
            .filter(|other| *other != id)
            .collect();
        let well = rest.iter().filter(|other| self.is_well(history, **other)).count();
        if self.is_current(survey) && well < quorum(rest.len()) {
            return Err(format!(
                "s{} is taken out, and {well} of {} voters stay healthy",
                own.server,
                rest.len()
            ));
        }
        self.note("voter removed");
        Ok(())
    }

    /// Before a learner is added, or made a voter.
    pub fn may_add(&mut self, history: usize, survey: &Survey, locked: bool) -> Result<(), Violation> {
        if !locked {
            return Err("a member is added or promoted by who has no turn".to_owned());
        }
        let list = self.histories[history].list();
        if self.is_current(survey) && list.values().filter(|one| !one.voter).count() > 1 {
            return Err("a second learner".to_owned());
        }
        Ok(())
    }

    /// The servers of all members in the list of the cluster that lives.
    pub fn listed(&self) -> Servers {
        let lives = self.histories.iter().filter(|of| of.led && !of.over);
        lives.flat_map(|of| of.list().values()).map(|one| one.server).collect()
    }

    /// Before a member's data is moved away.
    pub fn may_take_data(&mut self, server: Server) -> Result<(), Violation> {
        match self.standing(server) {
            Some((history, _)) if self.teardown => {
                self.histories[history].over = true;
                Ok(())
            }
            Some(_) => Err(format!(
                "the data of s{server} is moved away, and it is in the member list"
            )),
            None => Ok(()),
        }
    }

    /// Before permits are left on servers.
    pub fn may_found(&mut self) -> Result<(), Violation> {
        let held = |history: usize| {
            let mut logs = self.machines.iter().filter_map(|machine| machine.log.as_ref());
            logs.any(|log| log.history == history)
        };
        let of = self.histories.iter().enumerate();
        let mut led = of.filter(|(history, of)| of.led && !of.over && held(*history));
        match led.next() {
            Some((_, of)) => Err(format!(
                "permits to found are left beside the cluster of {:?}",
                of.founders
            )),
            None => Ok(()),
        }
    }
}
