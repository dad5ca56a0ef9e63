//! What a call changes: files and starts on its server, and the member list.

use super::*;

impl BringUp {
    /// `install.rs`: files, then the start. A server that goes down in between has the files only.
    pub(super) fn install(&mut self, start: Start, process: &Process, world: &mut World) -> Result<Outcome, Violation> {
        let server = self.server;
        match start {
            Start::Resume | Start::AsItIs => self.give_turn_away(process, world),
            Start::Restart | Start::Snapshot => {
                if self.restarting.as_ref().is_some_and(|one| one.failed().is_some()) {
                    return Ok(Outcome::Failed(Why::Halted));
                }
                if let Some(survey) = &self.survey {
                    world.may_restart(server, survey, self.turn.is_locked())?;
                }
                self.restarted = true;
            }
            Start::Found | Start::Join | Start::No => {}
        }
        let survey = self.survey.take();
        let machine = &mut world.machines[server];
        if start == Start::AsItIs {
            machine.resting = false;
        } else if start != Start::Snapshot {
            if machine.permit.is_some() {
                machine.founding = self.servers.clone();
            }
            let installed = self.seen.as_ref().is_some_and(|seen| seen.installed);
            let starts = matches!(start, Start::Found | Start::Join | Start::Resume);
            machine.restart_pending |= start == Start::Restart || (starts && !installed);
            machine.files = Some(self.wanted);
            machine.peers = self.servers.clone();
            machine.enabled = true;
            machine.resting = false;
            if let (Start::Join, Some(survey)) = (start, &survey) {
                machine.token = self.desired.as_ref().and_then(|desired| desired.token.parse().ok());
                machine.joining = Some(List::clone(&survey.list));
            }
        } else {
            machine.restart_pending = true;
        }
        if std::mem::take(&mut machine.cut) {
            machine.go_down();
            world.faults += 1;
            world.unsettled = true;
            return Ok(Outcome::Failed(Why::Unreached));
        }
        let ran = world.machines[server].runs();
        match start {
            Start::No => {}
            Start::Snapshot => {
                world.restart(server)?;
                let machine = &mut world.machines[server];
                if let (true, Some(log)) = (machine.runs(), &mut machine.log) {
                    log.old_entries = false;
                }
                self.old_entries = Some(false);
                world.note("snapshot");
            }
            Start::Restart => world.restart(server)?,
            Start::Found | Start::Join | Start::Resume | Start::AsItIs => {
                // systemd may have started it meanwhile, with the files that there were.
                if !ran {
                    world.start(server)?;
                }
            }
        }
        let machine = &mut world.machines[server];
        if start == Start::Restart || (!ran && matches!(start, Start::Found | Start::Join | Start::Resume)) {
            machine.restart_pending = false;
        }
        if start != Start::No && !machine.runs() {
            return Ok(Outcome::Failed(Why::NotStarted));
        }
        self.seen = Some(self.observe(machine));
        if start == Start::AsItIs {
            self.old_entries = None;
        }
        if let Some(desired) = &mut self.desired {
            desired.verify |= start != Start::No;
            if matches!(start, Start::Restart | Start::Snapshot | Start::Join) {
                desired.founder = false;
            }
        }
        (self.cluster, self.answers) = (None, None);
        Ok(Outcome::Goes)
    }

    /// `membership_changes.rs`: asked for until the list shows it.
    pub(super) fn ask(&mut self, asking: Asking, process: &Process, world: &mut World) -> Result<Outcome, Violation> {
        if process.stop.is_cancelled() {
            return Ok(Outcome::Stopped { runs: false });
        }
        let Some(survey) = &self.survey else {
            (self.asking, self.cluster) = (None, None);
            return Ok(Outcome::Goes);
        };
        let (history, locked) = (survey.history, self.turn.is_locked());
        let of = match asking {
            Asking::RemoveOld | Asking::Promote => survey.own,
            Asking::RemoveOther => self.given_up(survey).or_else(|| self.other_learner(survey)),
            Asking::PromoteOther => self.other_learner(survey),
            Asking::AddLearner => None,
        };
        let done = match (asking, of) {
            (Asking::RemoveOld | Asking::RemoveOther, Some(id)) => {
                world.may_remove(history, id, survey, locked)?;
                world.remove(history, id)
            }
            (Asking::PromoteOther | Asking::Promote, Some(id)) => {
                world.may_add(history, survey, locked)?;
                world.promote(history, id)
            }
            (Asking::AddLearner, _) => {
                world.may_add(history, survey, locked)?;
                world.add_learner(history, self.server)
            }
            (_, None) => true,
        };
        if done {
            self.survey = None;
            (self.asking, self.cluster, self.answers) = (None, None, None);
            return Ok(Outcome::Goes);
        }
        Ok(Outcome::Waits(SOON))
    }
}
