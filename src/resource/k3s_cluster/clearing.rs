//! Servers that leave the map: whether they may, asked before anything is written, and what is taken away there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use super::{FOUNDED, K3sClusterResource, Whole, whole};
use crate::host::{MOUNTS, Script};
use crate::membership::k3s::Data;
use crate::membership::vacating::{Leaving, Listed, Refusal, There, Vacating, decide};
use crate::membership::whereabouts::{Machine, Misplaced, Server, stays_as};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::value::Value;
use crate::resource::cluster::model::ClusterModel;
use crate::resource::cluster::renaming;
use crate::resource::cluster::servers::{Each, StepError, on_each, stamp};
use crate::resource::k3s::model::K3sClusterModel;
use crate::resource::k3s::observe::{Observation, observe};
use crate::resource::k3s::{DATA, directory, talk};
use crate::resource::member::survey::{Survey, survey_as};
use crate::resource::member::turn::{Turn, take_lock};
use crate::resource::mounted;
use crate::resource::road::Road;
use crate::resource::server::model::ServerModel;
use crate::resource::talk::Talk;
use crate::resource::whereabouts;
use crate::topology::{ClusterName, translation};

/// How long a plan waits for a machine that may hold another name's k3s.
const QUESTION: Duration = Duration::from_secs(10);

/// A cluster as its state has it.
pub(super) struct Before {
    whole: Whole,
    founded: bool,
}

impl Before {
    /// Reads the state. `None` if there is none.
    pub fn of(prior: &Value) -> Option<Self> {
        if prior.is_null() {
            return None;
        }
        Some(Self {
            whole: whole(prior, prior.get("addresses"), &mut Diagnostics::new())?,
            founded: prior.get("founding").as_str() == Some(FOUNDED),
        })
    }

    /// The servers that are not in the new map.
    pub fn leaving(&self, now: &K3sClusterModel) -> BTreeMap<String, ServerModel> {
        let mut leaving = self.whole.cluster.servers.clone();
        leaving.retain(|name, _| !now.servers.contains_key(name));
        leaving
    }

    /// The name of the server that a machine's member is of. Servers that were made by an earlier version have its address alone.
    fn name_of(&self, machine: &Machine) -> Option<String> {
        let said = machine.member.as_ref()?;
        let Some(address) = said.strip_prefix('@') else {
            return Some(said.clone());
        };
        let mut members = self.whole.translation.iter().flat_map(|all| all.members());
        let found = members.find(|(_, own)| own.to_string() == address);
        found.map(|(name, _)| name.to_string())
    }

    /// What becomes of each server that is to leave. Asks the members that stay for the member list.
    pub async fn vacating(
        &self,
        road: &Road,
        stay: &BTreeMap<String, Server>,
        leaving: &Each<Observation>,
    ) -> BTreeMap<String, Vacating> {
        if leaving.is_empty() {
            return BTreeMap::new();
        }
        let embedded = self.whole.translation.is_some();
        let listed = match self.founded && embedded {
            true => self.listed(road).await,
            false => None,
        };
        let decided = leaving.iter().map(|(name, outcome)| {
            let there = outcome.as_ref().ok().map(|seen| There {
                runs: seen.holding.runs,
                data: (seen.holding.data == Data::Etcd).then(|| DATA.to_owned()),
                stays_as: stays_as(&seen.machine, stay).map(str::to_owned),
            });
            let listed = match &listed {
                Some(members) => members.get(name).map_or(Listed::No, |id| Listed::Yes(*id)),
                None => Listed::Unknown,
            };
            // Without an etcd of its own k3s has no vote that a server that is gone could take along.
            let decision = match there {
                None if !embedded || !self.founded => Vacating::LeftBehind,
                there => decide(&Leaving { there, listed }),
            };
            (name.clone(), decision)
        });
        decided.collect()
    }

