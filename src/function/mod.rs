//! The provider's functions: the pure code of [`crate::topology`], for use in configurations.

use std::collections::BTreeMap;

use crate::plugin::block::{Function, FunctionError, Parameter};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::path::Path;
use crate::plugin::schema::Type;
use crate::plugin::value::Value;
use crate::resource::server::model;
use crate::topology::diagram::Diagram;
use crate::topology::{ClusterName, Domain, Scheme, ServerName, Topology, View};

/// `initial_cluster(servers, viewer)`.
pub struct InitialCluster;

/// `peer_addresses(servers, viewer)`.
pub struct PeerAddresses;

impl Function for InitialCluster {
    fn name(&self) -> &'static str {
        "initial_cluster"
    }

    fn summary(&self) -> &'static str {
        "The initial-cluster string of one server"
    }

    fn description(&self) -> &'static str {
        "Returns etcd's `initial-cluster` as `viewer` needs it: its own peer URL and those of its network with private \
         addresses, all others with public ones, sorted by name."
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters()
    }

    fn returns(&self) -> Type {
        Type::String
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        Ok(match view(arguments)? {
            Some(view) => view.initial_cluster.into(),
            None => Value::Unknown,
        })
    }
}

impl Function for PeerAddresses {
    fn name(&self) -> &'static str {
        "peer_addresses"
    }

    fn summary(&self) -> &'static str {
        "The addresses by which one server dials the others"
    }

    fn description(&self) -> &'static str {
        "Returns a map of server names to the addresses by which `viewer` dials them: private ones for itself and its \
         network, public ones for all others."
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters()
    }

    fn returns(&self) -> Type {
        Type::Map(Box::new(Type::String))
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        let Some(view) = view(arguments)? else {
            return Ok(Value::Unknown);
        };
        let addresses = view.addresses.iter();
        let addresses: BTreeMap<String, Value> = addresses
            .map(|(name, address)| (name.to_string(), address.to_string().into()))
            .collect();
        Ok(addresses.into())
    }
}

/// `topology_diagram(servers)`.
pub struct TopologyDiagram;

impl Function for TopologyDiagram {
    fn name(&self) -> &'static str {
        "topology_diagram"
    }

    fn summary(&self) -> &'static str {
        "A picture of who dials whom by which address"
    }

    fn description(&self) -> &'static str {
        "Returns an object with `mermaid`, a Mermaid flowchart, and `svg`, an image that needs nothing else: networks as \
         boxes, servers with their addresses in them, and lines in the colour of the address that is dialled."
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![servers_parameter()]
    }

    fn returns(&self) -> Type {
        let entry = |name: &str| (name.to_owned(), Type::String);
        Type::Object([entry("mermaid"), entry("svg")].into())
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        let [servers] = arguments else {
            return Err(FunctionError {
                message: "one argument is needed: servers".into(),
                argument: None,
            });
        };
        let Some(topology) = topology(servers)? else {
            return Ok(Value::Unknown);
        };
        let diagram = Diagram::of(&topology, "Who dials whom");
        Ok(Value::object([
            ("mermaid", diagram.mermaid().into()),
            ("svg", diagram.svg().into()),
        ]))
    }
}

fn servers_parameter() -> Parameter {
    Parameter {
        name: "servers",
        r#type: Type::Dynamic,
        description: "A map of servers by name: `etcd_server` objects, or objects with `network`, `private_address` \
                      and, where they have them, `public_address` and `peer_port`. A `name` has to be the key.",
    }
}

fn parameters() -> Vec<Parameter> {
    vec![
        servers_parameter(),
        Parameter {
            name: "viewer",
            r#type: Type::String,
            description: "The name of the server that looks.",
        },
    ]
}

/// What the viewer sees; `None` while an address is unknown.
fn view(arguments: &[Value]) -> Result<Option<View>, FunctionError> {
    let [servers, viewer] = arguments else {
        return Err(FunctionError {
            message: "two arguments are needed: servers and viewer".into(),
            argument: None,
        });
    };
    let viewer = ServerName::parse(viewer.as_str().unwrap_or_default()).map_err(|error| wrong(1, error.to_string()))?;
    let Some(topology) = topology(servers)? else {
        return Ok(None);
    };
    topology
        .view(&viewer)
        .map(Some)
        .map_err(|error| wrong(1, error.to_string()))
}

