//! Import of a member that this provider made and that no state knows of any more.

use super::{MemberResource, model, plan};
use crate::etcd::config::extra_options;
use crate::etcd::layout::binaries_dir;
use crate::etcd::version::Version;
use crate::plugin::block::{ImportRequest, ImportResponse};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;
use crate::resource::import::{FoundMember, given, read_back, refused};

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
    ]
}

/// The identity of a state. The servers are for the import only: they come and go.
pub fn identity_of(state: &Value) -> Value {
    Value::object([
        ("cluster", state.at(&["cluster", "name"]).clone()),
        ("server", state.get("server").clone()),
        ("servers", Value::Null),
    ])
}

impl MemberResource {
    pub(super) async fn take_over(&self, request: &ImportRequest) -> ImportResponse {
        let found = self.found(request).await;
        found.map(|state| (state, Diagnostics::new())).into()
    }

    async fn found(&self, request: &ImportRequest) -> Result<Value, Diagnostics> {
        let given = given::member(request)?;
        let found = read_back(&self.road, &given.cluster, &given.servers).await?;
        let what = format!("The member on server {}", given.server);
        let member = found.members.get(&given.server).cloned().unwrap_or_default();
        let state = member_state(&given.server, found.cluster, &member).map_err(|problem| refused(&what, &problem))?;
        let state = with_defaults(state);
        // What follows from it, as a plan would say; the read that comes next says what is there.
        let (state, diagnostics) = plan::refine(&Value::Null, state);
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        Ok(state.unknown_as_null())
    }
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
    let folder = executable.trim_end_matches("/etcd");
    // Where the provider brings releases and uploads; what lies elsewhere was there before.
    let binary = if folder == binaries_dir(&version).as_str() {
        Value::Null
    } else {
        Value::object([("host_path", folder.into())])
    };
    let options: serde_yaml_ng::Mapping = serde_yaml_ng::from_str(configuration)
        .map_err(|error| format!("Its configuration file is no YAML: {error}."))?;
    let data_dir = options.get("data-dir").and_then(serde_yaml_ng::Value::as_str);
    let extra = extra_options(configuration, &version);
    let config = if extra.is_empty() {
        Value::Null
    } else {
        Value::Map(extra.into_iter().map(|(key, value)| (key, value.into())).collect())
    };
    Ok(Value::object([
        ("cluster", cluster),
        ("server", server.into()),
        ("version", version.to_string().into()),
        ("binary", binary),
        ("data_dir", data_dir.into()),
        ("config", config),
    ]))
}
