//! A member whose port for peers changes has two peer URLs in the member list for a while. The others dial whichever answers
//! (`urlPicker` in etcd's `rafthttp`), so they reach it before its restart and after.

use super::{Cluster, Lives, Observed, Refusal, Step};

/// Which peer URLs the member list has of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerUrl {
    /// The wanted one alone, or the member is not listed.
    Wanted,
    /// The wanted one and others.
    Both,
    /// Others only.
    Other,
}

impl PeerUrl {
    /// What `listed` amounts to where `wanted` is wanted.
    pub fn of(listed: &[String], wanted: &str) -> Self {
        match listed.iter().any(|url| url == wanted) {
            true if listed.len() == 1 => Self::Wanted,
            true => Self::Both,
            false => Self::Other,
        }
    }
}

/// What comes before the restart that has the member listen at its wanted peer URL. A look at the cluster came before.
pub fn before_restart(observed: &Observed) -> Option<Step> {
    match observed.cluster {
        Some(Cluster::Lives(lives)) if lives.peer_url == PeerUrl::Other => Some(Step::AddUrl),
        _ => None,
    }
}

/// What is left to do about the member list, once the member listens at its wanted peer URL; `None` if nothing is.
pub fn settle(observed: &Observed) -> Option<Step> {
    let step = match (observed.answers, observed.cluster) {
        (None, _) => Step::AwaitHealth,
        (Some(_), None) => Step::LookAtCluster,
        (Some(_), Some(Cluster::NoQuorum)) => Step::Refuse(Refusal::Unsettled),
        (Some(_), Some(Cluster::Lives(Lives { peer_url, .. }))) => match peer_url {
            PeerUrl::Wanted => return None,
            PeerUrl::Both => Step::SettleUrl,
            PeerUrl::Other => Step::AddUrl,
        },
    };
    Some(step)
}
