//! What a configuration says about a cluster. `etcd_member` takes the same, through its `cluster`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::preflight::PreflightModel;
use crate::etcd::certificates::Serial;

use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Type};
use crate::plugin::value::Value;
use crate::resource::server::model::{self as server, ServerModel};
use crate::topology::{ClusterName, Domain, Scheme, Topology, ViewError};

/// A cluster as plan and state have it; everything known that is needed.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterModel {
    /// Its name.
    pub name: String,
    /// Its servers by name.
    pub servers: BTreeMap<String, ServerModel>,
    /// What sets it apart from every other cluster.
    #[serde(default)]
    pub token: Option<String>,
    /// The domain of its members' names.
    #[serde(default)]
    pub domain: Option<String>,
    /// Whether and by whose authority connections are secured.
    #[serde(default)]
    pub tls: Option<TlsModel>,
    /// etcd's heartbeat interval in ms.
    #[serde(default)]
    pub heartbeat_interval: Option<u32>,
    /// etcd's election timeout in ms.
    #[serde(default)]
    pub election_timeout: Option<u32>,
    /// The servers that founded it.
    #[serde(default)]
    pub founders: Option<Vec<String>>,
    /// Its certificate authorities; none without TLS.
    #[serde(default)]
    pub certificate_authorities: Option<Authorities>,
    /// What is looked at before anything is changed.
    #[serde(default)]
    pub preflight: Option<PreflightModel>,
    /// Addresses that servers were seen to come from and that are none of their own.
    #[serde(default)]
    pub source_addresses: Option<BTreeMap<String, Vec<String>>>,
    /// The service that ran its members before this provider did.
    #[serde(default)]
    pub adopted_from: Option<String>,
    /// The snapshot that it is founded from.
    #[serde(default)]
    pub restore: Option<RestoreModel>,
}

/// The attribute `restore`.
#[derive(Clone, Debug, Deserialize)]
pub struct RestoreModel {
    /// The snapshot, a file on this machine.
    pub snapshot_file: String,
    /// By how much the revision is raised.
    #[serde(default)]
    pub bump_revision: Option<u64>,
}

/// The attribute `tls`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TlsModel {
    /// Whether connections are secured.
    pub enabled: Option<bool>,
    /// The certificate of an authority of the user's own for peers.
    pub peer_ca_certificate: Option<String>,
    /// The certificate of an authority of the user's own for clients.
    pub client_ca_certificate: Option<String>,
    /// Another text has the authorities that the cluster made replaced.
    pub ca_rotation: Option<String>,
    /// Certificates that are accepted no more.
    pub revoked: Option<Vec<Option<String>>>,
}

/// The attribute `certificate_authorities`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Authorities {
    /// For connections between members.
    pub peer: Authority,
    /// For connections of clients.
    pub client: Authority,
}

/// One certificate authority: the one that issues, and those that are trusted while another takes its place.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Authority {
    /// Its certificate in PEM.
    pub certificate: String,
    /// Its private key in PEM, where it is known.
    pub private_key: Option<String>,
    /// What members and clients are to trust, in PEM: this authority, and in a rotation the other one too.
    pub trusted: Option<String>,
    /// The certificate of the authority that is to take its place.
    pub next_certificate: Option<String>,
    /// The private key of that one, where it is known.
    pub next_private_key: Option<String>,
}

impl Authority {
    /// What members and clients are to trust, in PEM.
    pub fn trusted(&self) -> &str {
        self.trusted.as_deref().unwrap_or(&self.certificate)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority(key: {})", self.private_key.is_some())
    }
}

impl ClusterModel {
    /// The servers that found it, or did.
    pub fn founders(&self) -> BTreeSet<String> {
        let named = self.founders.as_ref().map(|names| names.iter().cloned().collect());
        named.unwrap_or_else(|| self.servers.keys().cloned().collect())
    }

