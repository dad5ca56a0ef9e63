//! PURE. What was observed and what is wanted, to the next step. No I/O and no clock: a property test can
//! drive every decision through thousands of clusters.
//!
//! * [`damage`]: what is wrong with one member's data, and what can be done about it.
//! * [`founding`]: whether a cluster may be founded, decided once for all its servers.
//! * [`member`]: the next step of one member.
//! * [`identity`]: the IDs that etcd will compute, before it does.
//! * [`incarnation`]: which of several objects of Terraform's a thing belongs to.
//! * [`k3s`]: the same decisions for the servers of a k3s cluster, whose etcd k3s itself starts and joins.
//! * [`leaving`]: how a member leaves.
//! * [`health`]: what a look at all members amounts to.
//! * [`sockets`]: by which address a peer is seen to come.
//! * [`links`]: which directed pairs of members are connected.
//! * [`recovery`]: whether a cluster that lost its quorum may go on from one member's data.
//! * [`refounding`]: whether a plan makes a cluster in a founded one's place.
//! * [`snapshot`]: which member a snapshot is taken from, and how many are kept.
//! * [`upkeep`]: defragmentation, who is to lead, how much history is kept.
//! * [`preflight`]: what stands in the way of a cluster, seen before anything is changed.
//! * [`whereabouts`]: which machine answers for which server.
//! * [`vacating`]: whether a server may leave the map of servers.

pub mod damage;
pub mod founding;
pub mod health;
pub mod identity;
pub mod incarnation;
pub mod k3s;
pub mod leaving;
pub mod links;
pub mod member;
pub mod member_list;
pub mod preflight;
pub mod recovery;
pub mod refounding;
pub mod snapshot;
pub mod sockets;
pub mod upkeep;
pub mod vacating;
pub mod whereabouts;

/// How many voters a cluster of `voters` needs to commit: more than half.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether a voter may stand still for a moment, with so many of the others healthy: those have to be a quorum. One or two
/// voters have none without each of them, so a pause is the only way, and all have to be well before.
pub fn may_pause(voters: usize, others_healthy: usize) -> bool {
    others_healthy >= quorum(voters) || (voters <= 2 && others_healthy + 1 == voters)
}

#[cfg(test)]
mod tests {
    use super::quorum;

    #[test]
    fn a_quorum_is_more_than_half() {
        let pairs: Vec<_> = (1..=7).map(|voters| (voters, quorum(voters))).collect();
        assert_eq!(pairs, [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]);
    }
}
