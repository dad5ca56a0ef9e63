//! `etcd_cluster`: what the servers of a cluster share. Writes every server's view into its hosts file and, when
//! it is new, leaves a founding permit on each.

mod answering;
mod authorities;
mod authority_checks;
mod clearing;
mod establishing;
mod failure_domains;
mod founded;
mod going_on;
mod import;
mod measured;
pub mod model;
pub mod plan;
pub mod preflight;
mod recovering;
pub mod renaming;
mod restoring;
mod revoked;
mod rotation;
mod schema;
pub mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::membership::founding::{Founding, found_again, known};
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, ImportRequest, ImportResponse, PlanRequest, PlanResponse, ReadRequest,
    ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::{FormError, Value, from_value};
use crate::resource::blind::{self, Unseen};
use crate::resource::founded::as_known;
use crate::resource::random::random_text;
use crate::resource::refounding;
use crate::resource::road::{AuthorityKeys, Road};
use crate::resource::{timeouts, unfinished};
use crate::topology::{ClusterName, Topology};
use async_trait::async_trait;
use clearing::Before;
use establishing::{Change, Wish, establish};
use model::ClusterModel;
use servers::{Members, StepError, seen};

const CREATE: Duration = Duration::from_secs(60);
const READ: Duration = Duration::from_secs(20);

/// The block.
pub struct ClusterResource {
    road: Arc<Road>,
}

