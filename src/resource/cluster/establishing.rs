//! Bringing a cluster about on its servers: its founding, if that is still to come, and every server's view.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::answering::answered_by_others;
use super::clearing::{self, Before};
use super::model::ClusterModel;
use super::preflight::Preflight;
use super::restoring::Restoring;
use super::servers::{Each, Observation, Permit, StepError, observe_and_borrow, on_each, prepare, seen};
use crate::etcd::snapshot::Facts;
use crate::membership::founding::{Founding, Refusal, Seen, found, found_again};
use crate::membership::preflight::{Findings, judge};
use crate::membership::vacating::Vacating;
use crate::membership::whereabouts::{Misplaced, misplaced};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::road::Road;
use crate::resource::talk::Lent;
use crate::resource::whereabouts;
use crate::topology::Topology;

/// What is to be done on the servers.
pub enum Wish {
    /// A new cluster.
    Found,
    /// A cluster that was not seen to be founded yet, as its state has it.
    FoundAgain(Box<ClusterModel>),
    /// Only the views.
    Views,
}

/// A change of a cluster.
pub struct Change<'a> {
    /// What is to be done on the servers.
    pub wish: &'a Wish,
    /// The cluster as its state has it; `None` if it is new.
    pub before: Option<&'a Before>,
    /// The servers that come, or are at another place now.
    pub fresh: BTreeSet<String>,
    /// Those whose members run, and are to listen for peers at another port.
    pub moved: BTreeSet<String>,
}

