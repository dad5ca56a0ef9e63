//! The preflight: servers listen where their members will, dial each other, and measure their disks, before anything is changed. What listens
//! ends with the step that follows, or by itself.

mod checks;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

pub use checks::{PreflightModel, at_another_port, attribute, fresh};
pub use reading::disk;
use reading::{only_dialled, probed};

use super::model::ClusterModel;
use super::servers::{Each, Observation, StepError, on_each};
use crate::host::{Output, PRIVILEGE, RunError, Script};
use crate::membership::preflight::{Findings, Outcome, Pair, Refusal, Server, Verdict, table};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::dialling::{self, Target};
use crate::resource::random::random_text;
use crate::resource::road::Road;
use crate::topology::{ClusterName, Topology};

/// How long opening a connection may take, in seconds: time for a first packet that was lost to be sent again twice.
const DIALLING: u64 = 5;
/// How long the end of what listens may take to reach a server: it ends by itself too.
const ENDING: Duration = Duration::from_secs(15);
/// How long everything that is done on one server may take.
const ON_ONE: Duration = Duration::from_secs(60);

/// One preflight.
pub struct Preflight<'a> {
    road: &'a Road,
    cluster: &'a ClusterModel,
    topology: &'a Topology,
    checks: PreflightModel,
    fresh: BTreeSet<String>,
    /// Those whose members run, and are to listen for peers at another port.
    moved: BTreeSet<String>,
    /// Those that were asked to listen.
    asked: BTreeSet<String>,
    nonce: String,
}

impl<'a> Preflight<'a> {
    /// Of these servers, with those of the others that they have to do with; and of the new ports of those that are `moved`.
    pub fn new(
        road: &'a Road,
        cluster: &'a ClusterModel,
        topology: &'a Topology,
        fresh: BTreeSet<String>,
        moved: BTreeSet<String>,
    ) -> Result<Self, Diagnostic> {
        Ok(Self {
            road,
            cluster,
            topology,
            checks: cluster.preflight.clone().unwrap_or_default(),
            asked: fresh.union(&moved).cloned().collect(),
            fresh,
            moved,
            nonce: random_text()?,
        })
    }

    /// Whether there is anything to look at.
    pub fn is_due(&self) -> bool {
        !self.fresh.is_empty() || !self.moved.is_empty()
    }

    /// Appends to the observation of a server that its disk is measured, and that it listens, both at the same time and if it is to.
    pub fn begin(&self, script: Script, server: &str) -> Script {
        let (fresh, moved) = (self.fresh.contains(server), self.moved.contains(server));
        let Some((_, place)) = self.topology.find(server).ok().filter(|_| fresh || moved) else {
            return script;
        };
        let mut script = match fresh {
            true => script.line(include_str!("preflight/is_free.sh")),
            // Its member runs at another port.
            false => script.line("is_free() { true; }"),
        };
        if fresh && self.checks.disk.unwrap_or(true) {
            let data = self.checks.data_dir.clone();
            script = script
                .set(
                    "disk_of",
                    data.unwrap_or_else(|| format!("/var/lib/etcd/{}", self.topology.cluster())),
                )
                .line(PRIVILEGE)
                .line(include_str!("preflight/disk.sh"))
                .line("if is_free; then measure_disk & fi");
        }
        if self.checks.dials() && self.topology.servers().len() > 1 {
            let place = place.peer_listener();
            let answer = format!(
                "name={server} port={}\n{}",
                place.port(),
                include_str!("preflight/answer.sh")
            );
            script = script
                .set("preflight_unit", unit(self.topology.cluster()))
                .set("listen", place.to_string())
                .set("port", place.port().to_string())
                .set("answer", answer)
                .set("nonce", &self.nonce)
                .line(include_str!("preflight/listen.sh"));
        }
        script.line("wait")
    }

    /// Leaves out of what was observed what is not to be looked at.
    pub fn forget(&self, observed: &mut Each<Observation>) {
        for observation in observed.values_mut().flatten() {
            if self.checks.ports == Some(false) {
                observation.holding.ports_taken.clear();
            }
        }
    }

    /// Those that were to be looked at and have nothing of a member yet: one that runs is connected already.
    pub fn keep_clean(&mut self, observed: &Each<Observation>) {
        self.fresh.retain(|name| {
            let seen = observed.get(name).and_then(|outcome| outcome.as_ref().ok());
            seen.is_some_and(|seen| seen.holding.data.is_none() && !seen.runs)
        });
    }

