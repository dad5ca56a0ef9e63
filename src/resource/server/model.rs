//! What a configuration says about a server, and its way into the topology.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Type};
use crate::plugin::value::Value;
use crate::resource::connection::{self, SshOverrides};
use crate::topology::{NetworkName, Server, ServerName};

/// The port for peers that etcd has by default.
pub const PEER_PORT: i64 = 2380;
/// The port for clients that etcd has by default.
pub const CLIENT_PORT: i64 = 2379;

/// A server as the configuration and the state have it; everything known.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServerModel {
    /// Its name.
    pub name: String,
    /// The network that it stands in.
    pub network: String,
    /// Its address within the network.
    pub private_address: String,
    /// Its address for everybody else.
    #[serde(default)]
    pub public_address: Option<String>,
    /// The addresses that its connections come from.
    #[serde(default)]
    pub egress_addresses: Option<Vec<String>>,
    /// Its port for peers.
    pub peer_port: u16,
    /// Its port for clients.
    pub client_port: u16,
    /// What differs in its SSH connection.
    #[serde(default)]
    pub ssh: Option<SshOverrides>,
    /// The host key that was pinned.
    #[serde(default)]
    pub host_key: Option<String>,
    /// The host key of its bastion that was pinned, with the bastion's name.
    #[serde(default)]
    pub bastion_host_key: Option<String>,
}

impl ServerModel {
    /// The address to connect to by SSH, unless `ssh.host` says otherwise.
    pub fn ssh_address(&self) -> &str {
        self.public_address.as_deref().unwrap_or(&self.private_address)
    }
}

/// The attributes that `etcd_server` and the maps of servers share.
pub fn attributes() -> Vec<Attribute> {
    vec![
        Attribute::string("name").required().describe(
            "Its name: lower case letters, digits and hyphens. The member that runs on it has this name too.",
        ),
        Attribute::string("network").required().describe(
            "The network that it stands in, any name. Servers of one network reach each other by private address, \
             all others by public address.",
        ),
        Attribute::string("private_address")
            .required()
            .describe("Its IPv4 or IPv6 address within the network; it has to be on one of its interfaces."),
        Attribute::string("public_address").describe(
            "The IPv4 or IPv6 address at which servers of other networks reach it, its own or that of a NAT in front. \
             May be left out where no server of another network has to.",
        ),
        Attribute::list("egress_addresses", Type::String).describe(
            "Addresses that its connections come from, where a NAT sends them out by others than `public_address`. \
             Needed for etcd 3.4 only.",
        ),
        Attribute::number("peer_port")
            .default(PEER_PORT)
            .describe("The port for peers, the same inside and outside of the network. Default: 2380."),
        Attribute::number("client_port")
            .default(CLIENT_PORT)
            .describe("The port for clients. Default: 2379."),
        Attribute::object("ssh", connection::server_attributes())
            .describe("What differs from the provider's `ssh` for this server."),
    ]
}

/// The attributes of a server within the `servers` map of a cluster.
pub fn element_attributes() -> Vec<Attribute> {
    let mut attributes = attributes();
    attributes.extend([
        Attribute::string("host_key").describe("The host key that `etcd_server` pinned."),
        Attribute::string("bastion_host_key").describe("The host key of its bastion that `etcd_server` pinned."),
    ]);
    attributes
}

/// Whether a server is to be at another place than it was, by its addresses or the way to it, or to show another key. Then it may be
/// another machine.
pub fn is_elsewhere(prior: &Value, planned: &Value) -> bool {
    let places: [&[&str]; 6] = [
        &["private_address"],
        &["public_address"],
        &["ssh", "host"],
        &["ssh", "port"],
        &["ssh", "bastion", "host"],
        &["ssh", "host_key"],
    ];
    !prior.is_null() && places.iter().any(|place| prior.at(place) != planned.at(place))
}

/// Whether two servers, as far as both are known, are at the same place: the same way in, or the same private address of one network.
pub fn is_at(one: &Value, other: &Value) -> bool {
    let known = |value: &Value| value.as_str().map(str::to_owned);
    let way = |server: &Value| {
        let (host, public) = (server.at(&["ssh", "host"]), server.get("public_address"));
        let parts = [
            host,
            public,
            server.at(&["ssh", "port"]),
            server.at(&["ssh", "bastion", "host"]),
        ];
        if parts.iter().any(|part| part.is_unknown()) {
            return None;
        }
        let host = known(host).or_else(|| known(public));
        Some((
            host.or_else(|| known(server.get("private_address")))?,
            server.at(&["ssh", "port"]).as_i64(),
            known(server.at(&["ssh", "bastion", "host"])),
        ))
    };
    let private = |server: &Value| Some((known(server.get("network"))?, known(server.get("private_address"))?));
    let same_way = way(one).is_some_and(|one| way(other) == Some(one));
    same_way || private(one).is_some_and(|one| private(other) == Some(one))
}

