//! Import of a member that this provider made and that no state knows of any more.

use std::collections::BTreeMap;

use super::{MemberResource, drift, model, plan};
use crate::etcd::config::extra_options;
use crate::etcd::layout::binaries_dir;
use crate::etcd::version::Version;
use crate::etcd::yaml;
use crate::membership::incarnation::Incarnation;
use crate::plugin::block::{ImportRequest, ImportResponse};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;
use crate::resource::import::{FoundMember, find, given, refused};
use crate::resource::objects;

/// What identifies a member.
pub fn identity() -> Vec<Attribute> {
    vec![
        Attribute::string("cluster")
            .required()
            .describe("The name of its cluster."),
        Attribute::string("server")
            .required()
            .describe("The name of its server."),
        given::servers_attribute(),
        given::adopted_from_attribute(),
    ]
}

/// The identity of a state. The servers are for the import only: they come and go.
pub fn identity_of(state: &Value) -> Value {
    Value::object([
        ("cluster", state.at(&["cluster", "name"]).clone()),
        ("server", state.get("server").clone()),
        ("servers", Value::Null),
        ("adopted_from", Value::Null),
    ])
}

impl MemberResource {
    pub(super) async fn take_over(&self, request: &ImportRequest) -> ImportResponse {
        let (found, private) = match self.found(request).await {
            Ok((state, object)) => (Ok((state, Diagnostics::new())), objects::keep(object.as_ref())),
            Err(refused) => (Err(refused), Vec::new()),
        };
        ImportResponse {
            private,
            ..found.into()
        }
    }

    async fn found(&self, request: &ImportRequest) -> Result<(Value, Option<Incarnation>), Diagnostics> {
        let given = given::member(request)?;
        let found = find(&self.road, &given).await?;
        let what = format!("The member on server {}", given.server);
        let member = found.members.get(&given.server).cloned().unwrap_or_default();
        let state = match &given.adopted_from {
            Some(_) => Ok(foreign_state(&given.server, found.cluster, &member)),
            None => member_state(&given.server, found.cluster, &member),
        };
        let state = with_defaults(state.map_err(|problem| refused(&what, &problem))?);
        // What follows from it, as a plan would say; the read that comes next says what is there.
        let (state, diagnostics) = plan::refine(&Value::Null, state);
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        let mut state = state.unknown_as_null();
        if let Some(service) = &given.adopted_from {
            as_it_is(&mut state, &member, service);
        }
        Ok((state, member.object))
    }
}

/// The member as the cluster that it is in knows it: not by its name yet.
fn as_it_is(state: &mut Value, member: &FoundMember, service: &str) {
    for (name, value) in [
        ("peer_url", &member.peer_url),
        ("client_url", &member.client_url),
        ("member_id", &member.member_id),
        ("cluster_id", &member.cluster_id),
    ] {
        state.set(name, value.clone());
    }
    for name in [
        "configuration",
        "initial_cluster",
        "certificate_expiry",
        "certificate_serials",
    ] {
        state.set(name, Value::Null);
    }
    state.set("drift", drift::of_import(service));
}

/// No server tells what the configuration has by default.
fn with_defaults(mut state: Value) -> Value {
    for attribute in model::schema().attributes {
        if let (Some(default), true) = (attribute.default, state.get(attribute.name).is_null()) {
            state.set(attribute.name, default);
        }
    }
    state
}

/// The state of a member that was made by other means.
fn foreign_state(server: &str, cluster: Value, found: &FoundMember) -> Value {
    let version = found
        .version
        .as_deref()
        .and_then(|version| Version::parse(version).ok());
    let executable = found.executable.as_deref().unwrap_or_default();
    Value::object([
        ("cluster", cluster),
        ("server", server.into()),
        ("version", found.version.clone().into()),
        (
            "binary",
            version.map_or(Value::Null, |version| binary(executable, &version)),
        ),
        ("data_dir", found.data_dir.clone().into()),
        ("config", options(found.config.clone())),
    ])
}

/// Where the provider brings releases and uploads there is nothing to say; what lies elsewhere was there before.
fn binary(executable: &str, version: &Version) -> Value {
    let folder = executable.trim_end_matches("/etcd");
    if folder == binaries_dir(version).as_str() {
        Value::Null
    } else {
        Value::object([("host_path", folder.into())])
    }
}

fn options(extra: BTreeMap<String, String>) -> Value {
    if extra.is_empty() {
        Value::Null
    } else {
        Value::Map(extra.into_iter().map(|(key, value)| (key, value.into())).collect())
    }
}

/// The state as far as the server tells; in words why there is no member.
fn member_state(server: &str, cluster: Value, found: &FoundMember) -> Result<Value, String> {
    let (Some(configuration), Some(executable)) = (&found.configuration, &found.executable) else {
        return Err(
            "It is not there: the server has no configuration or no service of it. `terraform apply` makes one.".into(),
        );
    };
    let version = found
        .version
        .as_deref()
        .and_then(|version| Version::parse(version).ok());
    let Some(version) = version else {
        return Err(format!(
            "{executable}, which its service starts, does not say its version."
        ));
    };
    let file =
        yaml::options(configuration).map_err(|error| format!("Its configuration file can't be read: {error}."))?;
    let data_dir = file.get("data-dir").and_then(serde_json::Value::as_str);
    Ok(Value::object([
        ("cluster", cluster),
        ("server", server.into()),
        ("version", version.to_string().into()),
        ("binary", binary(executable, &version)),
        ("data_dir", data_dir.into()),
        ("config", options(extra_options(configuration, &version))),
        ("snapshots", found.snapshots.clone()),
    ]))
}