    /// Dials all pairs that a new server is part of.
    pub async fn run(&self, observed: &Each<Observation>, within: Duration) -> Findings {
        let mut findings = Findings::default();
        let mut scripts = BTreeMap::new();
        for (name, outcome) in observed {
            let Ok(observation) = outcome else { continue };
            let Ok((_, place)) = self.topology.find(name) else {
                continue;
            };
            let is_fresh = self.fresh.contains(name);
            let server = Server {
                network: place.network.to_string(),
                new: is_fresh,
                clock: observation
                    .clock
                    .filter(|_| self.checks.clock.unwrap_or(true))
                    .map(|clock| (clock.ms, clock.uncertainty_ms)),
                ports_taken: if is_fresh || self.moved.contains(name) {
                    observation.holding.ports_taken.clone()
                } else {
                    Vec::new()
                },
                disk: observation.disk.clone().filter(|_| is_fresh),
            };
            findings.servers.insert(name.clone(), server);
            let (mut plain, mut probes) = (Vec::new(), Vec::new());
            for (target, listens) in self.targets(name, observed, &mut findings.pairs) {
                if listens { &mut probes } else { &mut plain }.push(target);
            }
            if !plain.is_empty() || !probes.is_empty() {
                scripts.insert(name.clone(), self.script(&probes, &plain));
            }
        }
        let servers = self
            .cluster
            .servers
            .iter()
            .filter(|(name, _)| scripts.contains_key(*name));
        let servers = servers.map(|(name, model)| (name.clone(), model.clone())).collect();
        let scripts = &scripts;
        let outputs = on_each(self.road, &servers, within, false, |name, host| async move {
            let Some(script) = scripts.get(name) else {
                return Ok::<Option<Output>, RunError>(None);
            };
            host.run_checked(script).await.map(Some)
        })
        .await;
        for (name, outcome) in outputs {
            match outcome {
                Ok(Some(output)) => self.read(&name, &output, observed, &mut findings),
                Ok(None) => {}
                Err(error) => {
                    for pair in findings.pairs.iter_mut().filter(|pair| pair.from == name) {
                        pair.outcome = Outcome::Untried(error.to_string());
                    }
                }
            }
        }
        findings.settle_round_trips();
        findings
    }

    /// Whom a server dials, and whether the preflight answers there: where members run already, their etcd does. What can't be tried is
    /// noted in the pairs.
    fn targets(&self, from: &str, observed: &Each<Observation>, pairs: &mut Vec<Pair>) -> Vec<(Target, bool)> {
        let mut targets = Vec::new();
        if !self.checks.dials() {
            return targets;
        }
        for (to, outcome) in observed.iter().filter(|(to, _)| *to != from) {
            let Ok(there) = outcome else { continue };
            if ![from, to].iter().any(|name| self.fresh.contains(*name)) && !self.moved.contains(to) {
                continue;
            }
            let Ok(address) = self.topology.dials(from, to) else {
                continue;
            };
            let outcome = match (&there.listening, there.runs) {
                (Some(Ok(_)), _) | (None, true) => Outcome::Untried("there is no answer".to_owned()),
                (Some(Err(why)), _) => Outcome::Untried(format!("nothing can listen on {to}: {why}")),
                (None, false) => Outcome::Untried(format!("nothing listens on {to}")),
            };
            let listens = matches!(there.listening, Some(Ok(_)));
            pairs.push(Pair {
                from: from.to_owned(),
                to: to.clone(),
                address,
                expected_sources: self.sources(from, to),
                outcome,
            });
            if listens || (there.listening.is_none() && there.runs) {
                let target = Target {
                    name: to.clone(),
                    address: address.ip(),
                    port: address.port(),
                };
                targets.push((target, listens));
            }
        }
        targets
    }

    /// The addresses that one server may come from, as far as its configuration says, the likeliest first.
    fn sources(&self, from: &str, to: &str) -> Vec<IpAddr> {
        let (Ok((_, one)), Ok((_, other))) = (self.topology.find(from), self.topology.find(to)) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        if one.network == other.network {
            all.push(one.private_address);
        }
        all.extend(&one.egress_addresses);
        all.extend(one.public_address);
        all.push(one.private_address);
        all.iter().map(IpAddr::to_canonical).collect()
    }

    fn script(&self, probes: &[Target], plain: &[Target]) -> Script {
        let script = Script::new("trying the network")
            .timeout(ON_ONE)
            .set("probes", dialling::words(probes))
            .set("nonce", &self.nonce)
            .set("seconds", DIALLING.to_string())
            .line(include_str!("preflight/probe.sh"));
        dialling::append_with(script, plain, "$plain", DIALLING, 1).line("wait")
    }

