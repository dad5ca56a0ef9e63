//! Servers that leave the map: whether they may, asked before any view is written, and what is taken away there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::ClusterResource;
use super::establishing::Established;
use super::model::ClusterModel;
use super::servers::{self, Each, Members, Observation, StepError, on_each};
use crate::membership::vacating::{Leaving, Listed, Refusal, There, Vacating, decide};
use crate::membership::whereabouts::{Server, stays_as};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::value::{Value, from_value};
use crate::resource::member::survey::{Survey, survey_as};
use crate::resource::member::turn::{Turn, take_lock};
use crate::resource::mounted;
use crate::resource::road::Road;
use crate::resource::server::model::ServerModel;
use crate::resource::talk::{Lent, Talk};
use crate::topology::Topology;

/// A cluster as its state has it.
pub struct Before {
    /// The cluster, with its authorities.
    pub cluster: ClusterModel,
    /// Its servers.
    pub topology: Topology,
    /// Whether it was founded.
    pub founded: bool,
    /// Whether this change recovers it: then no member list counts, and what is lost was said to be.
    pub recovers: bool,
}

impl Before {
    /// Reads the state. `None` if there is none.
    pub fn of(prior: &Value, recovers: bool) -> Option<Self> {
        if prior.is_null() {
            return None;
        }
        Some(Self {
            cluster: from_value(&prior.unknown_as_null()).ok()?,
            topology: super::model::topology(prior, &Path::root(), &mut Diagnostics::new())?,
            founded: prior.get("founding").as_str() == Some(super::plan::FOUNDED),
            recovers,
        })
    }

    /// The servers that are not in the new map.
    pub fn leaving(&self, now: &ClusterModel) -> BTreeMap<String, ServerModel> {
        let mut leaving = self.cluster.servers.clone();
        leaving.retain(|name, _| !now.servers.contains_key(name));
        leaving
    }

    /// What becomes of each server that is to leave. Asks the members that stay for the member list.
    pub async fn vacating(
        &self,
        road: &Road,
        founded: bool,
        stay: &BTreeMap<String, Server>,
        staying: &Each<Observation>,
        leaving: &Each<Observation>,
    ) -> BTreeMap<String, Vacating> {
        if leaving.is_empty() {
            return BTreeMap::new();
        }
        let listed = match founded && !self.recovers {
            true => self.listed(road, staying, leaving).await,
            false => None,
        };
        let decided = leaving.iter().map(|(name, outcome)| {
            let there = outcome.as_ref().ok().map(|seen| There {
                runs: seen.runs,
                data: seen.holding.data.clone(),
                stays_as: stays_as(&seen.machine, stay).map(str::to_owned),
            });
            let decision = if founded && !self.recovers {
                let listed = match &listed {
                    None => Listed::Unknown,
                    Some(members) => members.get(name).map_or(Listed::No, |id| Listed::Yes(*id)),
                };
                decide(&Leaving { there, listed })
            } else {
                match there {
                    None => Vacating::LeftBehind,
                    Some(There {
                        stays_as: Some(name), ..
                    }) => Vacating::Stays(name),
                    Some(_) if founded => Vacating::TakeIfEmpty,
                    Some(_) => Vacating::Take,
                }
            };
            (name.clone(), decision)
        });
        decided.collect()
    }

    /// The IDs of the members by the names of their servers. `None` if no quorum answers.
    async fn listed(
        &self,
        road: &Road,
        staying: &Each<Observation>,
        leaving: &Each<Observation>,
    ) -> Option<BTreeMap<String, u64>> {
        let talk = Talk::borrow(
            road,
            &self.cluster,
            &self.topology,
            lent(staying.values().chain(leaving.values())),
        )?;
        let survey = survey_as(&talk, "", None, &self.topology).await?;
        Some(self.members(&survey))
    }

    fn members(&self, survey: &Survey) -> BTreeMap<String, u64> {
        let members = survey.list.entries.iter();
        members.filter_map(|one| Some((one.server.clone()?, one.id))).collect()
    }

