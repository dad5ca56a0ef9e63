//! `list "etcd_cluster"`: the clusters whose members are on these servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;

use crate::host::Script;
use crate::plugin::block::{Context, Findings, Found, ImportRequest, List, ListRequest, Resource as _};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::{Number, Value, from_value};
use crate::resource::cluster::ClusterResource;
use crate::resource::road::Road;
use crate::resource::server::model::{self as server, ServerModel};

/// How long a server may take to answer.
const QUESTION: Duration = Duration::from_secs(15);

/// The block.
pub struct Clusters {
    road: Arc<Road>,
}

impl Clusters {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    /// The names of the clusters that have something on this server.
    async fn on(&self, value: &Value) -> Result<BTreeSet<String>, String> {
        let model: ServerModel = from_value(value).map_err(|error| error.to_string())?;
        let host = self
            .road
            .connect(&model, QUESTION, false)
            .await
            .map_err(|error| error.to_string())?;
        let script = Script::new("looking for clusters")
            .timeout(QUESTION)
            .line(include_str!("clusters.sh"));
        let output = host.run_checked(&script).await.map_err(|error| error.to_string())?;
        Ok(output.values("cluster").map(str::to_owned).collect())
    }
}

/// Plain JSON of a value; what is null is left out.
fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null | Value::Unknown => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(Number::Int(number)) => (*number).into(),
        Value::Number(Number::Float(number)) => (*number).into(),
        Value::Number(Number::Decimal(digits)) => digits.clone().into(),
        Value::String(text) => text.clone().into(),
        Value::List(items) => items.iter().map(json).collect::<Vec<_>>().into(),
        Value::Map(entries) => {
            let given = entries.iter().filter(|(_, value)| !value.is_null());
            let given = given.map(|(name, value)| (name.clone(), json(value)));
            serde_json::Value::Object(given.collect())
        }
    }
}

#[async_trait]
impl List for Clusters {
    fn name(&self) -> &'static str {
        "etcd_cluster"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "The clusters of this provider's whose members are on these servers.",
            attributes: vec![
                Attribute::map_of("servers", server::element_attributes())
                    .required()
                    .describe("The servers to look at, by name, with the arguments of `etcd_server`."),
            ],
        }
    }

    async fn list(&self, context: &Context, request: ListRequest, findings: &Findings) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        let Some(servers) = request.config.get("servers").as_map() else {
            return Diagnostic::error("No servers", "Say which servers to look at.")
                .at(Path::of("servers"))
                .into();
        };
        let looked = servers
            .iter()
            .map(|(name, value)| async move { (name, self.on(value).await) });
        let mut clusters: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for (name, found) in join_all(looked).await {
            match found {
                Ok(found) => {
                    for cluster in found {
                        let of_it = clusters.entry(cluster).or_default();
                        of_it.insert(name.clone(), servers[name].clone());
                    }
                }
                Err(why) => {
                    let summary = format!("Server {name} was not looked at");
                    let detail = format!("What is on it is not listed. {why}");
                    let at = Path::of("servers").key(name);
                    diagnostics.push(Diagnostic::warning(summary, detail).at(at));
                }
            }
        }
        for (cluster, servers) in clusters.into_iter().take(request.limit.unwrap_or(usize::MAX)) {
            let names = servers.keys().cloned().collect::<Vec<_>>().join(", ");
            let servers = json(&Value::Map(servers)).to_string();
            let identity = Value::object([
                ("name", cluster.as_str().into()),
                ("servers", servers.into()),
                ("adopted_from", Value::Null),
            ]);
            let mut found = Found {
                identity: identity.clone(),
                display_name: format!("{cluster} on {names}"),
                ..Found::default()
            };
            if request.with_resource {
                let import = ImportRequest { id: None, identity };
                let imported = ClusterResource::new(Arc::clone(&self.road))
                    .import(context, import)
                    .await;
                // What can't be read back now may be in another run: it is listed all the same.
                found.resource = Some(imported.state).filter(|state| !state.is_null());
                found.diagnostics = imported.diagnostics.into_iter().map(as_warning).collect();
            }
            findings.add(found);
        }
        diagnostics
    }
}

fn as_warning(one: Diagnostic) -> Diagnostic {
    // A path of the managed resource means nothing in the list's own configuration.
    Diagnostic::warning(one.summary, one.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_left_out() {
        let server = Value::object([
            ("name", "a1".into()),
            ("public_address", Value::Null),
            ("peer_port", 2380.into()),
        ]);
        assert_eq!(json(&server).to_string(), r#"{"name":"a1","peer_port":2380}"#);
    }
}