impl ClusterResource {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn recover(&self, prior: &Value, recovery: &recovering::Planned, within: Duration) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        let topology = model::topology(prior, &Path::root(), &mut diagnostics);
        // The authorities are there still, and the members let in whom they let in before.
        let before = from_value::<ClusterModel>(&prior.unknown_as_null());
        match (before, topology) {
            (Ok(before), Some(topology)) => {
                let recovering = recovering::Recovering {
                    road: &self.road,
                    before: &before,
                    topology: &topology,
                    within,
                };
                recovering.run(recovery).await
            }
            (Err(error), _) => Diagnostic::error("The state of the cluster can't be read", error.to_string()).into(),
            (_, None) => diagnostics,
        }
    }

    /// A create or an update. Refused before anything was written, it leaves the state as it was.
    async fn carry_out(&self, request: ApplyRequest, within: Duration) -> ApplyResponse {
        let ApplyRequest {
            prior,
            planned,
            config,
            private,
        } = request;
        let mut diagnostics = Diagnostics::new();
        let topology = model::topology(&planned, &Path::root(), &mut diagnostics);
        let (Ok(mut cluster), Some(topology)) = (to_model(&planned), topology) else {
            let text = "Something in it is not known.";
            diagnostics.push(Diagnostic::error("The plan of the cluster can't be read", text));
            return ApplyResponse {
                state: prior,
                private,
                diagnostics,
            };
        };
        let recovery = recovering::of(&prior, &planned);
        if let Some(recovery) = &recovery {
            diagnostics.append(self.recover(&prior, recovery, within).await);
            if diagnostics.has_errors() {
                return ApplyResponse {
                    state: prior,
                    private,
                    diagnostics,
                };
            }
        }
        let founded = if recovery.is_some() {
            None
        } else {
            self.founded(&prior).await
        };
        let wish = match founded {
            _ if prior.is_null() => Wish::Found,
            _ if recovery.is_some() => Wish::Views,
            Some(true) => Wish::Views,
            _ => Wish::FoundAgain(Box::new(to_model(&prior).unwrap_or_else(|_| cluster.clone()))),
        };
        let mut state = match complete(planned, &mut cluster) {
            Ok(state) => state,
            Err(diagnostic) => {
                return ApplyResponse {
                    state: prior,
                    private,
                    diagnostics: diagnostic.into(),
                };
            }
        };
        diagnostics.append(revoked::in_use(&self.road, &cluster).await);
        if diagnostics.has_errors() {
            return ApplyResponse {
                state: prior,
                private,
                diagnostics,
            };
        }
        state.set("members", plan::members(&topology));
        state.set("failure_domains", failure_domains::value(&topology));
        let fresh = preflight::fresh(&prior, &state).unwrap_or_default();
        let before = Before::of(&as_known(&prior, founded), recovery.is_some());
        let change = Change {
            wish: &wish,
            before: before.as_ref(),
            fresh,
            moved: preflight::at_another_port(&prior, &state),
        };
        let mut established = establish(&self.road, &cluster, &topology, change, within).await;
        diagnostics.append(std::mem::take(&mut established.diagnostics));
        if established.wrote {
            let found = &established.findings;
            diagnostics.append(measured::complete(&mut state, &prior, found, &topology, &config));
            if let Some(longest) = measured::longest_round_trip(&state) {
                self.road.session(cluster.token()).measured(longest);
            }
        } else {
            return ApplyResponse {
                state: prior,
                private,
                diagnostics,
            };
        }
        if state.get("restored").is_unknown() {
            state.set(
                "restored",
                established.restored.as_ref().map_or(Value::Null, restoring::value),
            );
        }
        if state.get("founders").is_unknown() {
            let founders = established.founders.iter().flatten().map(|name| name.as_str().into());
            let founders = match founded {
                Some(true) => prior.get("founders").clone(),
                _ => Value::List(founders.collect()),
            };
            state.set("founders", founders);
        }
        if state.get("founding").is_unknown() {
            state.set(
                "founding",
                if established.founded || founded == Some(true) {
                    plan::FOUNDED
                } else {
                    plan::PREPARED
                },
            );
        }
        if let Some(before) = &before {
            let (kept, said) = self.clear_removed(before, &established, within).await;
            diagnostics.append(said);
            unfinished::put_back(&mut state, &prior, &["members"], &established.failed, &kept);
        }
        ApplyResponse {
            state,
            private: establishing::to_private(&established.unwritten),
            diagnostics,
        }
    }

    /// The view that every server really has, and the state of the founding.
    async fn refresh(
        &self,
        cluster: &ClusterModel,
        topology: &Topology,
        mut state: Value,
        unwritten: &BTreeSet<String>,
    ) -> (Value, Diagnostics) {
        let observed = self.observed(cluster, topology).await;
        let mut diagnostics = Diagnostics::new();
        let mut unreached = BTreeMap::new();
        let mut members = state.get("members").as_map().cloned().unwrap_or_default();
        for (name, outcome) in &observed {
            match outcome {
                Ok(observation) => {
                    let addresses = observation
                        .addresses
                        .iter()
                        .map(|(to, address)| (to.clone(), address.as_str().into()));
                    let addresses: BTreeMap<String, Value> = addresses.collect();
                    if let Some(member) = members.get_mut(name) {
                        member.set("addresses", addresses);
                    }
                }
                Err(error) => {
                    let taken = if unwritten.contains(name) {
                        // Nothing else would make the next plan show that this server is still to be written to.
                        if let Some(member) = members.get_mut(name) {
                            member.set("addresses", BTreeMap::new());
                        }
                        "It has not got its view yet."
                    } else {
                        "Its view is taken to be as it was."
                    };
                    if let StepError::Road(error) = error {
                        unreached.insert(name.as_str(), error.to_string());
                        let unseen = Unseen {
                            road: &self.road,
                            name,
                            server: cluster.servers.get(name),
                            what: taken.to_owned(),
                        };
                        diagnostics.append(unseen.explain(error));
                        continue;
                    }
                    diagnostics.push(
                        Diagnostic::warning(
                            format!("Server {name} could not be observed"),
                            format!("{taken} {error}"),
                        )
                        .at(Path::of("servers").key(name)),
                    );
                }
            }
        }
        if let Some(error) = blind::refuse(&self.road, &cluster.name, &cluster.servers, &unreached) {
            return (state, error.into());
        }
        state.set("members", members);
        state.set("failure_domains", failure_domains::value(topology));
        let (founders, servers) = (cluster.founders(), seen(&observed));
        let founded = known(cluster.token(), &founders, &servers);
        if let Some(founded) = founded {
            self.road.session(cluster.token()).saw_founded(founded);
        }
        let before = state.get("founding").as_str();
        let founding = if before == Some(plan::FOUNDED) {
            // Data that was there once: never founded again, whatever has become of it.
            plan::FOUNDED
        } else if founded == Some(true) {
            match before {
                Some(plan::PREPARED) => plan::PREPARED,
                _ => plan::FOUNDED,
            }
        } else if let Founding::Permit(_) = found_again(cluster.token(), &founders, &servers, &BTreeMap::new()) {
            plan::STRANDED
        } else {
            plan::PREPARED
        };
        state.set("founding", founding);
        rotation::refresh(&self.road, cluster, &mut state).await;
        (state, diagnostics)
    }
}

/// The plan with everything that only the create can know.
fn complete(mut planned: Value, cluster: &mut ClusterModel) -> Result<Value, Diagnostic> {
    if cluster.token.is_none() {
        cluster.token = Some(random_text()?);
    }
    planned.set("token", cluster.token());
    let failed = |error: &dyn std::fmt::Display| {
        Diagnostic::error("The certificate authorities could not be made", error.to_string())
    };
    let name = ClusterName::parse(&cluster.name).map_err(|error| failed(&error))?;
    authorities::complete(&mut planned, &name).map_err(|error| failed(&error))?;
    Ok(planned)
}

/// The cluster without its authorities: nothing on the servers depends on them here.
fn to_model(block: &Value) -> Result<ClusterModel, FormError> {
    let mut block = block.unknown_as_null();
    block.set("certificate_authorities", Value::Null);
    from_value(&block)
}