/// Where a server is, as a person reads it.
pub fn place_of(server: &ServerModel) -> String {
    let mut text = format!("private_address = \"{}\"", server.private_address);
    if let Some(public) = &server.public_address {
        text.push_str(&format!(", public_address = \"{public}\""));
    }
    if let Some(host) = server.ssh.as_ref().and_then(|ssh| ssh.host.as_ref()) {
        text.push_str(&format!(", ssh.host = \"{host}\""));
    }
    text
}

/// The pinned key of the bastion in the plan of a server that stays where it is. It stays too, also where there is none, so that nothing
/// becomes unknown for other changes.
pub fn planned_bastion_key(prior: &Value, planned: &Value) -> Value {
    let bastion = ["ssh", "bastion"];
    if prior.at(&bastion) == planned.at(&bastion) {
        prior.get("bastion_host_key").clone()
    } else {
        Value::Unknown
    }
}

/// Reads the server, as far as the topology needs it, from a value that may have unknowns. `None` where something
/// is unknown; problems are put on the attribute below `at`.
pub fn to_topology(value: &Value, at: &Path, diagnostics: &mut Diagnostics) -> Option<Server> {
    let mut fields = Fields {
        value,
        at,
        diagnostics,
        complete: true,
    };
    let name = fields.parse("name", |text| {
        ServerName::parse(text).map_err(|error| error.to_string())
    });
    let network = fields.parse("network", |text| {
        NetworkName::parse(text).map_err(|error| error.to_string())
    });
    let private_address = fields.parse("private_address", parse_address);
    let public_address = fields.parse("public_address", parse_address);
    let egress_addresses = fields.addresses("egress_addresses");
    let peer_port = fields.port("peer_port", PEER_PORT);
    let client_port = fields.port("client_port", CLIENT_PORT);
    if !fields.complete {
        return None;
    }
    Some(Server {
        name: name?,
        network: network?,
        private_address: private_address?,
        public_address,
        egress_addresses,
        peer_port: peer_port?,
        client_port: client_port?,
    })
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an IPv4 or IPv6 address"))
}

struct Fields<'a> {
    value: &'a Value,
    at: &'a Path,
    diagnostics: &'a mut Diagnostics,
    complete: bool,
}

impl Fields<'_> {
    fn parse<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.value.get(name);
        self.complete &= !value.is_unknown();
        match parse(value.as_str()?) {
            Ok(parsed) => Some(parsed),
            Err(problem) => {
                self.wrong(self.at.attribute(name), problem);
                None
            }
        }
    }

    fn addresses(&mut self, name: &str) -> Vec<IpAddr> {
        let value = self.value.get(name);
        self.complete &= value.is_wholly_known();
        let mut addresses = Vec::new();
        for (position, item) in (0i64..).zip(value.as_list().unwrap_or_default()) {
            match item.as_str().map(parse_address) {
                Some(Ok(address)) => addresses.push(address),
                Some(Err(problem)) => self.wrong(self.at.attribute(name).index(position), problem),
                None => {}
            }
        }
        addresses
    }

    fn port(&mut self, name: &str, default: i64) -> Option<u16> {
        let value = self.value.get(name);
        self.complete &= !value.is_unknown();
        let number = match value {
            Value::Null => Some(default),
            Value::Unknown => return None,
            // Terraform's numbers may be fractions, or larger than any that is counted here.
            number => number.as_i64(),
        };
        let port = number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|port| *port > 0);
        if port.is_none() {
            let number = number.map_or("this number".to_owned(), |number| number.to_string());
            self.wrong(
                self.at.attribute(name),
                format!("{number} is not a port: it has to be between 1 and 65535"),
            );
        }
        port
    }

    fn wrong(&mut self, path: Path, problem: String) {
        self.complete = false;
        self.diagnostics
            .push(Diagnostic::error("Invalid server", problem).at(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_address_is_another_place_and_another_user_is_not() {
        let server = |address: &str, user: &str| {
            Value::object([
                ("private_address", address.into()),
                ("ssh", Value::object([("user", user.into())])),
            ])
        };
        let before = server("10.0.0.1", "admin");
        assert!(is_elsewhere(&before, &server("10.0.0.2", "admin")));
        assert!(!is_elsewhere(&before, &server("10.0.0.1", "root")));
        assert!(!is_elsewhere(&Value::Null, &before));
    }

    #[test]
    fn the_key_of_a_bastion_is_planned_again_unless_the_bastion_is_another() {
        let server = |bastion: Value, pinned: Value, port: i64| {
            Value::object([
                ("client_port", port.into()),
                ("ssh", Value::object([("bastion", bastion)])),
                ("bastion_host_key", pinned),
            ])
        };
        let door = |key: &str| Value::object([("host", "door".into()), ("host_key", key.into())]);
        let before = server(door("one"), "door one".into(), 2379);
        let same = server(door("one"), Value::Unknown, 2378);
        assert_eq!(planned_bastion_key(&before, &same), "door one".into());
        let other = server(door("two"), Value::Unknown, 2379);
        assert_eq!(planned_bastion_key(&before, &other), Value::Unknown);
        let none = server(Value::Null, Value::Null, 2379);
        assert_eq!(
            planned_bastion_key(&none, &server(Value::Null, Value::Unknown, 1)),
            Value::Null
        );
    }
}
