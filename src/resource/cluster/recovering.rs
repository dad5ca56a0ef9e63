//! A cluster that lost its quorum goes on from what one member has, as a new cluster with a token of its own: nobody of the old one can
//! come back into it, and none of its data is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::going_on;
use super::model::ClusterModel;
use super::plan::FOUNDED;
use super::servers::{StepError, observe, on_each, root_file, stamp};
use crate::etcd::layout::unit_name;
use crate::host::{Host, PRIVILEGE, RunError, Script};
use crate::membership::recovery::{Holding, Recovery, Refusal, Seen, Wanted, acknowledgement, recover};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Type};
use crate::plugin::value::{Value, from_value};
use crate::resource::borrowing::borrow;
use crate::resource::road::Road;
use crate::topology::Topology;

/// How long a member may take to answer: without a quorum it may not answer at all.
pub(super) const QUESTION: Duration = Duration::from_secs(5);

/// The attribute `recovery`.
#[derive(Clone, Debug, Deserialize)]
pub struct RecoveryModel {
    /// The server whose data the cluster goes on from.
    pub survivor: String,
    /// The servers that are gone for good.
    #[serde(default)]
    pub lost: BTreeSet<String>,
    /// That the user knows.
    pub accept_data_loss: String,
}

/// The schema of `recovery`.
pub fn attribute() -> Attribute {
    Attribute::object(
        "recovery",
        vec![
            Attribute::string("survivor")
                .required()
                .describe("The server whose member's data the cluster goes on from. It stays in `servers`."),
            Attribute::list("lost", Type::String)
                .required()
                .describe("The servers that are gone for good, and are in `servers` no longer."),
            Attribute::string("accept_data_loss").required().describe(
                "What may be lost, in the words that the error says which you get without them: \
                 `<cluster> goes on from <survivor>, and what only <lost> had is lost`.",
            ),
        ],
    )
    .describe(
        "Brings a cluster back whose quorum is lost for good, from one member that is left: as a new cluster under the old name. Refused while \
         there may be a quorum. See the guide on disaster recovery.",
    )
}

pub(super) fn at() -> Path {
    Path::of("recovery")
}

fn model_of(block: &Value) -> Option<RecoveryModel> {
    let recovery = block.get("recovery");
    if recovery.is_null() || !recovery.is_wholly_known() {
        return None;
    }
    from_value(recovery).ok()
}

/// Checks what the configuration alone tells.
pub fn validate(config: &Value) -> Option<Diagnostic> {
    let model = model_of(config)?;
    let cluster = config.get("name").as_str()?;
    let wrong = |attribute: &str, text: String| {
        Some(Diagnostic::error("This can't be recovered", text).at(at().attribute(attribute)))
    };
    let servers = config.get("servers").as_map();
    if let Some(servers) = servers {
        if !servers.contains_key(&model.survivor) {
            let text = format!(
                "{:?} has to be one of `servers`: the cluster goes on from it.",
                model.survivor
            );
            return wrong("survivor", text);
        }
        if let Some(name) = model.lost.iter().find(|name| servers.contains_key(*name)) {
            let text = format!(
                "{name:?} is in `servers` still. Take it out, with its `etcd_server` and `etcd_member`: it is gone for good."
            );
            return wrong("lost", text);
        }
    }
    let words = acknowledgement(cluster, &model.survivor, &model.lost);
    if model.accept_data_loss != words {
        let text = format!(
            "This makes a new cluster of what {} has. What was written and never reached it is lost for good, and no server of the \
             old cluster can come back. If that is what you want, write: accept_data_loss = {words:?}",
            model.survivor
        );
        return wrong("accept_data_loss", text);
    }
    None
}

/// A recovery that a plan has.
pub struct Planned {
    wanted: Wanted,
}

impl Planned {
    /// The servers that are gone for good.
    pub fn lost(&self) -> &BTreeSet<String> {
        &self.wanted.lost
    }