#[async_trait]
impl Resource for ClusterResource {
    fn name(&self) -> &'static str {
        "etcd_cluster"
    }

    fn schema(&self) -> Schema {
        schema::schema()
    }

    fn identity(&self) -> Vec<Attribute> {
        import::identity()
    }

    fn identity_of(&self, state: &Value) -> Value {
        import::identity_of(state)
    }

    async fn import(&self, _context: &Context, request: ImportRequest) -> ImportResponse {
        self.take_over(&request).await
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = timeouts::validate(config);
        model::topology(config, &Path::root(), &mut diagnostics);
        diagnostics.append(plan::timing(config).into_iter().collect());
        diagnostics.append(restoring::validate(config).into_iter().collect());
        diagnostics.append(recovering::validate(config).into_iter().collect());
        diagnostics.append(revoked::validate(config));
        diagnostics
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let founded = self.founded_for(&request.prior, &request.planned).await;
        let known = as_known(&request.prior, founded);
        let (mut planned, mut diagnostics) = plan::refine(&request.prior, request.planned, &request.config, founded);
        diagnostics.append(restoring::refine(&known, &mut planned).await);
        if let Some(name) = planned.get("name").as_str() {
            let AuthorityKeys {
                peer_private_key: peer,
                client_private_key: client,
            } = self.road.authority_keys(name);
            for (kind, keys) in [("peer", peer), ("client", client)] {
                diagnostics.append(
                    authority_checks::key(&planned, name, kind, keys.as_deref())
                        .into_iter()
                        .collect(),
                );
            }
        }
        let (before, after) = (blind::servers_of(&request.prior), blind::servers_of(&planned));
        diagnostics.append(blind::refuse_refusing(&self.road, &before, &after));
        let (recovery, refused) = recovering::refine(&request.prior, &mut planned, &request.config);
        diagnostics.append(refused);
        if let Some(recovery) = &recovery {
            self.road.session(recovery.before()).keep_cluster();
            self.road.session(recovery.before()).lose(recovery.lost());
        }
        diagnostics.append(refounding::comes_or_stays(
            &self.road,
            refounding::ETCD,
            &known,
            &planned,
        ));
        // Before the members of a plan that shifts names are deleted.
        diagnostics.append(
            renaming::refuse(&self.road, &known, &planned)
                .await
                .into_iter()
                .collect(),
        );
        // The plans of its members come after this one, and a member that is to leave is told of it.
        if let (Some(before), Some(after)) = (request.prior.get("token").as_str(), planned.get("token").as_str())
            && before == after
        {
            self.road.session(after).keep_cluster();
        }
        if recovery.is_none() {
            plan::note_founded(&request.prior, &mut planned, founded);
        }
        PlanResponse {
            requires_replace: another_cluster(&request.prior, &planned, &request.config, recovery.is_some()),
            planned,
            private: request.private,
            diagnostics,
        }
    }

    async fn plan_destroy(&self, _context: &Context, prior: &Value, private: Vec<u8>) -> (Vec<u8>, Diagnostics) {
        let known = as_known(prior, self.seen_founded(prior));
        (private, refounding::goes(&self.road, refounding::ETCD, &known))
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let mut diagnostics = Diagnostics::new();
        let topology = model::topology(&request.state, &Path::root(), &mut diagnostics);
        let unwritten = establishing::from_private(&request.private);
        let state = match (to_model(&request.state), topology) {
            (Ok(cluster), Some(topology)) => {
                let (state, warnings) = self.refresh(&cluster, &topology, request.state, &unwritten).await;
                diagnostics.append(warnings);
                state
            }
            (Err(error), _) => {
                diagnostics.push(Diagnostic::error(
                    "The state of the cluster can't be read",
                    error.to_string(),
                ));
                request.state
            }
            (_, None) => request.state,
        };
        ReadResponse {
            state,
            private: request.private,
            diagnostics,
        }
    }

    async fn create(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.planned, "create", CREATE);
        self.carry_out(request, within).await
    }

    async fn update(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.planned, "update", CREATE);
        self.carry_out(request, within).await
    }

    async fn delete(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        let within = timeouts::get(&request.prior, "delete", READ);
        let mut diagnostics = Diagnostics::new();
        let topology = model::topology(&request.prior, &Path::root(), &mut diagnostics);
        if let (Ok(cluster), Some(topology)) = (to_model(&request.prior), topology) {
            let members = match self.founded(&request.prior).await {
                Some(false) => Members::Take,
                Some(true) | None => Members::RefuseRunning,
            };
            diagnostics.append(self.clear(&cluster, &topology, within, members).await.1);
        }
        ApplyResponse::deleted(request.prior, request.private, diagnostics)
    }
}

/// What makes it another cluster. Peer URLs carry the scheme and are the members' identity, so TLS can't be switched on one that exists.
/// Another token is a recovery's to give.
fn another_cluster(prior: &Value, planned: &Value, config: &Value, recovers: bool) -> Vec<Path> {
    let enabled = |block: &Value| block.at(&["tls", "enabled"]).as_bool().unwrap_or(true);
    let mut paths = Vec::new();
    if prior.is_null() {
        return paths;
    }
    if enabled(prior) != enabled(config) {
        paths.push(Path::of("tls").attribute("enabled"));
    }
    if prior.get("token") != planned.get("token") && !recovers {
        paths.push(Path::of("token"));
    }
    paths
}