    /// Waits for the cluster's lock, and looks at the member list again. Returns those of the servers whose members it still does not have.
    async fn under_lock(
        &self,
        road: &Road,
        lent: Option<Lent>,
        servers: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<(Turn, BTreeSet<String>), String> {
        let no_quorum = || "no quorum of the cluster answers any more".to_owned();
        let talk = Talk::borrow(road, &self.cluster, &self.topology, lent).ok_or_else(no_quorum)?;
        let mut turn = Turn::take(&road.session(self.cluster.token()), deadline)
            .await
            .map_err(|error| error.to_string())?;
        let look = async || survey_as(&talk, "", None, &self.topology).await.ok_or_else(no_quorum);
        let survey = look().await?;
        turn.lock(take_lock(&survey, deadline))
            .await
            .map_err(|error| error.to_string())?;
        let listed = match look().await {
            Ok(survey) => self.members(&survey),
            Err(why) => {
                turn.end().await;
                return Err(why);
            }
        };
        let unlisted = servers.iter().filter(|name| !listed.contains_key(*name));
        Ok((turn, unlisted.cloned().collect()))
    }
}

/// A certificate to talk to the members with, from any server that lent one.
pub fn lent<'a>(mut observed: impl Iterator<Item = &'a Result<Observation, StepError>>) -> Option<Lent> {
    observed.find_map(|outcome| outcome.as_ref().ok()?.lent.clone())
}

/// One error for all servers that may not leave the map.
pub fn refusal(before: &Before, now: &Topology, vacating: &BTreeMap<String, Vacating>) -> Option<Diagnostic> {
    let refused = vacating.iter().filter_map(|(name, decision)| match decision {
        Vacating::Refuse(refusal) => Some((name, refusal)),
        _ => None,
    });
    let refused: Vec<(&String, &Refusal)> = refused.collect();
    let (first, _) = refused.first()?;
    let cluster = &before.cluster.name;
    let mut detail = String::from("Nothing was changed on any server.\n\n");
    for (name, refusal) in &refused {
        let _ = writeln!(detail, "Server {name} can't leave: {refusal}.");
    }
    let _ = write!(
        detail,
        "\nA member leaves before its server does. If no state has the member any more, there are two ways.\n\
         1. Put server {first} back into `servers`, with an etcd_member on it, and apply: the member is taken over as it is. Then remove \
         both, and apply."
    );
    let listed = refused.iter().find_map(|(name, refusal)| match refusal {
        Refusal::Listed(id) => Some((name, id)),
        _ => None,
    });
    let other = now
        .servers()
        .iter()
        .find(|(name, _)| before.cluster.servers.contains_key(name.as_str()));
    if let (Some((name, id)), Some((other, place))) = (listed, other) {
        let endpoint = SocketAddr::new(place.loopback(), place.client_port);
        let scheme = now.scheme();
        let certificates = if before.cluster.tls_enabled() {
            format!(
                " --cacert=/etc/etcd/{cluster}/pki/client-ca.crt --cert=/etc/etcd/{cluster}/pki/operator.crt \
                 --key=/etc/etcd/{cluster}/pki/operator.key"
            )
        } else {
            String::new()
        };
        let _ = write!(
            detail,
            "\n2. Remove the member of {name} by hand. Run as root on {other}:\n  etcdctl --endpoints={scheme}://{endpoint}{certificates} \
             member remove {id:x}\nThen apply again: what is left of the member on {name} is stopped, and its data is kept there."
        );
    } else {
        let _ = write!(
            detail,
            "\n2. Bring the quorum of cluster {cluster} back, and apply again: then the member list says which members have a vote."
        );
    }
    let summary = match refused.as_slice() {
        [(name, _)] => format!("The member of server {name} has not left the cluster"),
        _ => "Members have not left the cluster, and their servers are to go".to_owned(),
    };
    Some(Diagnostic::error(summary, detail).at(Path::of("servers")))
}

