//! `etcd_k3s_cluster`: what the servers of a k3s cluster share: its token, the addresses of its members, and on every server the translation
//! that makes them reach each other. When it is new it leaves the permit to found it on one server.

mod clearing;
mod diagnostics;
mod founded;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::host::{Host, PRIVILEGE, RunError, Script};
use crate::membership::k3s::{Refusal, Seen, found, is_founded, is_stranded, known, misfit};
use crate::membership::whereabouts::misplaced;
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, PlanRequest, PlanResponse, ReadRequest, ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Schema;
use crate::plugin::value::{FormError, Value, from_value};
use crate::resource::blind::{self, Unseen};
use crate::resource::cluster::servers::{StepError, on_each, root_file};
use crate::resource::founded::{FOUNDED, as_known};
use crate::resource::k3s::model::{self, K3sClusterModel};
use crate::resource::k3s::{API_PORT, directory, observe, unit};
use crate::resource::random::random_text;
use crate::resource::refounding;
use crate::resource::road::{Road, RoadError};
use crate::resource::{timeouts, unfinished, whereabouts};
use crate::topology::{ClusterName, ServerName, Topology, Translation};
use clearing::Before;
use diagnostics::{refusals_of, set_aside};
use founded::is_at_stake;

const CREATE: Duration = Duration::from_secs(60);
const READ: Duration = Duration::from_secs(20);

/// It has got a permit. Whether a server has used it, only the servers know: a refresh leaves it as it is.
const PREPARED: &str = "prepared";
/// The permit is gone, and nobody holds data.
const STRANDED: &str = "stranded";

/// The block.
pub struct K3sClusterResource {
    road: Arc<Road>,
}

/// What is to become of it, everything known.
struct Whole {
    cluster: K3sClusterModel,
    topology: Topology,
    /// None where k3s has no etcd of its own.
    translation: Option<Translation>,
}

impl K3sClusterResource {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn carry_out(&self, request: ApplyRequest, within: Duration) -> ApplyResponse {
        let ApplyRequest {
            prior,
            mut planned,
            private,
            ..
        } = request;
        let refused = |diagnostics| ApplyResponse {
            state: prior.clone(),
            private: private.clone(),
            diagnostics,
        };
        for name in ["id", "token"] {
            if planned.get(name).is_unknown() {
                match random_text() {
                    Ok(text) => planned.set(name, text),
                    Err(diagnostic) => return refused(diagnostic.into()),
                }
            }
        }
        let mut diagnostics = Diagnostics::new();
        let Some(whole) = whole(&planned, prior.get("addresses"), &mut diagnostics) else {
            return refused(diagnostics);
        };
        fill(&mut planned, &whole);
        let found_now = prior.is_null() || prior.get("founding").as_str() == Some(STRANDED);
        let founded = self.founded(&prior).await;
        let before = Before::of(&as_known(&prior, founded));
        let leave = { before.iter() }
            .flat_map(|before| before.leaving(&whole.cluster))
            .collect();
        let look = async |servers| {
            on_each(&self.road, servers, within, false, |_, host| {
                let cluster = &whole.cluster;
                async move { observe::observe(&host, cluster).await }
            })
            .await
        };
        let (observed, leaving) = tokio::join!(look(&whole.cluster.servers), look(&leave));
        let servers = observe::seen(&observed);
        let places = clearing::places(&whole, &prior, before.as_ref(), &observed);
        let wrong = misplaced(&places);
        if !wrong.is_empty() {
            let cluster = &whole.cluster;
            return refused(whereabouts::refusal(&cluster.name, &wrong, &cluster.servers).into());
        }
        let embedded = whole.translation.is_some();
        let mut permit = None;
        if found_now && embedded {
            match found(whole.cluster.id(), &servers) {
                Ok(server) => {
                    permit = Some(server);
                    diagnostics.append(set_aside(&whole.cluster.name, &observed).into_iter().collect());
                }
                Err(refusals) => return refused(refusals_of(&whole.cluster.name, &refusals)),
            }
        } else {
            let misfits = { servers.iter() }.filter_map(|(name, seen)| match seen {
                Seen::Reached(holding) => Some((name.clone(), misfit(whole.cluster.id(), holding)?)),
                Seen::Unreached(why) if prior.is_null() => Some((name.clone(), Refusal::Unreached(why.clone()))),
                Seen::Unreached(_) => None,
            });
            let misfits: BTreeMap<String, Refusal> = misfits.collect();
            if !misfits.is_empty() {
                return refused(refusals_of(&whole.cluster.name, &misfits));
            }
        }
        let vacating = match &before {
            Some(before) => before.vacating(&self.road, &places, &leaving).await,
            None => BTreeMap::new(),
        };
        if let Some(refusal) = clearing::refusal(&whole.cluster, &vacating) {
            return refused(refusal.into());
        }
        let whole = &whole;
        let permit = permit.as_deref();
        let written = on_each(
            &self.road,
            &whole.cluster.servers,
            within,
            false,
            |name, host| async move { prepare(&host, whole, name, permit == Some(name)).await },
        )
        .await;
        let (mut unwritten, mut failed) = (Vec::new(), BTreeSet::new());
        for (name, outcome) in written {
            let at = Path::of("servers").key(&name);
            match outcome {
                Ok(()) => {}
                Err(StepError::Road(error @ RoadError::Connect(_))) if !prior.is_null() => {
                    let detail = format!(
                        "What it dials for the others is as it was; a later apply brings it up to date. If it is gone for good, take it out \
                         of the configuration. {error}"
                    );
                    diagnostics.push(Diagnostic::warning(format!("Server {name} was not reached"), detail).at(at));
                    unwritten.push(name);
                }
                Err(error) => {
                    diagnostics.push(
                        Diagnostic::error(
                            format!("Server {name} is not ready"),
                            format!("Its addresses could not be put into place: {error}"),
                        )
                        .at(at),
                    );
                    failed.insert(name);
                }
            }
        }
        if planned.get("founding").is_unknown() {
            let founded = !embedded || (!prior.is_null() && founded == Some(true)) || is_founded(&servers);
            planned.set("founding", if founded { FOUNDED } else { PREPARED });
        }
        let (kept, said) = self.clear_removed(before.as_ref(), &vacating, &leaving, within).await;
        diagnostics.append(said);
        if !prior.is_null() {
            unfinished::put_back(&mut planned, &prior, &["rules"], &failed, &kept);
            unfinished::put_back(&mut planned, &prior, &["addresses", "urls"], &BTreeSet::new(), &kept);
        }
        ApplyResponse {
            state: planned,
            private: unwritten.join(" ").into_bytes(),
            diagnostics,
        }
    }