/// What was done.
#[derive(Default)]
pub struct Established {
    /// Whether anything was written on any server.
    pub wrote: bool,
    /// The servers that found it together, where that was decided.
    pub founders: Option<BTreeSet<String>>,
    /// Whether it was seen to be founded, by other servers than it has now.
    pub founded: bool,
    /// Servers that were not reached, and don't have their view yet.
    pub unwritten: BTreeSet<String>,
    /// Servers on which writing failed.
    pub failed: BTreeSet<String>,
    /// What becomes of the servers that leave.
    pub vacating: BTreeMap<String, Vacating>,
    /// A certificate to talk to the members with, if servers leave.
    pub lent: Option<Lent>,
    /// Why servers that leave were not reached.
    pub left_behind: BTreeMap<String, String>,
    /// The snapshot that it is founded from, where it was brought to the servers.
    pub restored: Option<Facts>,
    /// What the preflight found.
    pub findings: Findings,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// Observes all servers, decides, tries the network and the disks of those that are `fresh` and the new ports of those that are `moved`, and
/// only then writes: views, and permits
/// where it is to found. Where only views are to be written a server that can't be reached does not keep the others from theirs.
pub async fn establish(
    road: &Road,
    cluster: &ClusterModel,
    topology: &Topology,
    change: Change<'_>,
    within: Duration,
) -> Established {
    let Change {
        wish,
        before,
        fresh,
        moved,
    } = change;
    let placed = fresh.clone();
    let mut established = Established::default();
    let mut permits = false;
    let mut restoring = None;
    if matches!(wish, Wish::Found) {
        match Restoring::read(cluster).await {
            Ok(read) => restoring = read,
            Err(diagnostic) => {
                established.diagnostics.push(diagnostic);
                return established;
            }
        }
    }
    let mut preflight = match Preflight::new(road, cluster, topology, fresh, moved) {
        Ok(preflight) => preflight,
        Err(diagnostic) => {
            established.diagnostics.push(diagnostic);
            return established;
        }
    };
    let leave = before.map(|before| before.leaving(cluster)).unwrap_or_default();
    let looks = !matches!(wish, Wish::Views) || preflight.is_due() || !leave.is_empty();
    if looks {
        let started = Instant::now();
        let borrow = !leave.is_empty();
        let look = async |servers, flight: Option<&Preflight<'_>>| {
            on_each(road, servers, within, false, |name, host| async move {
                observe_and_borrow(&host, topology, name, flight, borrow).await
            })
            .await
        };
        let (mut observed, mut leaving) = tokio::join!(look(&cluster.servers, Some(&preflight)), look(&leave, None));
        let gone = match wish {
            Wish::FoundAgain(before) => {
                let founders = before.founders();
                let mut removed = seen(&leaving);
                removed.retain(|name, _| founders.contains(name));
                Some((founders, removed))
            }
            Wish::Found | Wish::Views => None,
        };
        preflight.forget(&mut observed);
        for observation in observed.values_mut().chain(leaving.values_mut()).flatten() {
            observation.compare_token(cluster.token());
        }
        let places = whereabouts::servers(
            topology,
            |name| placed.contains(name),
            |name| observed.get(name)?.as_ref().ok().map(|seen| seen.machine.clone()),
        );
        // The founding has its own word for servers of other clusters.
        let founds = !matches!(wish, Wish::Views);
        let mut wrong = misplaced(&places);
        for wrong in wrong.values_mut().filter(|_| founds) {
            wrong.retain(|one| !matches!(one, Misplaced::OtherCluster(_)));
        }
        wrong.retain(|_, wrong| !wrong.is_empty());
        if let (Some(before), true) = (before, wrong.is_empty()) {
            wrong = answered_by_others(road, before, cluster, topology, &placed, &observed).await;
        }
        if !wrong.is_empty() {
            let refusal = whereabouts::refusal(&cluster.name, &wrong, &cluster.servers);
            established.diagnostics.push(refusal);
            preflight.end(&observed, within).await;
            return established;
        }
        let servers: BTreeMap<String, Seen> = seen(&observed);
        let decision = match (wish, gone) {
            (Wish::Views, _) => Founding::Underway,
            (_, None) => found(cluster.token(), &servers),
            (_, Some((founders, removed))) => {
                let decision = found_again(cluster.token(), &founders, &servers, &removed);
                let names: BTreeSet<String> = cluster.servers.keys().cloned().collect();
                established.founded = decision == Founding::Underway && names != founders;
                established.founders = Some(founders);
                decision
            }
        };
        match decision {
            Founding::Permit(_) => {
                permits = true;
                if matches!(wish, Wish::FoundAgain(_)) {
                    match Restoring::read(cluster).await {
                        Ok(read) => restoring = read,
                        Err(diagnostic) => {
                            established.diagnostics.push(diagnostic);
                            preflight.end(&observed, within).await;
                            return established;
                        }
                    }
                }
                established.founders = Some(cluster.servers.keys().cloned().collect());
            }
            Founding::Underway => {}
            Founding::Refused(reasons) => {
                established.diagnostics = refusals(&cluster.name, &reasons);
                preflight.end(&observed, within).await;
                return established;
            }
        }
        if permits {
            established
                .diagnostics
                .append(set_aside(cluster, &observed).into_iter().collect());
        }
        if let Some(before) = before {
            let founded = before.founded || before.recovers || established.founded;
            let vacating = before.vacating(road, founded, &places, &observed, &leaving).await;
            if let Some(refusal) = clearing::refusal(before, topology, &vacating) {
                established.diagnostics.push(refusal);
                preflight.end(&observed, within).await;
                return established;
            }
            established.vacating = vacating;
            established.lent = clearing::lent(observed.values().chain(leaving.values()));
            let unreached = leaving
                .iter()
                .filter_map(|(name, outcome)| Some((name, outcome.as_ref().err()?)));
            established.left_behind = unreached
                .map(|(name, error)| (name.clone(), error.to_string()))
                .collect();
        }
        preflight.keep_clean(&observed);
        if preflight.is_due() {
            established.findings = preflight.run(&observed, within).await;
            established
                .diagnostics
                .append(preflight.diagnostics(&judge(&established.findings)));
            let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(millis, servers = cluster.servers.len(), "preflight");
            if established.diagnostics.has_errors() {
                preflight.end(&observed, within).await;
                return established;
            }
        }
        if let (true, Some(restoring)) = (permits, &restoring) {
            // From here on there is something to take away again.
            established.wrote = true;
            established.restored = Some(restoring.facts().clone());
            established
                .diagnostics
                .append(restoring.bring(road, cluster, within).await);
            if established.diagnostics.has_errors() {
                preflight.end(&observed, within).await;
                return established;
            }
        }
    }
    let preflight = looks.then_some(&preflight);
    let order = restoring.as_ref().map(|restoring| restoring.order(cluster, topology));
    let order = order.as_ref();
    let written = on_each(road, &cluster.servers, within, false, |name, host| async move {
        let permit = permits.then_some(Permit { order });
        prepare(&host, topology, name, cluster.token(), permit, preflight).await
    })
    .await;
    established.wrote = true;
    established.note(written, wish);
    established
}

