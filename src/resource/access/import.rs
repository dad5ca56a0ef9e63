//! Import of roles, users and access control: the cluster is read back from its servers, the rest from etcd.

use super::objects::IMPORTED;
use crate::plugin::block::{ImportRequest, ImportResponse};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::{Attribute, Kind};
use crate::plugin::value::Value;
use crate::resource::import::{find, given};
use crate::resource::road::Road;

/// What identifies one; with a name where a cluster has several.
pub fn identity(name: Option<&'static str>) -> Vec<Attribute> {
    let cluster = Attribute::string("cluster")
        .required()
        .describe("The name of its cluster.");
    let name = name.map(|description| Attribute::string("name").required().describe(description));
    [Some(cluster), name, Some(given::servers_attribute())]
        .into_iter()
        .flatten()
        .collect()
}

/// The identity of a state. The servers are for the import only: they come and go.
pub fn identity_of(state: &Value, named: bool) -> Value {
    let mut identity = Value::object([
        ("cluster", state.at(&["cluster", "name"]).clone()),
        ("servers", Value::Null),
    ]);
    if named {
        identity.set("name", state.get("name").clone());
    }
    identity
}

/// A state that the read after it completes.
pub async fn take_over(road: &Road, what: &'static str, request: &ImportRequest, named: bool) -> ImportResponse {
    ImportResponse {
        private: IMPORTED.to_vec(),
        ..found(road, what, request, named).await.into()
    }
}

async fn found(
    road: &Road,
    what: &'static str,
    request: &ImportRequest,
    named: bool,
) -> Result<(Value, Diagnostics), Diagnostics> {
    let (given, name) = given::in_cluster(request, what, named)?;
    let found = find(road, &given).await?;
    let mut state = Value::object([
        ("cluster", known_to(&super::cluster_attribute(), &found.cluster)),
        ("id", given.cluster.as_str().into()),
    ]);
    if let Some(name) = name {
        state.set("id", format!("{}/{name}", given.cluster));
        state.set("name", name);
    }
    Ok((state, Diagnostics::new()))
}

/// What of a value the attribute has a place for.
fn known_to(attribute: &Attribute, value: &Value) -> Value {
    match (&attribute.kind, value) {
        (Kind::Single(nested), Value::Map(_)) => {
            let entries = nested
                .iter()
                .map(|one| (one.name.to_owned(), known_to(one, value.get(one.name))));
            Value::Map(entries.collect())
        }
        _ => value.clone(),
    }
}