    async fn refresh(&self, mut state: Value, unwritten: &str) -> (Value, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let kept = state.get("addresses").clone();
        let Some(whole) = whole(&state, &kept, &mut diagnostics) else {
            return (state, diagnostics);
        };
        let cluster = &whole.cluster;
        let observed = on_each(&self.road, &cluster.servers, READ, false, |_, host| async move {
            observe::observe(&host, cluster).await
        })
        .await;
        let mut rules = state.get("rules").as_map().cloned().unwrap_or_default();
        let mut unreached = BTreeMap::new();
        for (name, outcome) in &observed {
            match outcome {
                Ok(seen) if whole.translation.is_some() => {
                    // What is not in force is none.
                    rules.insert(name.clone(), seen.rules.clone().unwrap_or_default().into());
                }
                Ok(_) => {}
                Err(error) => {
                    if unwritten.split_whitespace().any(|one| one == name) {
                        rules.insert(name.clone(), "".into());
                    }
                    let what = "What it dials is taken to be as it was.".to_owned();
                    if let StepError::Road(error) = error {
                        unreached.insert(name.as_str(), error.to_string());
                        let server = cluster.servers.get(name);
                        let unseen = Unseen {
                            road: &self.road,
                            name,
                            server,
                            what,
                        };
                        diagnostics.append(unseen.explain(error));
                        continue;
                    }
                    diagnostics.push(
                        Diagnostic::warning(
                            format!("Server {name} could not be observed"),
                            format!("{what} {error}"),
                        )
                        .at(Path::of("servers").key(name)),
                    );
                }
            }
        }
        if let Some(error) = blind::refuse(&self.road, &cluster.name, &cluster.servers, &unreached) {
            return (state, error.into());
        }
        state.set("rules", rules);
        let servers = observe::seen(&observed);
        let founded = known(&servers);
        if let Some(founded) = founded {
            self.road.session(cluster.id()).saw_founded(founded);
        }
        if founded == Some(true) {
            // The first refresh after a create finds nothing changed.
            if state.get("founding").as_str() != Some(PREPARED) {
                state.set("founding", FOUNDED);
            }
        } else if state.get("founding").as_str() != Some(FOUNDED) && is_stranded(&servers) {
            state.set("founding", STRANDED);
        }
        (state, diagnostics)
    }
}