    fn read(&self, name: &str, output: &Output, observed: &Each<Observation>, findings: &mut Findings) {
        let dialled = dialling::outcomes(output, DIALLING);
        let mtu = self.checks.mtu.unwrap_or(true);
        let times = self.checks.times();
        for pair in findings.pairs.iter_mut().filter(|pair| pair.from == name) {
            let listening = observed.get(&pair.to).and_then(|outcome| outcome.as_ref().ok());
            let machine = listening.and_then(|seen| seen.listening.as_ref()?.as_ref().ok());
            let lines = output.values("probe").filter_map(|line| {
                let (to, rest) = line.split_once(' ')?;
                (to == pair.to).then_some(rest)
            });
            let probed = probed(lines, &pair.to, machine.map_or("", String::as_str));
            let listens = machine.is_some();
            let plain = dialled.get(&pair.to).map(|dialled| only_dialled(dialled, listens));
            if let Some(outcome) = probed.or(plain) {
                pair.outcome = outcome;
            }
            if let Outcome::Open(trip) = &mut pair.outcome {
                if !mtu {
                    (trip.out, trip.back) = (None, None);
                }
                if !times {
                    (trip.round_trip_ms, trip.packets) = (None, None);
                }
            }
        }
    }

    /// Ends what listens, where nothing else is to be done: also on a server whose observation failed, which may have begun to before.
    pub async fn end(&self, observed: &Each<Observation>, within: Duration) {
        let began = |outcome: &Result<Observation, StepError>| match outcome {
            Ok(seen) => seen.listening.is_some(),
            Err(StepError::Run(_)) => true,
            Err(StepError::Road(_)) => false,
        };
        let listening = { self.cluster.servers.iter() }
            .filter(|(name, _)| self.asked.contains(*name) && observed.get(*name).is_some_and(began));
        let servers = listening.map(|(name, model)| (name.clone(), model.clone())).collect();
        let script = self.ending(Script::new("ending the preflight"));
        let script = &script;
        // Where that fails it ends by itself.
        on_each(self.road, &servers, within.min(ENDING), false, |_, host| async move {
            host.run_checked(script).await
        })
        .await;
    }

    /// Appends the end of what listens to a script.
    pub fn ending(&self, script: Script) -> Script {
        script
            .line(include_str!("preflight/end.sh"))
            .line(end(self.topology.cluster()))
    }

    /// Puts what stands in the way into words, as one error, and what may be lived with as one warning.
    pub fn diagnostics(&self, verdict: &Verdict) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        if !verdict.refusals.is_empty() {
            let summary = format!("The servers of cluster {} are not ready", self.cluster.name);
            let at = Path::of("servers");
            diagnostics.push(Diagnostic::error(summary, explain(&verdict.refusals)).at(at));
        }
        if !verdict.warnings.is_empty() {
            // One for all: Terraform shows only the first of several with the same summary.
            let lines: Vec<String> = verdict.warnings.iter().map(|warning| format!("{warning}.")).collect();
            let summary = format!("The preflight of cluster {} saw what may be trouble", self.cluster.name);
            let at = Path::of("servers");
            diagnostics.push(Diagnostic::warning(summary, lines.join("\n\n")).at(at));
        }
        diagnostics
    }
}

fn explain(refusals: &[Refusal]) -> String {
    let mut text = String::from("Nothing was changed on any server.\n");
    let pairs = table(refusals);
    if !pairs.is_empty() {
        let _ = write!(
            text,
            "\nThese servers do not reach each other's peer port, though something listened there:\n\n{pairs}\n\
             Open it in the firewall or security group of the server that is dialled; where that stands behind NAT, forward the port \
             to its private address. An address that is dialled is the server's private_address within its network, and its \
             public_address from the others.\n"
        );
    }
    for refusal in refusals
        .iter()
        .filter(|refusal| !matches!(refusal, Refusal::Pair { .. }))
    {
        let _ = write!(text, "\nServer {refusal}.\n");
    }
    text.push_str(
        "\nA check that is wrong about your servers can be switched off: see the cluster's attribute preflight.",
    );
    text
}

/// The unit that answers.
fn unit(cluster: &ClusterName) -> String {
    format!("preflight-etcd-{cluster}.service")
}

fn end(cluster: &ClusterName) -> String {
    format!("end_preflight {}", unit(cluster))
}

#[cfg(test)]
mod tests;