    /// The token of the cluster that lost its quorum.
    pub fn before(&self) -> &str {
        &self.wanted.before
    }
}

/// The recovery that a plan or an apply is to make, if it is one: what stands in the state already has been made.
pub fn of(prior: &Value, planned: &Value) -> Option<Planned> {
    if prior.is_null() || prior.get("recovery") == planned.get("recovery") {
        return None;
    }
    let model = model_of(planned)?;
    let before = prior.get("token").as_str()?.to_owned();
    let after = match planned.get("token").as_str() {
        // The user's own, or that of the plan.
        Some(token) if token != before => token.to_owned(),
        _ => next_token(&before, &model),
    };
    let wanted = Wanted {
        before,
        after,
        survivor: model.survivor,
        lost: model.lost,
    };
    Some(Planned { wanted })
}

/// The same for the same recovery: one that was cut off is found again by it.
fn next_token(before: &str, model: &RecoveryModel) -> String {
    let lost: Vec<&str> = model.lost.iter().map(String::as_str).collect();
    let digest = Sha256::digest(format!("{before}\n{}\n{}", model.survivor, lost.join("\n")));
    data_encoding::HEXLOWER.encode(&digest[..16])
}

/// Refines the plan of a recovery: another token, and one founder.
pub fn refine(prior: &Value, planned: &mut Value, config: &Value) -> (Option<Planned>, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    if prior.is_null() && !planned.get("recovery").is_null() {
        let text = "There is no such cluster yet: it is to be created. Take `recovery` out; to found a cluster from a snapshot there is `restore`.";
        diagnostics.push(Diagnostic::error("There is nothing to recover", text).at(at()));
    }
    let Some(recovery) = of(prior, planned) else {
        return (None, diagnostics);
    };
    let mut refuse = |attribute: &str, text: String| {
        diagnostics.push(Diagnostic::error("This can't be recovered", text).at(at().attribute(attribute)));
    };
    let names = |block: &Value| {
        block
            .get("servers")
            .as_map()
            .map(|servers| servers.keys().cloned().collect::<BTreeSet<String>>())
    };
    if !prior.get("adopted_from").is_null() {
        let text =
            "The cluster was made by other means, and its members have other identities than this provider gives.";
        refuse("survivor", text.to_owned());
    }
    if let (Some(before), Some(after)) = (names(prior), names(planned)) {
        let wanted = &recovery.wanted;
        if !before.contains(&wanted.survivor) {
            refuse(
                "survivor",
                format!("{:?} was none of the cluster's servers.", wanted.survivor),
            );
        }
        if let Some(name) = wanted.lost.difference(&before).next() {
            refuse("lost", format!("{name:?} was none of the cluster's servers."));
        }
        if let Some(name) = before.difference(&after).find(|name| !wanted.lost.contains(*name)) {
            let text = format!(
                "{name:?} is to leave `servers` too, and is not named here. If it is gone for good, name it; if not, let it go later."
            );
            refuse("lost", text);
        }
    }
    let own = config.get("token").as_str();
    if own.is_some_and(|token| token == recovery.wanted.before) {
        let text = "What goes on is a new cluster, for nobody of the old one to come back into it. Set another token.";
        diagnostics.push(Diagnostic::error("The token has to be another one", text).at(Path::of("token")));
    } else {
        planned.set("token", recovery.wanted.after.as_str());
    }
    let founders = vec![Value::from(recovery.wanted.survivor.as_str())];
    planned.set("founders", Value::List(founders));
    // The state may be from before its members came. Whether the survivor has data to go on from its server says.
    planned.set("founding", FOUNDED);
    (Some(recovery), diagnostics)
}

/// What a recovery is made with.
pub struct Recovering<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The cluster as it was.
    pub before: &'a ClusterModel,
    /// Its topology.
    pub topology: &'a Topology,
    /// How long a server may take to be reached.
    pub within: Duration,
}