/// Writes a server's translation and puts it into place; with the permit, where it is to found.
async fn prepare(host: &Host, whole: &Whole, server: &str, permit: bool) -> Result<(), RunError> {
    let cluster = &whole.cluster;
    let etc = directory(&cluster.name);
    let mut script = Script::new("putting addresses into place")
        .set("etc", &etc)
        .line(PRIVILEGE)
        .line("umask 022; mkdir -p \"$etc\"; only_roots \"$etc\"")
        .write_file(&root_file(format!("{etc}/id"), cluster.id()))
        // Whose k3s the machine holds.
        .write_file(&root_file(format!("{etc}/server"), server));
    if let (Some(all), Ok(name), Ok(of)) = (
        &whole.translation,
        ServerName::parse(server),
        ClusterName::parse(&cluster.name),
    ) {
        script = script.line("former=$(cat \"$etc/address\" 2>/dev/null || true)");
        for file in unit::translation(&of, &name, all, cluster.service()) {
            script = script.write_file(&file);
        }
        script = script
            .set("unit", unit::name(&cluster.name))
            .line("if [ $changed = 1 ]; then systemctl daemon-reload; fi")
            .line("systemctl --quiet enable \"$unit.service\" \"$unit-check.timer\"")
            .line("systemctl start \"$unit.service\"\nsh \"$etc/translation\" check\nsystemctl start \"$unit-check.timer\"")
            // The rules that are in force may be the former ones.
            .line("if [ $changed = 1 ]; then systemctl reload \"$unit.service\"; fi")
            // The machine may have had another name, with another address: packets for whoever gets that one must not end here.
            .line(
                "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; own=$(cat \"$etc/address\")\n\
                 if [ -n \"$former\" ] && [ \"$former\" != \"$own\" ]; then ip address del \"$former/32\" dev lo 2>/dev/null || true; fi",
            );
    }
    if permit {
        script = script
            .line("rm -f \"$etc/founded\"")
            .write_file(&root_file(format!("{etc}/founding-permit"), cluster.id()))
            .line("sync \"$etc\" 2>/dev/null || sync");
    }
    host.run_checked(&script).await.map(drop)
}

fn to_model(block: &Value) -> Result<K3sClusterModel, FormError> {
    from_value(&block.unknown_as_null())
}

fn whole(block: &Value, kept: &Value, diagnostics: &mut Diagnostics) -> Option<Whole> {
    let topology = model::topology(block, &Path::root(), diagnostics)?;
    let translation = match model::has_etcd(block)? {
        true => Some(model::translation(block, &topology, kept, &Path::root(), diagnostics)?),
        false => None,
    };
    match to_model(block) {
        Ok(cluster) => Some(Whole {
            cluster,
            topology,
            translation,
        }),
        Err(error) => {
            diagnostics.push(Diagnostic::error("The cluster can't be read", error.to_string()));
            None
        }
    }
}

/// What follows from the servers.
fn fill(block: &mut Value, whole: &Whole) {
    let map = |of: &dyn Fn(&Translation, &ServerName) -> String| {
        let all = whole.translation.iter().flat_map(|all| {
            let names = whole.topology.servers().keys();
            names.map(move |name| (name.to_string(), Value::from(of(all, name))))
        });
        Value::Map(all.collect())
    };
    block.set(
        "addresses",
        map(&|all, name| all.members().get(name).map_or_else(String::new, ToString::to_string)),
    );
    block.set("rules", map(&Translation::nft));
    let urls = { whole.topology.servers().iter() }.map(|(name, server)| {
        let address = server.public_address.unwrap_or(server.private_address);
        (
            name.to_string(),
            Value::from(format!("https://{}", std::net::SocketAddr::new(address, API_PORT))),
        )
    });
    block.set("urls", Value::Map(urls.collect()));
}

