//! How a member leaves: together with all others, alone, or not now. Quorum first.

use std::fmt;

use super::quorum;

/// One member as etcd's member list and the servers show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name of its server, or its ID where no server has its peer URL.
    pub name: String,
    /// It votes.
    pub voter: bool,
    /// It answers, and knows a leader.
    pub healthy: bool,
}

/// What to do about a member that is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Every member is being destroyed: stop it, no membership changes.
    StopAll,
    /// It is in the cluster no more: stop it.
    Gone,
    /// It is the last one: stop it.
    Last,
    /// Remove it from the cluster through another member, then stop it.
    Remove,
    /// Not now.
    Refuse(Refusal),
}

/// Why a member can't leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The members that would stay healthy are no quorum of those that would remain.
    Quorum {
        /// Voters that would remain.
        voters: usize,
        /// How many of them are healthy.
        healthy: usize,
    },
    /// Nobody answers, and others may still run.
    NoQuorum,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Quorum { voters, healthy } => write!(
                f,
                "without it {voters} voting members would remain, of which {} have to agree, and only {healthy} of them \
                 are healthy now. Bring the others back first, or replace them",
                quorum(*voters)
            ),
            Refusal::NoQuorum => f.write_str(
                "no member of the cluster answers as one that has a leader, so nobody can take it out of the cluster. \
                 Bring a quorum back first, or destroy all members in one run",
            ),
        }
    }
}

/// Decides how `name` leaves. `members` is the member list, `None` if nobody could give one; `others_run` whether any
/// other server still runs its member, or could not be asked.
pub fn decide(name: &str, all_leaving: bool, members: Option<&[Peer]>, others_run: bool) -> Leaving {
    if all_leaving {
        return Leaving::StopAll;
    }
    let Some(members) = members else {
        return if others_run {
            Leaving::Refuse(Refusal::NoQuorum)
        } else {
            Leaving::Last
        };
    };
    let Some(own) = members.iter().find(|peer| peer.name == name) else {
        return Leaving::Gone;
    };
    let others: Vec<&Peer> = members.iter().filter(|peer| peer.name != name).collect();
    if others.is_empty() {
        return Leaving::Last;
    }
    let voters = others.iter().filter(|peer| peer.voter).count();
    let healthy = others.iter().filter(|peer| peer.voter && peer.healthy).count();
    if own.voter && healthy < quorum(voters) {
        return Leaving::Refuse(Refusal::Quorum { voters, healthy });
    }
    Leaving::Remove
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peers(healthy: &[bool]) -> Vec<Peer> {
        healthy
            .iter()
            .enumerate()
            .map(|(number, healthy)| Peer {
                name: format!("s{number}"),
                voter: true,
                healthy: *healthy,
            })
            .collect()
    }

    #[test]
    fn all_together_need_no_membership_changes() {
        assert_eq!(
            decide("s0", true, Some(&peers(&[true, false, false])), true),
            Leaving::StopAll
        );
    }

    #[test]
    fn a_quorum_that_would_break_is_refused_with_the_arithmetic() {
        let Leaving::Refuse(refusal) = decide("s0", false, Some(&peers(&[true, true, false])), true) else {
            panic!()
        };
        assert!(
            refusal
                .to_string()
                .starts_with("without it 2 voting members would remain, of which 2 have to agree")
        );
    }

    #[test]
    fn one_after_the_other_down_to_none() {
        assert_eq!(
            decide("s0", false, Some(&peers(&[true, true, true])), true),
            Leaving::Remove
        );
        assert_eq!(decide("s0", false, Some(&peers(&[true, true])), true), Leaving::Remove);
        assert_eq!(decide("s0", false, Some(&peers(&[true])), true), Leaving::Last);
        assert_eq!(decide("s9", false, Some(&peers(&[true])), true), Leaving::Gone);
        assert_eq!(decide("s0", false, None, false), Leaving::Last);
    }

    proptest! {
        #[test]
        fn what_remains_is_a_quorum(healthy in prop::collection::vec(any::<bool>(), 1..9), who in 0usize..9) {
            let members = peers(&healthy);
            let name = format!("s{who}");
            if decide(&name, false, Some(&members), true) == Leaving::Remove {
                let rest: Vec<_> = members.iter().filter(|peer| peer.name != name).collect();
                prop_assert!(rest.iter().filter(|peer| peer.healthy).count() >= quorum(rest.len()));
            }
        }
    }
}