    /// Whether connections are secured.
    pub fn tls_enabled(&self) -> bool {
        self.tls.as_ref().and_then(|tls| tls.enabled).unwrap_or(true)
    }

    /// The serial numbers of the certificates that are accepted no more.
    pub fn revoked(&self) -> BTreeSet<Serial> {
        let listed = self.tls.iter().flat_map(|tls| tls.revoked.iter().flatten());
        listed.flatten().filter_map(|text| Serial::read(text).ok()).collect()
    }

    /// Its server of this name.
    ///
    /// # Errors
    /// If it has none.
    pub fn server(&self, name: &str) -> Result<&ServerModel, ViewError> {
        self.servers.get(name).ok_or_else(|| ViewError::UnknownServer {
            name: name.to_owned(),
            known: self.servers.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// The token; empty only while it is not known yet.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }
}

/// The attributes that `etcd_cluster` has and `etcd_member.cluster` takes from it.
pub fn shared_attributes() -> Vec<Attribute> {
    vec![
        Attribute::string("name").required().describe(
            "Its name: lower case letters, digits and hyphens. Files, the service and the names of members carry it.",
        ),
        Attribute::map_of("servers", server::element_attributes())
            .required()
            .describe(
                "Its servers by name: a map of `etcd_server` objects (or of objects with the same attributes). Maps of \
             several modules can be merged.",
            ),
        Attribute::object(
            "tls",
            vec![
            Attribute::bool("enabled").describe(
                "Whether connections between members and of clients use TLS with client certificates. Default: true.",
            ),
            Attribute::string("peer_ca_certificate").describe(
                "The certificate of your own authority for peers, in PEM; it must sign nothing else. Its key is given \
                 to the provider (`certificate_authorities`) or to the members (`peer_ca_private_key_wo`).",
            ),
            Attribute::string("client_ca_certificate").describe(
                "The certificate of your own authority for clients, in PEM. Its key is given to the provider \
                 (`certificate_authorities`) or to the members (`client_ca_private_key_wo`).",
            ),
            Attribute::string("ca_rotation").describe(
                "Any text, such as a date. Another one replaces the authorities that the cluster made itself, in three applies: \
                 see the guide on TLS.",
            ),
            Attribute::list("revoked", Type::String).describe(
                "Certificates that no member accepts any more: each in PEM, or its serial number in hexadecimal. A change restarts the \
                 members, one at a time.",
            ),
        ],
        )
        .describe("How connections are secured. By default the cluster makes two certificate authorities of its own."),
    ]
}

/// The attributes of `certificate_authorities`. Members take the keys as write-only values, so that they are in
/// the cluster's state and nowhere else.
pub fn authority_attributes(write_only_keys: bool) -> Vec<Attribute> {
    let authority = |name, description| {
        let key = Attribute::string("private_key")
            .sensitive()
            .describe("Its private key in PEM.");
        let certificate = Attribute::string("certificate").describe("Its certificate in PEM.");
        let trusted = Attribute::string("trusted").describe(
            "What members and clients are to trust, in PEM: the authority, and during a rotation the one before or after it too.",
        );
        let attributes = if write_only_keys {
            vec![certificate, key.write_only(), trusted]
        } else {
            let next =
                Attribute::string("next_certificate").describe("The certificate that takes its place in a rotation.");
            let next_key = Attribute::string("next_private_key")
                .sensitive()
                .describe("The private key of that one.");
            [certificate, key, trusted, next, next_key]
                .map(Attribute::computed)
                .to_vec()
        };
        let object = Attribute::object(name, attributes).describe(description);
        if write_only_keys { object } else { object.computed() }
    };
    vec![
        authority(
            "peer",
            "The authority for connections between members; it signs nothing else.",
        ),
        authority("client", "The authority for connections of clients."),
    ]
}

/// What else a block takes from a cluster that it only looks at: no keys, which would get into its state.
pub fn attributes_without_keys() -> Vec<Attribute> {
    let authority = |name, description| {
        let certificate = Attribute::string("certificate").describe("Its certificate in PEM.");
        let trusted = Attribute::string("trusted").describe("What members and clients are to trust, in PEM.");
        Attribute::object(name, vec![certificate, trusted]).describe(description)
    };
    let authorities = vec![
        authority("peer", "The authority for connections between members."),
        authority("client", "The authority for connections of clients."),
    ];
    vec![
        Attribute::string("token").describe("Its token."),
        Attribute::string("domain").describe("The domain of its members' names."),
        Attribute::object("certificate_authorities", authorities)
            .describe("Its certificate authorities, without their keys."),
    ]
}

/// A map of text attributes, as the views have them.
pub fn text_map(name: &'static str) -> Attribute {
    Attribute::map(name, Type::String)
}

/// The topology of a cluster block or of a member's `cluster`, below `at`. `None` while something that it needs
/// is unknown, or where there are errors.
pub fn topology(block: &Value, at: &Path, diagnostics: &mut Diagnostics) -> Option<Topology> {
    let name = parse(block, "name", at, diagnostics, ClusterName::parse);
    let servers_at = at.attribute("servers");
    let mut servers = Vec::new();
    let mut complete = block.get("servers").as_map().is_some();
    for (key, value) in block.get("servers").as_map().into_iter().flatten() {
        let server_at = servers_at.key(key);
        match server::to_topology(value, &server_at, diagnostics) {
            Some(server) => servers.push((key.clone(), server)),
            None => complete = false,
        }
    }
    let scheme = match block.get("tls") {
        Value::Unknown => return None,
        tls if tls.get("enabled").is_unknown() => return None,
        tls if tls.get("enabled").as_bool() == Some(false) => Scheme::Http,
        _ => Scheme::Https,
    };
    let domain = match block.get("domain") {
        Value::String(_) => parse(block, "domain", at, diagnostics, Domain::parse)?,
        // Only a plan has it unknown, and only where the configuration leaves it to the default.
        _ => Domain::of_cluster(name.as_ref()?),
    };
    if !complete {
        return None;
    }
    let keys: BTreeMap<String, String> = servers
        .iter()
        .map(|(key, server)| (server.name.as_str().to_owned(), key.clone()))
        .collect();
    let misnamed: Vec<_> = servers
        .iter()
        .filter(|(key, server)| key != server.name.as_str())
        .cloned()
        .collect();
    match Topology::new(
        name?,
        domain,
        scheme,
        servers.into_iter().map(|(_, server)| server).collect(),
    ) {
        Ok(topology) => {
            for (key, server) in &misnamed {
                diagnostics.push(
                    Diagnostic::error(
                        "A server's key is not its name",
                        format!(
                            "The server under the key {key:?} is named {:?}. Use the name as the key, since members and \
                             addresses are looked up by it.",
                            server.name.as_str()
                        ),
                    )
                    .at(servers_at.key(key)),
                );
            }
            misnamed.is_empty().then_some(topology)
        }
        Err(errors) => {
            for error in errors {
                let path = error.place().map_or_else(
                    || servers_at.clone(),
                    |(server, field)| {
                        let name = server.as_str();
                        servers_at
                            .key(keys.get(name).map_or(name, String::as_str))
                            .attribute(field.attribute())
                    },
                );
                diagnostics.push(Diagnostic::error("These servers can't form a cluster", error.to_string()).at(path));
            }
            None
        }
    }
}

fn parse<T>(
    block: &Value,
    name: &str,
    at: &Path,
    diagnostics: &mut Diagnostics,
    parse: impl Fn(&str) -> Result<T, crate::topology::NameError>,
) -> Option<T> {
    match parse(block.get(name).as_str()?) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            diagnostics.push(Diagnostic::error(format!("Invalid {name}"), error.to_string()).at(at.attribute(name)));
            None
        }
    }
}