#[async_trait]
impl Resource for K3sClusterResource {
    fn name(&self) -> &'static str {
        "etcd_k3s_cluster"
    }

    fn schema(&self) -> Schema {
        schema::schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = timeouts::validate(config);
        if let Some(topology) = model::topology(config, &Path::root(), &mut diagnostics)
            && model::has_etcd(config) == Some(true)
        {
            model::translation(config, &topology, &Value::Null, &Path::root(), &mut diagnostics);
        }
        if !config.get("token").is_null() && !config.get("token_wo").is_null() {
            let detail = "Only one of token and token_wo can be given.";
            diagnostics.push(Diagnostic::error("Two tokens", detail).at(Path::of("token_wo")));
        }
        diagnostics
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let PlanRequest {
            prior,
            mut planned,
            config,
            private,
        } = request;
        let mut diagnostics = Diagnostics::new();
        if !config.get("token_wo").is_null() {
            planned.set("token", Value::Null);
        }
        for name in ["addresses", "rules", "urls"] {
            planned.set(name, Value::Unknown);
        }
        if let Some(whole) = whole(&planned, prior.get("addresses"), &mut diagnostics) {
            fill(&mut planned, &whole);
            let voters = whole.cluster.servers.len();
            if whole.translation.is_some() && voters % 2 == 0 {
                let detail = format!(
                    "{voters} servers bear no more failures than {} do, and one more of them can fail. Use an odd number.",
                    voters - 1
                );
                diagnostics.push(Diagnostic::warning("An even number of servers", detail).at(Path::of("servers")));
            }
        }
        let founding = prior.get("founding").as_str();
        let now = self.founded_for(&prior, &planned).await;
        let known = as_known(&prior, now);
        // What may have been founded is not risked.
        let founded = now != Some(false);
        planned.set(
            "founding",
            match founding {
                None | Some(STRANDED) => Value::Unknown,
                Some(known) => known.into(),
            },
        );
        for name in ["name", "datastore"] {
            let (before, after) = (prior.get(name), planned.get(name));
            if founded && after.is_wholly_known() && before != after {
                let detail = "It would be another cluster, on servers that hold the data of this one. Nothing was changed. Write it as it was. For \
                              another cluster add another etcd_k3s_cluster, on other servers.";
                let summary = format!("The {name} of a running k3s cluster can't be changed");
                diagnostics.push(Diagnostic::error(summary, detail).at(Path::of(name)));
            }
        }
        let (before, after) = (prior.get("token").as_str(), planned.get("token").as_str());
        if founded && before.is_some() && after.is_some() && before != after {
            let detail = "k3s encrypts what servers share with the token, and this provider does not rotate it (`k3s token rotate` does, on a \
                          server; then give the new one here, with the state's token replaced).";
            diagnostics.push(
                Diagnostic::error("The token of a running cluster can't be changed", detail).at(Path::of("token")),
            );
        }
        let (before, after) = (blind::servers_of(&prior), blind::servers_of(&planned));
        diagnostics.append(blind::refuse_refusing(&self.road, &before, &after));
        diagnostics.append(refounding::comes_or_stays(
            &self.road,
            refounding::K3S,
            &known,
            &planned,
        ));
        diagnostics.append(
            clearing::refuse_shifted(&self.road, &known, &planned)
                .await
                .into_iter()
                .collect(),
        );
        if let Some(id) = prior.get("id").as_str() {
            self.road.session(id).keep_cluster();
        }
        // Terraform plans again when it applies, in a process that has not refreshed: what that one may not see is left open.
        if now == Some(true) && founding != Some(FOUNDED) && is_at_stake(&prior, &planned) {
            planned.set("founding", Value::Unknown);
        }
        PlanResponse {
            planned,
            requires_replace: Vec::new(),
            private,
            diagnostics,
        }
    }

    async fn plan_destroy(&self, _context: &Context, prior: &Value, private: Vec<u8>) -> (Vec<u8>, Diagnostics) {
        let known = as_known(prior, self.seen_founded(prior));
        (private, refounding::goes(&self.road, refounding::K3S, &known))
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let unwritten = String::from_utf8_lossy(&request.private).into_owned();
        let (state, diagnostics) = self.refresh(request.state, &unwritten).await;
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
        let diagnostics = match to_model(&request.prior) {
            Ok(cluster) => self.clear(&cluster, within, "aside").await.1,
            Err(error) => Diagnostic::error("The state of the cluster can't be read", error.to_string()).into(),
        };
        ApplyResponse::deleted(request.prior, request.private, diagnostics)
    }
}
