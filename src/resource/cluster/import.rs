//! Import of a cluster that this provider made and that no state knows of any more.

use super::{ClusterResource, model, plan};
use crate::plugin::block::{ImportRequest, ImportResponse};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;
use crate::resource::import::{find, given, refused};

/// What identifies a cluster.
pub fn identity() -> Vec<Attribute> {
    vec![
        Attribute::string("name").required().describe("Its name."),
        given::servers_attribute(),
        given::adopted_from_attribute(),
    ]
}

/// The identity of a state. The servers are for the import only: they come and go.
pub fn identity_of(state: &Value) -> Value {
    Value::object([
        ("name", state.get("name").clone()),
        ("servers", Value::Null),
        ("adopted_from", Value::Null),
    ])
}

impl ClusterResource {
    pub(super) async fn take_over(&self, request: &ImportRequest) -> ImportResponse {
        self.found(request).await.into()
    }

    async fn found(&self, request: &ImportRequest) -> Result<(Value, Diagnostics), Diagnostics> {
        let given = given::cluster(request)?;
        let mut state = find(&self.road, &given).await?.cluster;
        let mut diagnostics = Diagnostics::new();
        let topology = model::topology(&state, &Path::root(), &mut diagnostics);
        let Some(topology) = topology else {
            diagnostics.append(refused("etcd_cluster", "These servers make no cluster."));
            return Err(diagnostics);
        };
        state.set("id", given.cluster.as_str());
        state.set("members", plan::members(&topology));
        let foreign = given.adopted_from.is_some();
        // What runs was founded, wherever its data is.
        state.set("founding", if foreign { plan::FOUNDED } else { plan::PREPARED });
        let keys = self.road.authority_keys(&given.cluster);
        let secured = !state.get("certificate_authorities").is_null();
        if secured && (keys.peer_private_key.is_none() || keys.client_private_key.is_none()) {
            let lost = "They are on no server; they were in the state that was lost. Nothing changes for the members, but \
                          without the keys no certificate can be issued, no member can join, and nothing that has to ask the \
                          members can be changed. Give the keys to the provider (certificate_authorities), if you have them.";
            let needed = "Members get certificates of their own when they are taken over, so the keys of both authorities are needed \
                          for that. Give them to the provider (certificate_authorities); until then nothing is changed on any server.";
            let detail = if foreign { needed } else { lost };
            let summary = format!("The private keys of the authorities of {} are not known", given.cluster);
            diagnostics.push(Diagnostic::warning(summary, detail).at(Path::of("certificate_authorities")));
        }
        Ok((state, diagnostics))
    }
}