impl Recovering<'_> {
    /// Looks at all servers, decides, stops what is left of the old cluster, and has the survivor go on. Safe to repeat.
    pub async fn run(&self, planned: &Planned) -> Diagnostics {
        let wanted = &planned.wanted;
        let seen = self.look(wanted).await;
        let fenced = match recover(wanted, &seen) {
            Recovery::Go(fenced) => fenced,
            Recovery::Refused(reasons) => return refusals(&self.before.name, &reasons),
        };
        let mut diagnostics = self.fence(wanted, &fenced).await;
        if !diagnostics.has_errors() {
            diagnostics.append(going_on::go_on(self, wanted).await);
        }
        diagnostics
    }

    async fn look(&self, wanted: &Wanted) -> BTreeMap<String, Seen> {
        let (topology, after) = (self.topology, wanted.after.as_str());
        let observed = on_each(
            self.road,
            &self.before.servers,
            self.within,
            false,
            |name, host| async move {
                let observation = observe(&host, topology, name, None).await?;
                let recovered = match &observation.holding.data {
                    Some(data) => made_for(&host, &unit_name(topology.cluster()), data, after).await?,
                    None => false,
                };
                Ok((observation, recovered))
            },
        );
        let (observed, leaders) = tokio::join!(observed, self.knowing_a_leader());
        let seen = observed.into_iter().map(|(name, outcome)| {
            let seen = match outcome {
                Ok((observation, recovered)) => Seen::Reached(Holding {
                    token: observation.holding.token,
                    data: observation.holding.data.is_some(),
                    recovered,
                    leader: leaders.contains(&name),
                }),
                Err(error) => Seen::Unreached(error.to_string()),
            };
            (name, seen)
        });
        seen.collect()
    }

    /// The servers whose members say that they know a leader.
    async fn knowing_a_leader(&self) -> BTreeSet<String> {
        let Ok(talk) = borrow(self.road, self.before, self.topology, QUESTION * 2).await else {
            return BTreeSet::new();
        };
        let talk = &talk;
        let asked = self.before.servers.keys().map(|name| async move {
            let api = talk.to(name, QUESTION).await.ok()?;
            let status = api.status(QUESTION).await.ok()?;
            status.has_leader().then(|| name.clone())
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Stops the others for good; their data is renamed.
    async fn fence(&self, wanted: &Wanted, fenced: &BTreeSet<String>) -> Diagnostics {
        let mut servers = self.before.servers.clone();
        servers.retain(|name, _| fenced.contains(name));
        let script = Script::new("stopping the member of the cluster that lost its quorum")
            .set("cluster", &self.before.name)
            .set("stamp", stamp())
            .line(PRIVILEGE)
            .line(include_str!("fence.sh"))
            .write_file(&root_file(
                format!("/etc/etcd/{}/token", self.before.name),
                &wanted.after,
            ))
            .line("sync \"$etc\"");
        let script = &script;
        let done = on_each(self.road, &servers, self.within, false, |_, host| async move {
            host.run_checked(script).await.map(drop)
        });
        let failed = done
            .await
            .into_iter()
            .filter_map(|(name, outcome)| Some((name, outcome.err()?)));
        failed
            .map(|(name, error)| not_ready(&name, "Its member could not be stopped", &error))
            .collect()
    }
}

/// Whether data was made for the cluster with this token.
async fn made_for(host: &Host, unit: &str, data: &str, token: &str) -> Result<bool, RunError> {
    let script = Script::new("looking what the data was made for")
        .set("data", data)
        .set("unit", unit)
        .line(PRIVILEGE)
        .line("user=$(sed -n 's/^User=//p' \"/etc/systemd/system/$unit\" 2>/dev/null | head -n 1)")
        .line("if [ -f \"$data/member/restored\" ]; then tell restored \"$(as_user \"$user\" 20 head -c 200 \"$data/member/restored\")\"; fi");
    Ok(host.run_checked(&script).await?.value("restored") == Some(token))
}

fn not_ready(name: &str, what: &str, error: &StepError) -> Diagnostic {
    let text = format!("{what}: {error}. The survivor was not touched; the next apply goes on from here.");
    Diagnostic::error(format!("Server {name} is not ready"), text).at(Path::of("servers").key(name))
}

fn refusals(cluster: &str, reasons: &BTreeMap<String, Vec<Refusal>>) -> Diagnostics {
    let refused = reasons.iter().map(|(server, reasons)| {
        let mut text = String::new();
        for reason in reasons {
            let _ = writeln!(text, "Server {server} {reason}.");
        }
        text.push_str("Nothing was changed on any server.");
        let attribute = match reasons.first() {
            Some(Refusal::Answers | Refusal::Unreached(_)) => "lost",
            _ => "survivor",
        };
        Diagnostic::error(format!("Cluster {cluster} can't be recovered"), text).at(at().attribute(attribute))
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(survivor: &str, lost: &[&str], words: &str, servers: &[&str]) -> Value {
        let servers = servers
            .iter()
            .map(|name| ((*name).to_owned(), Value::from(*name)))
            .collect();
        let lost = lost.iter().map(|name| Value::from(*name)).collect();
        Value::object([
            ("name", "main".into()),
            ("token", "t".into()),
            ("founding", FOUNDED.into()),
            ("servers", Value::Map(servers)),
            (
                "recovery",
                Value::object([
                    ("survivor", survivor.into()),
                    ("lost", Value::List(lost)),
                    ("accept_data_loss", words.into()),
                ]),
            ),
        ])
    }

    const WORDS: &str = "main goes on from a, and what only b, c had is lost";

    #[test]
    fn it_is_done_only_in_the_right_words() {
        let wrong = |survivor, lost: &[&str], words, servers: &[&str]| {
            validate(&block(survivor, lost, words, servers)).map(|diagnostic| diagnostic.path)
        };
        assert_eq!(wrong("a", &["c", "b"], WORDS, &["a", "d"]), None);
        let at = |name| Some(Some(at().attribute(name)));
        assert_eq!(wrong("a", &["b", "c"], "yes", &["a"]), at("accept_data_loss"));
        assert_eq!(wrong("a", &["b"], WORDS, &["a"]), at("accept_data_loss"));
        assert_eq!(wrong("a", &["b", "c"], WORDS, &["a", "b"]), at("lost"));
        assert_eq!(wrong("a", &["b", "c"], WORDS, &["d"]), at("survivor"));
    }

    #[test]
    fn the_same_recovery_has_the_same_token_and_happens_once() {
        let mut prior = block("a", &[], "", &["a", "b", "c"]);
        prior.set("recovery", Value::Null);
        let planned = || {
            let mut planned = block("a", &["b", "c"], WORDS, &["a", "d"]);
            let (recovery, diagnostics) = refine(&prior, &mut planned, &Value::object([("token", Value::Null)]));
            assert!(!diagnostics.has_errors() && recovery.is_some(), "{diagnostics:?}");
            planned
        };
        let first = planned();
        assert_eq!(first, planned());
        assert_ne!(first.get("token"), prior.get("token"));
        assert_eq!(first.get("founders"), &Value::List(vec!["a".into()]));
        assert_eq!(
            of(&prior, &first).unwrap().wanted.after,
            first.get("token").as_str().unwrap()
        );
        assert!(of(&first, &first).is_none(), "it has been made");
        let mut removed = first.clone();
        removed.set("recovery", Value::Null);
        assert!(of(&first, &removed).is_none());
    }

    #[test]
    fn nobody_goes_unnamed() {
        let mut prior = block("a", &[], "", &["a", "b", "c", "e"]);
        prior.set("recovery", Value::Null);
        let mut planned = block("a", &["b", "c"], WORDS, &["a", "d"]);
        let (_, diagnostics) = refine(&prior, &mut planned, &Value::Null);
        assert!(diagnostics.iter().any(|one| one.detail.contains("\"e\" is to leave")));
    }
}