impl ClusterResource {
    /// Takes the cluster off the servers that left it. Returns those that it could not be taken off: they are still the cluster's.
    pub(super) async fn clear_removed(
        &self,
        before: &Before,
        established: &Established,
        within: Duration,
    ) -> (BTreeSet<String>, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let mut kept = BTreeSet::new();
        let of = |names: &BTreeSet<String>| {
            let mut cluster = before.cluster.clone();
            cluster.servers.retain(|name, _| names.contains(name));
            cluster
        };
        let decided = |decision: &Vacating| -> BTreeSet<String> {
            let all = established.vacating.iter();
            all.filter(|(_, one)| *one == decision)
                .map(|(name, _)| name.clone())
                .collect()
        };
        let mut take = |(refused, said): (BTreeSet<String>, Diagnostics)| {
            kept.extend(refused);
            diagnostics.append(said);
        };
        let empty = of(&decided(&Vacating::TakeIfEmpty));
        take(self.clear(&empty, &before.topology, within, Members::Refuse).await);
        let remains = decided(&Vacating::Take);
        if !before.founded && !before.recovers && !established.founded {
            // Nobody has a vote yet.
            take(self.clear(&of(&remains), &before.topology, within, Members::Take).await);
        } else if !remains.is_empty() {
            let deadline = Instant::now() + within;
            match before
                .under_lock(&self.road, established.lent.clone(), &remains, deadline)
                .await
            {
                Ok((turn, unlisted)) => {
                    take(
                        self.clear(&of(&unlisted), &before.topology, within, Members::Take)
                            .await,
                    );
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
        for (name, decision) in &established.vacating {
            if let (Vacating::LeftBehind, Some(why)) = (decision, established.left_behind.get(name)) {
                diagnostics.push(not_cleared(&before.cluster, name, why));
            }
        }
        (kept, diagnostics)
    }

    /// Takes the cluster off all of its servers. Returns those that refused, or on which that failed.
    pub(super) async fn clear(
        &self,
        cluster: &ClusterModel,
        topology: &Topology,
        within: Duration,
        members: Members,
    ) -> (BTreeSet<String>, Diagnostics) {
        let cleared = on_each(&self.road, &cluster.servers, within, false, |name, host| async move {
            servers::clear(&host, topology, name, cluster.token(), members).await
        })
        .await;
        let mut diagnostics = Diagnostics::new();
        let mut refused = BTreeSet::new();
        for (name, outcome) in cleared {
            let at = Path::of("servers").key(&name);
            match outcome {
                Ok(cleared) => {
                    let mounted = mounted::refusal(&name, &cleared.mounted, "Nothing was changed there.");
                    if cleared.runs || cleared.holds.is_some() || mounted.is_some() {
                        refused.insert(name.clone());
                    }
                    if cleared.runs {
                        let detail = format!(
                            "Its member runs, and holds data of a cluster that was founded. It was left as it is. If its etcd_member is in \
                             the state, leave server {name} in `servers`, take the member out in an apply of its own, and then the server: with \
                             `create_before_destroy` Terraform deletes members last. If no state knows the member, leave server {name} in \
                             `servers` and add its etcd_member: `terraform apply` takes it over.",
                        );
                        diagnostics.push(
                            Diagnostic::error(format!("The cluster is still in use on server {name}"), detail).at(at),
                        );
                    } else if let Some(directory) = cleared.holds {
                        let detail = format!(
                            "{directory} there holds the data of a member of this cluster, which did not leave it: the last one that ran, or \
                             one that no state knows of. Bring server {name} back into `servers` with a member on it, apply, and take it out \
                             when others have joined. If the data is not needed, move it away."
                        );
                        diagnostics
                            .push(Diagnostic::error(format!("The cluster has data on server {name}"), detail).at(at));
                    } else if let Some(detail) = mounted {
                        diagnostics
                            .push(Diagnostic::error(format!("Server {name} could not be cleared"), detail).at(at));
                    }
                    if let Some(token) = cleared.other {
                        diagnostics.push(Diagnostic::warning(
                            format!("Server {name} was left as it is"),
                            format!("It belongs to a cluster of the same name with another token, {token:?}."),
                        ));
                    }
                    if let Some(member) = cleared.anothers {
                        diagnostics.push(Diagnostic::warning(
                            format!("Server {name} was left as it is"),
                            format!("The machine holds the member {member} of the same cluster, and that one's files were not touched."),
                        ));
                    }
                    if let Some(directory) = cleared.kept {
                        diagnostics.push(Diagnostic::warning(
                            format!("Data was kept on server {name}"),
                            format!("A member that no state knew of was taken away. Its data is in {directory} there."),
                        ));
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
    let detail = format!(
        "What is left of a member there was not touched: {why}. Server {name} stays in the state. Apply again."
    );
    Diagnostic::error(format!("Server {name} could not be cleared"), detail).at(Path::of("servers"))
}

fn not_cleared(cluster: &ClusterModel, name: &str, why: &str) -> Diagnostic {
    Diagnostic::warning(
        format!("Server {name} was not cleared"),
        format!(
            "It could not be reached, so the cluster's block in its /etc/hosts and /etc/etcd/{} stay: {why}",
            cluster.name
        ),
    )
}
