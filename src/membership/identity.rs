//! The IDs that etcd computes when a cluster is founded, so that they are known before it runs.
//!
//! Source: etcd `server/etcdserver/api/membership/member.go` (`computeMemberID`) and `cluster.go` (`genID`).

use std::fmt;

use sha1::{Digest, Sha1};

/// The ID of a member, as etcd prints it: hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub u64);

/// The ID of a cluster, as etcd prints it: hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The ID of a founding member with one peer URL.
pub fn founding_member_id(peer_url: &str, token: &str) -> MemberId {
    MemberId(first_eight(Sha1::new().chain_update(peer_url).chain_update(token)))
}

/// The ID of the cluster that these members found.
pub fn founding_cluster_id(members: &[MemberId]) -> ClusterId {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    ClusterId(first_eight(
        sorted
            .iter()
            .fold(Sha1::new(), |hash, id| hash.chain_update(id.0.to_be_bytes())),
    ))
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    digest.iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen on etcd 3.4.23, started as `new` with `--name default --initial-cluster
    /// default=http://localhost:2380 --initial-cluster-token etcd-cluster`: etcd's well-known defaults.
    #[test]
    fn the_defaults_of_etcd_give_its_well_known_ids() {
        let member = founding_member_id("http://localhost:2380", "etcd-cluster");
        assert_eq!(member.to_string(), "8e9e05c52164694d");
        assert_eq!(founding_cluster_id(&[member]).to_string(), "cdf818194e3a8c32");
    }
}
