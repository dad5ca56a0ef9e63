//! The calls of one run, as many at once as Terraform may make.

use std::cell::RefCell;

use futures::stream::{FuturesUnordered, StreamExt as _};

use super::super::call::{Outcome, take_steps};
use super::super::leave::Leave;
use super::super::shared::Shared;
use super::super::turn::Process;
use super::{Going, Made, Planned, Run};

impl Run {
    /// Begins with one of the calls that may begin.
    fn begin(&mut self, world: &Shared) -> Option<(usize, Process, Planned)> {
        let ready: Vec<usize> = (0..self.todo.len())
            .filter(|at| self.may_begin(&self.todo[*at]))
            .collect();
        if ready.is_empty() || self.active.len() >= self.parallelism {
            return None;
        }
        let at = world.lock().chance.below(ready.len());
        let mut planned = self.todo.remove(ready[at]);
        let (going, server) = match &mut planned {
            Planned::Delete(server, ..) => (Going::Delete(*server), Some(*server)),
            Planned::Cluster(_) => (Going::Cluster, None),
            Planned::Up(server, up, planned) => {
                // What the plan did not know of the cluster.
                if let Some(cluster) = &self.state.cluster {
                    up.founders.clone_from(&cluster.founders);
                    planned.founders.clone_from(&cluster.founders);
                }
                (Going::Up, Some(*server))
            }
        };
        self.next += 1;
        self.active.insert(self.next, going);
        Some((self.next, self.processes[self.process_of(server)].clone(), planned))
    }

    /// Makes all calls, as many at once as Terraform may.
    pub async fn drive(run: &RefCell<Self>, world: &Shared) {
        let mut calls = FuturesUnordered::new();
        loop {
            loop {
                let begun = run.borrow_mut().begin(world);
                let Some((number, process, planned)) = begun else { break };
                // Only the process that planned the cluster knows that it stays.
                let stays = { run.borrow() }.plans_cluster(&process);
                let token = run.borrow().token;
                calls.push(async move { (number, make(planned, &process, world, stays, token).await) });
            }
            let Some((number, (made, outcome))) = calls.next().await else {
                return;
            };
            let mut run = run.borrow_mut();
            run.active.remove(&number);
            run.conclude(made, outcome, &mut world.lock());
        }
    }

    fn plans_cluster(&self, process: &Process) -> bool {
        self.after.is_some() && process.number == self.processes[0].number
    }
}

/// Makes one call.
async fn make(planned: Planned, process: &Process, world: &Shared, stays: bool, token: u32) -> (Made, Outcome) {
    world.moment().await;
    match planned {
        Planned::Delete(server, fate, servers) => {
            let leave = Leave {
                world,
                process,
                server,
                servers: &servers,
            };
            (Made::Delete(server), leave.run(fate, stays).await)
        }
        Planned::Cluster(mut establish) => {
            let outcome = take_steps(&mut establish, process, world, token).await;
            (Made::Cluster(establish), outcome)
        }
        Planned::Up(server, mut up, planned) => {
            let outcome = take_steps(&mut *up, process, world, token).await;
            (Made::Up(server, up, planned), outcome)
        }
    }
}