    /// The IDs of the members by the names of their servers. `None` if no quorum answers.
    async fn listed(&self, road: &Road) -> Option<BTreeMap<String, u64>> {
        let etcd = self.whole.cluster.as_etcd();
        Some(members(&self.survey(road, &etcd).await?))
    }

    async fn survey(&self, road: &Road, etcd: &ClusterModel) -> Option<Survey> {
        let Whole {
            cluster,
            topology,
            translation,
        } = &self.whole;
        let tls = talk::borrowed(road, cluster, "").await?;
        let talk = Talk::new(road, etcd, topology, Some(tls)).with_peer_urls(translation.as_ref()?.peer_urls());
        survey_as(&talk, "", None, topology).await
    }

    /// Waits for the cluster's lock, and looks at the member list again. Returns those of the servers whose members it still does not have.
    async fn under_lock(
        &self,
        road: &Road,
        servers: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<(Turn, BTreeSet<String>), String> {
        let etcd = self.whole.cluster.as_etcd();
        let no_quorum = || "no quorum of the cluster answers any more".to_owned();
        let mut turn = Turn::take(&road.session(self.whole.cluster.id()), deadline)
            .await
            .map_err(|error| error.to_string())?;
        let survey = self.survey(road, &etcd).await.ok_or_else(no_quorum)?;
        turn.lock(take_lock(&survey, deadline))
            .await
            .map_err(|error| error.to_string())?;
        let Some(survey) = self.survey(road, &etcd).await else {
            turn.end().await;
            return Err(no_quorum());
        };
        let listed = members(&survey);
        let unlisted = servers.iter().filter(|name| !listed.contains_key(*name));
        Ok((turn, unlisted.cloned().collect()))
    }
}

fn members(survey: &Survey) -> BTreeMap<String, u64> {
    survey.names.iter().map(|(id, name)| (name.clone(), *id)).collect()
}

/// The servers of a map with the machines that answered.
pub(super) fn places(
    whole: &Whole,
    prior: &Value,
    before: Option<&Before>,
    observed: &Each<Observation>,
) -> BTreeMap<String, Server> {
    let moved = |name: &str| {
        let there = prior.at(&["servers", name]);
        there.is_null()
    };
    whereabouts::servers(&whole.topology, moved, |name| {
        let seen = observed.get(name)?.as_ref().ok()?;
        let mut machine = seen.machine.clone();
        let holds = seen.holding.runs || seen.holding.data == Data::Etcd;
        let ours = seen.holding.id.as_deref() == Some(whole.cluster.id());
        machine.member = before
            .filter(|_| holds && ours)
            .and_then(|before| before.name_of(&machine));
        Some(machine)
    })
}

/// Refuses a plan that gives a name to the machine that holds another name's k3s: that one would be deleted before the update could refuse.
pub(super) async fn refuse_shifted(road: &Road, prior: &Value, planned: &Value) -> Option<Diagnostic> {
    let shifted = renaming::shifted(prior, planned);
    if shifted.is_empty() {
        return None;
    }
    let before = Before::of(prior).filter(|before| before.founded)?;
    let cluster = &before.whole.cluster;
    let mut asked = cluster.servers.clone();
    asked.retain(|name, _| shifted.values().any(|other| other == name));
    let observed = on_each(road, &asked, QUESTION, false, |_, host| async move {
        observe(&host, cluster).await
    })
    .await;
    let there = places(&before.whole, prior, Some(&before), &observed);
    let wrong = shifted.into_iter().filter(|(_, other)| {
        let machine = there.get(other).and_then(|server| server.machine.as_ref());
        machine.is_some_and(|machine| machine.member.as_ref() == Some(other))
    });
    let wrong: BTreeMap<_, _> = wrong
        .map(|(name, other)| (name, vec![Misplaced::OtherMember(other)]))
        .collect();
    (!wrong.is_empty()).then(|| whereabouts::refusal(&cluster.name, &wrong, &renaming::models(planned)))
}

/// One error for all servers that may not leave the map.
pub(super) fn refusal(cluster: &K3sClusterModel, vacating: &BTreeMap<String, Vacating>) -> Option<Diagnostic> {
    let refused = vacating.iter().filter_map(|(name, decision)| match decision {
        Vacating::Refuse(refusal) => Some((name, refusal)),
        _ => None,
    });
    let refused: Vec<(&String, &Refusal)> = refused.collect();
    let (first, _) = refused.first()?;
    let mut detail = String::from("Nothing was changed on any server.\n\n");
    for (name, refusal) in &refused {
        let _ = writeln!(detail, "Server {name} can't leave: {refusal}.");
    }
    let _ = write!(
        detail,
        "\nk3s leaves before its server does. If no state has the etcd_k3s_server any more, put server {first} back into `servers`, with an \
         etcd_k3s_server on it, and apply: it is taken over as it is. Then remove both, and apply."
    );
    let listed = refused.iter().find_map(|(name, refusal)| match refusal {
        Refusal::Listed(id) => Some((name, id)),
        _ => None,
    });
    if let Some((name, id)) = listed {
        let tls = format!("{DATA}/server/tls/etcd");
        let other = cluster.servers.keys().next().map_or("another server", String::as_str);
        let _ = write!(
            detail,
            "\nOr remove the member of {name} by hand. Run as root on {other}:\n  etcdctl --endpoints=https://127.0.0.1:2379 \
             --cacert={tls}/server-ca.crt --cert={tls}/client.crt --key={tls}/client.key member remove {id:x}\nThen apply again: what is \
             left of k3s on {name} is stopped, and its data is kept there."
        );
    }
    let summary = match refused.as_slice() {
        [(name, _)] => format!("The cluster is still in use on server {name}"),
        _ => "The cluster is still in use on servers that are to go".to_owned(),
    };
    Some(Diagnostic::error(summary, detail).at(Path::of("servers")))
}

impl K3sClusterResource {
    /// Takes the cluster off the servers that left it. Returns those that it could not be taken off: they are still the cluster's.
    pub(super) async fn clear_removed(
        &self,
        before: Option<&Before>,
        vacating: &BTreeMap<String, Vacating>,
        leaving: &Each<Observation>,
        within: Duration,
    ) -> (BTreeSet<String>, Diagnostics) {
        let (mut kept, mut diagnostics) = (BTreeSet::new(), Diagnostics::new());
        let Some(before) = before else {
            return (kept, diagnostics);
        };
        let of = |names: &BTreeSet<String>| {
            let mut cluster = before.whole.cluster.clone();
            cluster.servers.retain(|name, _| names.contains(name));
            cluster
        };
        let decided = |decision: &Vacating| -> BTreeSet<String> {
            let all = vacating.iter().filter(|(_, one)| *one == decision);
            all.map(|(name, _)| name.clone()).collect()
        };
        let mut take = |(refused, said): (BTreeSet<String>, Diagnostics)| {
            kept.extend(refused);
            diagnostics.append(said);
        };
        take(
            self.clear(&of(&decided(&Vacating::TakeIfEmpty)), within, "refuse")
                .await,
        );
        let remains = decided(&Vacating::Take);
        if !remains.is_empty() {
            match before.under_lock(&self.road, &remains, Instant::now() + within).await {
                Ok((turn, unlisted)) => {
                    take(self.clear(&of(&unlisted), within, "take").await);
                    turn.end().await;
                    let listed: BTreeSet<String> = remains.difference(&unlisted).cloned().collect();
                    let said = listed
                        .iter()
                        .map(|name| remains_of(name, "another run has added its member again"));
                    take((listed.clone(), said.collect()));
                }
                Err(why) => {
                    let said = remains.iter().map(|name| remains_of(name, &why));
                    take((remains.clone(), said.collect()));
                }
            }
        }
        for name in vacating
            .iter()
            .filter(|(_, decision)| **decision == Vacating::LeftBehind)
            .map(|(name, _)| name)
        {
            if let Some(Err(error)) = leaving.get(name) {
                diagnostics.push(not_cleared(&before.whole.cluster, name, &error.to_string()));
            }
        }
        (kept, diagnostics)
    }

