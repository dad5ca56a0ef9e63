//! What a member's state says after an apply.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::bring_up::{BringUp, Up};
use super::revoked;
use crate::membership::identity::{ClusterId, MemberId, founding_cluster_id, founding_member_id};
use crate::plugin::value::Value;

pub(super) fn as_map(texts: BTreeMap<String, String>) -> BTreeMap<String, Value> {
    texts.into_iter().map(|(key, text)| (key, text.into())).collect()
}

pub(super) fn state_of(planned: Value, up: &Up) -> Value {
    let mut state = planned;
    for (name, id) in [
        ("member_id", up.member_id.map(|id| id.to_string())),
        ("cluster_id", up.cluster_id.map(|id| id.to_string())),
        ("binary_sha256", up.binary_sum.clone()),
    ] {
        if state.get(name).is_unknown() {
            state.set(name, id);
        }
    }
    state.set("configuration", up.configuration.as_str());
    state.set("service", "running");
    state.set("drift", BTreeMap::new());
    if state.get("certificate_expiry").is_unknown() {
        state.set("certificate_expiry", expiry(&up.expiry));
    }
    if state.get("certificate_serials").is_unknown() {
        let none = up.certificates.is_empty();
        state.set(
            "certificate_serials",
            if none {
                Value::Null
            } else {
                revoked::serials(&up.certificates)
            },
        );
    }
    state.unknown_as_null()
}

fn expiry(ends: &BTreeMap<&'static str, OffsetDateTime>) -> Value {
    if ends.is_empty() {
        return Value::Null;
    }
    let end = |kind: &str| Value::from(ends.get(kind).map(|end| rfc3339(*end)));
    Value::object([
        ("peer", end("peer")),
        ("peer_client", end("peer_client")),
        ("client", end("client")),
    ])
}

pub(super) fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

impl BringUp<'_> {
    /// The IDs that the founding gives it and its cluster.
    pub(super) fn founding_ids(&self) -> (Option<MemberId>, Option<ClusterId>) {
        let founders = self.member.founders();
        if founders.is_empty() {
            // Nobody can compute the IDs of a cluster that was made by other means.
            return (None, None);
        }
        let servers = self
            .topology
            .servers()
            .keys()
            .filter(|server| founders.iter().any(|name| name == server.as_str()));
        let ids: BTreeMap<&str, MemberId> = servers
            .filter_map(|server| {
                let url = self.topology.peer_url(server).ok()?;
                Some((server.as_str(), founding_member_id(&url, self.member.cluster.token())))
            })
            .collect();
        let all: Vec<MemberId> = ids.values().copied().collect();
        (
            ids.get(self.member.server.as_str()).copied(),
            Some(founding_cluster_id(&all)),
        )
    }
}
