//! Whether a member's data is another server's member's, or another server's its: by the IDs that etcd answers with, and by the log of one that does not run.

use std::collections::BTreeMap;

use super::bring_up::BringUp;
use super::model::MemberModel;
use super::observe::Seen;
use super::survey::{Survey, survey};
use crate::etcd::api::Status;
use crate::membership::damage::{Damage, copied, doubled};
use crate::membership::identity::founding_member_id;
use crate::membership::member::Service;
use crate::topology::Topology;

impl BringUp<'_> {
    /// Of a member before it is started or restarted.
    pub(super) fn copied(&self, seen: &Seen, survey: Option<&Survey>) -> Option<Damage> {
        of_data(self.member, self.topology, seen, survey)
    }

    /// Of a member that answers. The others are asked only if the state has it by another ID.
    pub(super) async fn answers_as_another(&self, status: &Status) -> Option<Damage> {
        if !self.existed {
            return None;
        }
        let known = self.member.member_id.as_deref().filter(|_| !self.suspect);
        if known.and_then(|id| u64::from_str_radix(id, 16).ok()) == Some(status.member_id) {
            return None;
        }
        let survey = survey(self.talk().ok()?, self.member, self.topology).await?;
        copied(&self.member.server, status.member_id, &survey.names)
    }
}

/// What is wrong with the data that a member goes on from, or runs with.
pub fn of_data(member: &MemberModel, topology: &Topology, seen: &Seen, survey: Option<&Survey>) -> Option<Damage> {
    let server = member.server.as_str();
    let listed = |survey: &Survey| {
        let id = seen.data_id.or_else(|| survey.copies.get(server).copied());
        let own = id.and_then(|id| copied(server, id, &survey.names));
        let stopped = seen.service != Service::Running;
        own.or_else(|| doubled(server, survey.list.own, &survey.copies).filter(|_| stopped))
    };
    match survey {
        Some(survey) => listed(survey),
        // Without a quorum no list is sure. A founder has its ID from its peer URL and the cluster's token alone.
        None => copied(server, seen.data_id?, &founders(topology, member.cluster.token())),
    }
}

fn founders(topology: &Topology, token: &str) -> BTreeMap<u64, String> {
    let servers = topology.servers().keys();
    let ids = servers.filter_map(|name| {
        let url = topology.peer_url(name).ok()?;
        Some((founding_member_id(&url, token).0, name.to_string()))
    });
    ids.collect()
}
