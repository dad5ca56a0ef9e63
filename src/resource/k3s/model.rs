//! A k3s cluster as a configuration has it: `etcd_k3s_cluster`, and the `cluster` of `etcd_k3s_server`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Deserialize;

use super::API_PORT;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Type};
use crate::plugin::value::Value;
use crate::resource::cluster::model::{self as cluster, ClusterModel};
use crate::resource::server::model::{self as server, ServerModel};
use crate::topology::{Pool, ServerName, Topology, Translation};

/// The pool unless the configuration has one.
pub const POOL: &str = "100.64.77.0/24";

/// A cluster as plan and state have it; everything known that is needed.
#[derive(Clone, Debug, Deserialize)]
pub struct K3sClusterModel {
    /// Its name.
    pub name: String,
    /// Its servers by name.
    pub servers: BTreeMap<String, ServerModel>,
    /// What sets it apart from every other cluster.
    #[serde(default)]
    pub id: Option<String>,
    /// The service that is started after the translation.
    #[serde(default)]
    pub service: Option<String>,
    /// An etcd outside of k3s.
    #[serde(default)]
    pub datastore: Option<Datastore>,
}

/// The attribute `datastore`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Datastore {
    /// Where each server finds it.
    pub endpoint: String,
    /// The authority of its certificate, a file on the server.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// The certificate to show, a file on the server.
    #[serde(default)]
    pub cert_file: Option<String>,
    /// The key of that, a file on the server.
    #[serde(default)]
    pub key_file: Option<String>,
}

impl K3sClusterModel {
    /// The ID; empty only while it is not known yet.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// The service that is started after the translation.
    pub fn service(&self) -> &str {
        self.service.as_deref().unwrap_or("k3s.service")
    }

    /// The same cluster as those see it that talk to etcd: one that was made by other means, so that a member is known by its address and by
    /// what it says of itself.
    pub fn as_etcd(&self) -> ClusterModel {
        ClusterModel {
            name: format!("k3s-{}", self.name),
            servers: self.servers.clone(),
            token: self.id.clone(),
            domain: None,
            tls: None,
            heartbeat_interval: None,
            election_timeout: None,
            founders: None,
            certificate_authorities: None,
            preflight: None,
            source_addresses: None,
            restore: None,
            adopted_from: Some(self.service().to_owned()),
        }
    }
}

/// The attributes that `etcd_k3s_cluster` has and `etcd_k3s_server.cluster` takes from it.
pub fn shared_attributes() -> Vec<Attribute> {
    vec![
        Attribute::string("name")
            .required()
            .describe("Its name: lower case letters, digits and hyphens. Files and services on the servers carry it."),
        Attribute::map_of("servers", server::element_attributes()).required().describe(
            "Its servers by name: a map of `etcd_server` objects. Only IPv4 is translated, and ports are etcd's defaults.",
        ),
        Attribute::object(
            "datastore",
            vec![
                Attribute::string("endpoint").required().describe(
                    "What k3s gets as `datastore-endpoint`, such as `https://127.0.0.1:2379` for an `etcd_member` on each server.",
                ),
                Attribute::string("ca_file").describe("The authority that signed its certificate: a file on every server."),
                Attribute::string("cert_file").describe("The client certificate that k3s shows: a file on every server."),
                Attribute::string("key_file").describe("The key of that certificate: a file on every server."),
            ],
        )
        .describe(
            "An etcd outside of k3s, such as one of `etcd_member`s. Then k3s runs none of its own, no address is translated, and every \
             server is like every other.",
        ),
    ]
}

/// The topology of a cluster block, or of a server's `cluster`. `None` while something is unknown, or where there are errors.
pub fn topology(block: &Value, at: &Path, diagnostics: &mut Diagnostics) -> Option<Topology> {
    // The names of etcd's members are none here; whatever the domain is nobody sees.
    let as_cluster = Value::object([
        ("name", block.get("name").clone()),
        ("servers", block.get("servers").clone()),
    ]);
    cluster::topology(&as_cluster, at, diagnostics)
}

/// Whether k3s runs etcd itself; `None` while that is not known.
pub fn has_etcd(block: &Value) -> Option<bool> {
    match block.get("datastore") {
        Value::Unknown => None,
        datastore => Some(datastore.is_null()),
    }
}

/// The translation of a cluster block with the addresses that were given before. `None` where there are errors.
pub fn translation(
    block: &Value,
    topology: &Topology,
    kept: &Value,
    at: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<Translation> {
    let pool = match block.get("pool") {
        Value::Unknown => return None,
        pool => Pool::parse(pool.as_str().unwrap_or(POOL)),
    };
    let pool = match pool {
        Ok(pool) => pool,
        Err(error) => {
            diagnostics.push(Diagnostic::error("Invalid pool", error.to_string()).at(at.attribute("pool")));
            return None;
        }
    };
    let kept: BTreeMap<ServerName, Ipv4Addr> = { kept.as_map().into_iter().flatten() }
        .filter_map(|(name, address)| Some((ServerName::parse(name).ok()?, address.as_str()?.parse().ok()?)))
        .collect();
    let ports = join_ports(block);
    match Translation::new(topology, pool, &kept, &ports) {
        Ok(translation) => Some(translation),
        Err(errors) => {
            for error in errors {
                let path = match error.place() {
                    None => at.attribute("pool"),
                    Some((server, field)) => at
                        .attribute("servers")
                        .key(server.as_str())
                        .attribute(field.attribute()),
                };
                let summary = "These addresses can't be translated";
                diagnostics.push(Diagnostic::error(summary, error.to_string()).at(path));
            }
            None
        }
    }
}

fn join_ports(block: &Value) -> Vec<u16> {
    match block.get("join_ports").as_list() {
        Some(ports) => { ports.iter() }
            .filter_map(|port| u16::try_from(port.as_i64()?).ok())
            .collect(),
        None => vec![API_PORT],
    }
}

/// A list of ports.
pub fn ports_attribute(name: &'static str) -> Attribute {
    Attribute::list(name, Type::Number)
}
