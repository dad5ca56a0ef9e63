//! Why a member is not touched, in words.

use std::fmt;

use crate::membership::quorum;

/// Why a member is not touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The data directory holds files that are not this member's.
    ForeignData,
    /// There is a member's data, and the file with its cluster's token is gone.
    TokenGone,
    /// The server belongs to a cluster of this name with another token.
    OtherCluster(String),
    /// Another process has the port.
    PortTaken(u16, String),
    /// It has no permit and no data, and there is no cluster that it could join.
    NoCluster,
    /// Its data is lost, and without it too few of the others are healthy to take it out of the cluster.
    Quorum {
        /// The other voters.
        others: usize,
        /// How many of them are healthy.
        healthy: usize,
    },
    /// Too few of the voters are healthy for another member.
    NoRoom {
        /// The voters that there are.
        voters: usize,
        /// How many of them are healthy.
        healthy: usize,
    },
    /// A restart would leave too few healthy members.
    Restart {
        /// All voters, this one included.
        voters: usize,
        /// How many of the others are healthy.
        healthy: usize,
    },
    /// A restart, and nobody answers as one of a cluster with a leader.
    NoQuorum,
    /// It runs at its wanted peer URL, the list has others too, and no member answers as one of a cluster with a leader.
    Unsettled,
    /// It runs, and the member list does not have it.
    Unlisted,
    /// Its data is another server's member's, or another server runs as this one.
    Copied,
    /// It does not run, and its data was written by a minor version that the wanted one can't go on from.
    Version {
        /// The minor version that is wanted.
        minor: u64,
        /// The minor version that it ran last.
        last: u64,
    },
    /// It is to be taken over from a service that does not run it.
    FormerStopped,
    /// The service from which the members are taken over runs one here too, which was not imported.
    NotImported,
    /// It would be too far from the minor version of another member.
    Skew {
        /// The minor version that is wanted.
        minor: u64,
        /// The minor version of another member.
        other: u64,
    },
}

impl Refusal {
    /// Whether it may well pass by itself: a member that restarts is healthy again soon, and others of the same run may be on
    /// their way.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Restart { .. } | Self::NoQuorum | Self::Unsettled | Self::NoRoom { .. } | Self::Quorum { .. }
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::ForeignData => f.write_str(
                "the data directory is not empty, and what it holds is not this member's. Move it away if it is not \
                 needed, or choose another data_dir",
            ),
            Refusal::TokenGone => f.write_str(
                "the data directory holds the data of a member, and nothing on the server says of which cluster: there is no file \
                 `token` in the cluster's folder under /etc/etcd. If somebody deleted it, write it again with the cluster's `token` (it is \
                 in the state of etcd_cluster), and apply. If the data is not this member's, move it away, or choose another data_dir",
            ),
            Refusal::OtherCluster(token) => write!(
                f,
                "the server belongs to a cluster of the same name with the token {token:?}. If it is the same cluster and \
                 its state was lost, import it: the guide \"Taking Over a Cluster\" has the lines. If it is another one, choose another \
                 name for this one"
            ),
            Refusal::PortTaken(port, process) => f.write_str(&crate::membership::founding::port_taken(*port, process)),
            Refusal::NoCluster => f.write_str(
                "it has neither a founding permit nor the data of its member, and no other member answers as one of a \
                 cluster with a leader, so there is nothing that it could join. Founding it again could lose data. Start \
                 the other members first; if no member of the cluster has ever held data, `terraform apply` issues the \
                 permits anew",
            ),
            Refusal::Quorum { others, healthy } => write!(
                f,
                "its data is gone, so its old member has to leave the cluster first; {others} voting members would \
                 remain, of which {} have to agree, and only {healthy} of them are healthy now. Bring the others back first",
                quorum(*others)
            ),
            Refusal::NoRoom { voters, healthy } => write!(
                f,
                "the cluster has {voters} voting members, of which {healthy} are healthy now. etcd takes another member only while \
                 the healthy ones are a quorum of all with the new one, {} of {}. Bring the others back, or take them out of the \
                 configuration first",
                quorum(voters + 1),
                voters + 1
            ),
            Refusal::Restart { voters, healthy } => write!(
                f,
                "this change restarts the member, and meanwhile {healthy} of {voters} voting members would be healthy, where \
                 {} have to be. Nothing was changed on this server. Bring the others back first, or replace them, and apply \
                 again",
                quorum(*voters)
            ),
            Refusal::Unsettled => f.write_str(
                "it runs with its new peer port. The member list has its former peer URL still, and no member of the cluster answers as \
                 one that has a leader. Bring a quorum back, and apply again",
            ),
            Refusal::NoQuorum => f.write_str(
                "this change restarts the member, and no member of the cluster answers as one that has a leader. Nothing was \
                 changed on this server. Bring a quorum back first. If this change itself brings it back, look at every member with \
                 `etcdctl endpoint status` on its own server: only if none of them shows a leader, stop this member's service by hand \
                 and apply again",
            ),
            Refusal::Unlisted => f.write_str(
                "it runs, and the cluster's member list does not have it: it was removed and has not ended yet. Stop its service \
                 and apply again: it joins anew then",
            ),
            Refusal::Copied => f.write_str("it has another member's data, or another one has its data and runs"),
            Refusal::Version { minor, last } if minor < last => write!(
                f,
                "etcd 3.{minor} is wanted, and its data was last written by 3.{last}, on which an older one does not start. Set its version \
                 to 3.{last} again and apply; going back a minor version needs etcd's own downgrade first"
            ),
            Refusal::Version { minor, last } => write!(
                f,
                "etcd 3.{minor} is wanted, and its data was last written by 3.{last}. etcd upgrades one minor version at a time: set its \
                 version to 3.{}, apply, and go on from there",
                last + 1
            ),
            Refusal::FormerStopped => f.write_str(
                "the service that ran the member before this provider does not run, and the member was not taken over from it yet. \
                 Nothing was changed on this server. Start that service (systemctl start), see that the member is healthy, and \
                 apply again. If its data is lost, replace it: terraform apply -replace of this resource",
            ),
            Refusal::NotImported => f.write_str(
                "the service that the members of this cluster are taken over from runs on this server too, with one of the member's \
                 ports, and this member was not imported. Nothing was changed on this server. Import it with adopted_from, as the others",
            ),
            Refusal::Skew { minor, other } => write!(
                f,
                "etcd 3.{minor} is wanted here, and another member of the cluster still runs 3.{other}; members may be one minor \
                 version apart, no more, and who joins may be neither older nor newer than all others. Bring all members to one version first: \
                 set `version` of every member to one that all can go to, 3.{}, and apply",
                minor.min(other)
            ),
        }
    }
}