fn wrong(argument: i64, message: String) -> FunctionError {
    FunctionError {
        message,
        argument: Some(argument),
    }
}

/// The first argument, checked as a whole; `None` while an address is unknown.
fn topology(servers: &Value) -> Result<Option<Topology>, FunctionError> {
    let Some(entries) = servers.as_map() else {
        return Err(wrong(
            0,
            "a map of servers by name is needed, such as etcd_server.this with for_each".into(),
        ));
    };
    let mut parsed = Vec::new();
    let mut diagnostics = Diagnostics::new();
    for (key, entry) in entries {
        let mut entry = entry.clone();
        match entry.get("name") {
            Value::Null => entry.set("name", key.as_str()),
            Value::String(name) if name != key => {
                return Err(wrong(
                    0,
                    format!("the server under the key {key:?} is named {name:?}: use the name as the key"),
                ));
            }
            _ => {}
        }
        for needed in ["network", "private_address"] {
            if entry.get(needed).is_null() {
                return Err(wrong(0, format!("the server {key:?} has no {needed}")));
            }
        }
        match model::to_topology(&entry, &Path::root().key(key), &mut diagnostics) {
            Some(server) => parsed.push(server),
            None if diagnostics.has_errors() => break,
            None => return Ok(None),
        }
    }
    if let Some(problem) = diagnostics.iter().next() {
        let at = problem.path.as_ref().map(ToString::to_string).unwrap_or_default();
        return Err(wrong(0, format!("{at}: {}", problem.detail)));
    }
    // Neither name nor domain is part of what is asked for.
    let cluster = ClusterName::parse("etcd").map_err(|error| wrong(0, error.to_string()))?;
    let domain = Domain::of_cluster(&cluster);
    let checked = Topology::new(cluster, domain, Scheme::Https, parsed);
    checked.map(Some).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        wrong(0, errors.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Value {
        let server = |network: &str, private: &str, public: &str| {
            Value::object([
                ("network", network.into()),
                ("private_address", private.into()),
                ("public_address", public.into()),
            ])
        };
        Value::object([
            ("a1", server("a", "10.0.0.11", "203.0.113.11")),
            ("b1", server("b", "10.0.0.11", "203.0.113.21")),
        ])
    }

    #[test]
    fn every_viewer_has_its_own_string() {
        let of = |viewer: &str| InitialCluster.call(&[servers(), viewer.into()]).unwrap();
        assert_eq!(
            of("a1").as_str(),
            Some("a1=https://10.0.0.11:2380,b1=https://203.0.113.21:2380")
        );
        assert_eq!(
            of("b1").as_str(),
            Some("a1=https://203.0.113.11:2380,b1=https://10.0.0.11:2380")
        );
    }

    #[test]
    fn addresses_are_a_map() {
        let map = PeerAddresses.call(&[servers(), "a1".into()]).unwrap();
        assert_eq!(map.get("b1").as_str(), Some("203.0.113.21"));
    }

    #[test]
    fn a_diagram_is_drawn_in_both_forms() {
        let drawn = TopologyDiagram.call(&[servers()]).unwrap();
        assert!(drawn.get("mermaid").as_str().unwrap().contains("flowchart LR"));
        assert!(drawn.get("svg").as_str().unwrap().starts_with("<svg "));
        let error = TopologyDiagram.call(&["a1".into()]).unwrap_err();
        assert_eq!(error.argument, Some(0));
    }

    #[test]
    fn mistakes_are_put_on_their_argument() {
        let error = InitialCluster.call(&[servers(), "z9".into()]).unwrap_err();
        assert_eq!(error.argument, Some(1));
        assert!(error.message.contains("z9"), "{}", error.message);
        let error = InitialCluster.call(&["a1".into(), "a1".into()]).unwrap_err();
        assert_eq!(error.argument, Some(0));
    }
}
