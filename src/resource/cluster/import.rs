//! Import of a cluster that this provider made and that no state knows of any more.

use std::collections::BTreeMap;

use super::{ClusterResource, model, plan};
use crate::plugin::block::{ImportRequest, ImportResponse};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;
use crate::resource::import::{FoundMember, find, given, refused};

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
        let found = find(&self.road, &given).await?;
        let mut diagnostics: Diagnostics = lost_names(&found.members).into_iter().collect();
        let mut state = found.cluster;
        let topology = model::topology(&state, &Path::root(), &mut diagnostics);
        let Some(topology) = topology else {
            diagnostics.append(refused("etcd_cluster", "These servers make no cluster."));
            return Err(diagnostics);
        };
        state.set("id", given.cluster.as_str());
        state.set("members", plan::members(&topology));
        let foreign = given.adopted_from.is_some();
        // What runs was founded, wherever its data is. For the rest, the read that follows looks at the servers.
        state.set("founding", if foreign { plan::FOUNDED.into() } else { Value::Null });
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

/// A warning for clients that know members by names which no certificate of this provider's has.
fn lost_names(members: &BTreeMap<String, FoundMember>) -> Option<Diagnostic> {
    let with = members.iter().filter(|(_, member)| !member.lost_names.is_empty());
    let list: Vec<String> = with
        .map(|(server, member)| format!("{server}: {}", member.lost_names.join(", ")))
        .collect();
    if list.is_empty() {
        return None;
    }
    let detail = format!(
        "The members' certificates for clients are valid for these, and those that take their place will not be: {}. Clients that dial a \
         member so have to be told another of its names or addresses before: its private or its public address, or its new name.",
        list.join("; ")
    );
    Some(Diagnostic::warning("Some names of members get lost", detail))
}
