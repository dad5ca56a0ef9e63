//! What an import is given: an ID in JSON, or an identity (Terraform 1.12 and later).

use std::collections::BTreeMap;

use super::refused;
use crate::plugin::block::ImportRequest;
use crate::plugin::codec::{attributes_type, decode_given};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::{Attribute, Type};
use crate::plugin::value::Value;
use crate::resource::server::model::{self as server, CLIENT_PORT, PEER_PORT};

/// What a user says of a cluster, and of which of its members.
#[derive(Debug)]
pub struct Given {
    /// The cluster's name.
    pub cluster: String,
    /// The server of the member; empty for the cluster itself.
    pub server: String,
    /// All servers of the cluster by name, as `etcd_cluster.servers` has them, without host keys.
    pub servers: Value,
    /// The service that runs its members, if this provider did not make it.
    pub adopted_from: Option<String>,
}

/// The attribute of an identity that only an import has.
pub fn servers_attribute() -> Attribute {
    Attribute::string("servers").describe(
        "For the import only: the servers of the cluster by name, in JSON, with the arguments of `etcd_server`. Required there.",
    )
}

/// The other one.
pub fn adopted_from_attribute() -> Attribute {
    Attribute::string("adopted_from").describe(
        "For the import only: the service that runs the members of a cluster which was made by other means, such as `etcd.service`.",
    )
}

/// What is given for an `etcd_server`: its arguments.
///
/// # Errors
/// If the ID is none.
pub fn server(request: &ImportRequest) -> Result<Value, Diagnostics> {
    let example = r#"jsonencode({ name = "a1", network = "office", private_address = "10.0.0.11", public_address = "203.0.113.11" })"#;
    let what = "etcd_server";
    let mut given = match &request.id {
        Some(id) => decode(id, &attributes_type(&server::attributes()), what, example)?,
        None => request.identity.clone(),
    };
    for name in ["name", "network", "private_address"] {
        if given.get(name).as_str().is_none_or(str::is_empty) {
            return Err(refused(what, &format!("{name} is missing. The ID is {example}.")));
        }
    }
    default_ports(&mut given);
    Ok(given)
}

/// What is given for an `etcd_cluster`.
///
/// # Errors
/// If ID or identity is none.
pub fn cluster(request: &ImportRequest) -> Result<Given, Diagnostics> {
    let example = r#"jsonencode({ name = "main", servers = local.servers })"#;
    let what = "etcd_cluster";
    let given = whole(request, &[("name", Type::String)], what, example)?;
    Ok(Given {
        cluster: text(&given, "name", what, example)?,
        server: String::new(),
        servers: servers(given.get("servers"), what, example)?,
        adopted_from: service(&given, what)?,
    })
}

/// What is given for an `etcd_member`.
///
/// # Errors
/// If ID or identity is none, or the server is none of the servers.
pub fn member(request: &ImportRequest) -> Result<Given, Diagnostics> {
    let example = r#"jsonencode({ cluster = "main", server = "a1", servers = local.servers })"#;
    let what = "etcd_member";
    let given = whole(
        request,
        &[("cluster", Type::String), ("server", Type::String)],
        what,
        example,
    )?;
    let given = Given {
        cluster: text(&given, "cluster", what, example)?,
        server: text(&given, "server", what, example)?,
        servers: servers(given.get("servers"), what, example)?,
        adopted_from: service(&given, what)?,
    };
    if given.servers.get(&given.server).is_null() {
        let problem = format!("There is no {:?} among its servers.", given.server);
        return Err(refused(what, &problem));
    }
    Ok(given)
}

/// What is given for something in a cluster: with a name, where a cluster has several.
///
/// # Errors
/// If ID or identity is none.
pub fn in_cluster(
    request: &ImportRequest,
    what: &'static str,
    named: bool,
) -> Result<(Given, Option<String>), Diagnostics> {
    let (example, texts): (_, &[_]) = if named {
        let example = r#"jsonencode({ cluster = "main", name = "app", servers = local.servers })"#;
        (example, &[("cluster", Type::String), ("name", Type::String)])
    } else {
        let example = r#"jsonencode({ cluster = "main", servers = local.servers })"#;
        (example, &[("cluster", Type::String)])
    };
    let given = whole(request, texts, what, example)?;
    let name = named.then(|| text(&given, "name", what, example)).transpose()?;
    let given = Given {
        cluster: text(&given, "cluster", what, example)?,
        server: String::new(),
        servers: servers(given.get("servers"), what, example)?,
        adopted_from: service(&given, what)?,
    };
    Ok((given, name))
}