    /// Takes the cluster off all of its servers. Returns those that refused, or on which that failed.
    pub(super) async fn clear(
        &self,
        cluster: &K3sClusterModel,
        within: Duration,
        data: &str,
    ) -> (BTreeSet<String>, Diagnostics) {
        let cleared = on_each(&self.road, &cluster.servers, within, false, |_, host| async move {
            let table = ClusterName::parse(&cluster.name).map(|name| translation::table_name(&name));
            let script = Script::new("taking the cluster off the server")
                .set("cluster", &cluster.name)
                .set("id", cluster.id())
                .set("table", table.unwrap_or_default())
                .set("stamp", stamp())
                .set("data", data)
                .line(MOUNTS)
                .line(include_str!("../k3s/remove.sh"))
                .line(include_str!("clear.sh"));
            host.run_checked(&script).await
        })
        .await;
        let (mut refused, mut diagnostics) = (BTreeSet::new(), Diagnostics::new());
        for (name, outcome) in cleared {
            let at = Path::of("servers").key(&name);
            match outcome {
                Ok(output) => {
                    if output.value("runs").is_some() {
                        refused.insert(name.clone());
                        let detail = "k3s runs there, and would not reach the others any more. It was left as it is. If its etcd_k3s_server is in the \
                                      state, take it out in an apply of its own, and then the server. If no state knows it, leave the server in \
                                      `servers` and add its etcd_k3s_server: `terraform apply` takes it over.";
                        let summary = format!("The cluster is still in use on server {name}");
                        diagnostics.push(Diagnostic::error(summary, detail).at(at.clone()));
                    }
                    if let Some(detail) = mounted::refusal(&name, &mounted::read(&output), "k3s is stopped there.") {
                        refused.insert(name.clone());
                        let summary = format!("Server {name} could not be cleared");
                        diagnostics.push(Diagnostic::error(summary, detail).at(at.clone()));
                    }
                    if output.value("holds").is_some() {
                        refused.insert(name.clone());
                        let detail = "It did not leave the cluster, and may be the last that has its data. Bring its etcd_k3s_server back, \
                                      apply, and take it out when others have joined. If the data is not needed, move \
                                      /var/lib/rancher/k3s away there.";
                        let summary = format!("The cluster has data on server {name}");
                        diagnostics.push(Diagnostic::error(summary, detail).at(at.clone()));
                    }
                    if let Some(path) = output.value("kept") {
                        let detail = format!("It is in {path} there.");
                        diagnostics.push(Diagnostic::warning(format!("Data was kept on server {name}"), detail));
                    }
                    if let Some(other) = output.value("other") {
                        let detail = format!("It belongs to a cluster of the same name with another ID, {other}.");
                        diagnostics.push(Diagnostic::warning(format!("Server {name} was left as it is"), detail));
                    }
                }
                Err(StepError::Road(error)) => diagnostics.push(not_cleared(cluster, &name, &error.to_string())),
                Err(StepError::Run(error)) => {
                    refused.insert(name.clone());
                    diagnostics.push(
                        Diagnostic::error(format!("Server {name} could not be cleared"), error.to_string()).at(at),
                    );
                }
            }
        }
        (refused, diagnostics)
    }
}

fn remains_of(name: &str, why: &str) -> Diagnostic {
    let detail =
        format!("What is left of k3s there was not touched: {why}. Server {name} stays in the state. Apply again.");
    Diagnostic::error(format!("Server {name} could not be cleared"), detail).at(Path::of("servers"))
}

fn not_cleared(cluster: &K3sClusterModel, name: &str, why: &str) -> Diagnostic {
    Diagnostic::warning(
        format!("Server {name} was not cleared"),
        format!(
            "It could not be reached, so {} and its units there stay: {why}",
            directory(&cluster.name)
        ),
    )
}