impl Established {
    fn note(&mut self, outcomes: Each<()>, wish: &Wish) {
        for (name, outcome) in outcomes {
            let at = Path::of("servers").key(&name);
            match outcome {
                Ok(()) => {}
                Err(error) if matches!(wish, Wish::Views) && error.is_of_the_connection() => {
                    // A script that was sent before the connection was lost has run, or it has not.
                    let (is, are) = match error {
                        StepError::Run(_) => ("may be", "may be"),
                        StepError::Road(_) => ("is", "are"),
                    };
                    let detail = format!(
                        "Its /etc/hosts {is} as it was, and so {are} the addresses by which it reaches the others; a later apply brings \
                         them up to date. All the same, if it is gone for good, take it out of the configuration or give it its new \
                         machine's addresses. {error}"
                    );
                    let summary = format!("Server {name} was not reached");
                    self.diagnostics.push(Diagnostic::warning(summary, detail).at(at));
                    self.unwritten.insert(name);
                }
                Err(error) => {
                    self.diagnostics.push(
                        Diagnostic::error(
                            format!("Server {name} is not ready"),
                            format!("Its view could not be written: {error}"),
                        )
                        .at(at),
                    );
                    self.failed.insert(name);
                }
            }
        }
    }
}

/// One error for the whole decision, with all servers that stand in its way.
fn refusals(cluster: &str, reasons: &BTreeMap<String, Vec<Refusal>>) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let is_there = |reason: &Refusal| matches!(reason, Refusal::OtherCluster(_) | Refusal::HoldsData(_));
    let mut is_there = reasons.values().flatten().any(is_there);
    for (server, reasons) in reasons {
        let mut detail = String::new();
        for reason in reasons {
            let _ = writeln!(detail, "Server {server} {reason}.");
        }
        detail.push_str("A cluster is founded on all of its servers or on none: nothing was changed on any server.");
        if std::mem::take(&mut is_there) {
            detail.push_str(&how_to_keep(cluster));
        }
        let at = Path::of("servers").key(server);
        let at = match reasons.first() {
            Some(Refusal::PortTaken(..)) => at.attribute("peer_port"),
            _ => at,
        };
        diagnostics.push(Diagnostic::error(format!("Cluster {cluster} can't be founded"), detail).at(at));
    }
    diagnostics
}

/// Says where data of a former cluster of this name lies, before an empty one is founded.
fn set_aside(cluster: &ClusterModel, observed: &Each<Observation>) -> Option<Diagnostic> {
    let places = observed.iter().filter_map(|(server, outcome)| {
        let aside = &outcome.as_ref().ok()?.aside;
        (!aside.is_empty()).then(|| format!("on server {server}: {}", aside.join(", ")))
    });
    let places: Vec<String> = places.collect();
    if places.is_empty() || cluster.restore.is_some() {
        return None;
    }
    let detail = format!(
        "Data of a former cluster of this name was set aside ({}). The new cluster does not have it. If you want it back, see \"Back from data \
         that was set aside\" in the guide on disaster recovery. If not, delete it.",
        places.join("; ")
    );
    let summary = format!("The cluster {} is founded empty", cluster.name);
    Some(Diagnostic::warning(summary, detail).at(Path::of("servers")))
}

/// What to write if the cluster that is on the servers is the one that is wanted.
fn how_to_keep(cluster: &str) -> String {
    format!(
        "\n\nIf the resources of this cluster got other addresses in the configuration, write a block for each of them, and apply:\n\n\
         moved {{\n  from = etcd_cluster.<old>\n  to   = etcd_cluster.<new>\n}}\n\n\
         If its state was lost, import it, its etcd_servers and its etcd_members. The guide \"Taking Over a Cluster\" has all lines:\n\n\
         import {{\n  to = etcd_cluster.<label>\n  id = jsonencode({{ name = {cluster:?}, servers = local.servers }})\n}}"
    )
}

/// The servers that don't have their view, as they are kept beside the state.
pub fn to_private(unwritten: &BTreeSet<String>) -> Vec<u8> {
    unwritten.iter().cloned().collect::<Vec<_>>().join(" ").into_bytes()
}

/// What [`to_private`] kept.
pub fn from_private(private: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(private);
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::RunError;

    /// Seen with a site cut off while addresses moved: nobody dialled the others where they were, as one server's view was not known.
    #[test]
    fn a_server_that_is_cut_off_does_not_keep_the_others_from_their_views() {
        let outcomes = || {
            let lost = RunError::ConnectionLost {
                server: "b1".into(),
                title: "writing the server's view".into(),
                sent: true,
                detail: "the server sent nothing for 45 s".into(),
            };
            Each::from([("a1".to_owned(), Ok(())), ("b1".to_owned(), Err(StepError::Run(lost)))])
        };
        let mut views = Established::default();
        views.note(outcomes(), &Wish::Views);
        assert!(!views.diagnostics.has_errors());
        assert_eq!(views.unwritten, BTreeSet::from(["b1".to_owned()]));
        // To found it takes all of them.
        let mut founds = Established::default();
        founds.note(outcomes(), &Wish::Found);
        assert!(founds.diagnostics.has_errors());
    }
}