/// The ID, or the identity with its servers decoded.
fn whole(request: &ImportRequest, texts: &[(&str, Type)], what: &str, example: &str) -> Result<Value, Diagnostics> {
    let of_servers = Type::Map(Box::new(attributes_type(&server::element_attributes())));
    let Some(id) = &request.id else {
        let mut given = request.identity.clone();
        let json = text(&given, "servers", what, example)?;
        given.set("servers", decode(&json, &of_servers, what, example)?);
        return Ok(given);
    };
    let mut attributes: BTreeMap<String, Type> = texts
        .iter()
        .map(|(name, of)| ((*name).to_owned(), of.clone()))
        .collect();
    attributes.insert("servers".to_owned(), of_servers);
    attributes.insert("adopted_from".to_owned(), Type::String);
    decode(id, &Type::Object(attributes), what, example)
}

fn decode(json: &str, of: &Type, what: &str, example: &str) -> Result<Value, Diagnostics> {
    let parsed = serde_json::from_str(json).map_err(|error| {
        let problem = format!("{json:?} is no JSON ({error}). The ID is {example}; see the guide on adoption.");
        refused(what, &problem)
    })?;
    decode_given(&parsed, of).map_err(|error| {
        let problem = format!("{error}. The ID is {example}; each server has the arguments of etcd_server.");
        refused(what, &problem)
    })
}

fn text(given: &Value, name: &str, what: &str, example: &str) -> Result<String, Diagnostics> {
    let text = given.get(name).as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned)
        .ok_or_else(|| refused(what, &format!("{name} is missing. The ID is {example}.")))
}

/// Whether this can be the name of a service, and is no option of `systemctl`'s.
pub fn is_service(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
}

/// The name of a service, with its ending.
fn service(given: &Value, what: &str) -> Result<Option<String>, Diagnostics> {
    let Some(name) = given.get("adopted_from").as_str() else {
        return Ok(None);
    };
    if !is_service(name) {
        let problem = format!("adopted_from is {name:?}, which is no name of a service, such as \"etcd.service\".");
        return Err(refused(what, &problem));
    }
    let ending = if name.ends_with(".service") { "" } else { ".service" };
    Ok(Some(format!("{name}{ending}")))
}

/// The servers with what the configuration has by default; the key is the name.
fn servers(given: &Value, what: &str, example: &str) -> Result<Value, Diagnostics> {
    let mut servers = given.as_map().cloned().unwrap_or_default();
    if servers.is_empty() {
        return Err(refused(what, &format!("servers is missing. The ID is {example}.")));
    }
    for (name, server) in &mut servers {
        if server.get("name").is_null() {
            server.set("name", name.as_str());
        }
        default_ports(server);
    }
    Ok(servers.into())
}

fn default_ports(server: &mut Value) {
    for (name, port) in [("peer_port", PEER_PORT), ("client_port", CLIENT_PORT)] {
        if server.get(name).is_null() {
            server.set(name, port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_id(id: &str) -> ImportRequest {
        ImportRequest {
            id: Some(id.to_owned()),
            identity: Value::Null,
        }
    }

    #[test]
    fn an_id_and_an_identity_say_the_same() {
        let servers = r#"{"a1": {"network": "a", "private_address": "10.0.0.11", "public_address": "203.0.113.11"}}"#;
        let id = format!(r#"{{"cluster": "main", "server": "a1", "servers": {servers}}}"#);
        let one = member(&by_id(&id)).unwrap();
        let identity = [
            ("cluster", "main".into()),
            ("server", "a1".into()),
            ("servers", servers.into()),
        ];
        let other = member(&ImportRequest {
            id: None,
            identity: Value::object(identity),
        })
        .unwrap();
        assert_eq!(one.servers, other.servers);
        assert_eq!((one.cluster, one.server), (other.cluster, other.server));
        let server = one.servers.get("a1");
        assert_eq!(server.get("name").as_str(), Some("a1"));
        assert_eq!(server.get("peer_port").as_i64(), Some(2380));
    }

    #[test]
    fn what_is_wrong_with_an_id_is_said() {
        let said = |id: &str| {
            member(&by_id(id))
                .unwrap_err()
                .iter()
                .map(|one| one.detail.clone())
                .collect::<String>()
        };
        assert!(said("main/a1").contains("is no JSON"), "{}", said("main/a1"));
        let misspelt = r#"{"cluster": "main", "server": "a1", "servers": {"a1": {"private": "10.0.0.11"}}}"#;
        assert!(
            said(misspelt).contains(r#"no attribute "private""#),
            "{}",
            said(misspelt)
        );
        let other = r#"{"cluster": "main", "server": "b1", "servers": {"a1": {"private_address": "10.0.0.11"}}}"#;
        assert!(said(other).contains(r#"no "b1" among"#), "{}", said(other));
        let without = r#"{"cluster": "main", "server": "a1"}"#;
        assert!(said(without).contains("servers is missing"), "{}", said(without));
    }
}
