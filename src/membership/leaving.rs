//! How a member leaves: together with all others, alone, or not now. Quorum first.

use std::collections::BTreeSet;
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

/// How a member is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// For good.
    Gone,
    /// Another one is to come in its place, in the same run.
    Replaced,
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
    /// It is the last one, and another one is to come in its place: that one would find nothing to join.
    LastOne,
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
            Refusal::LastOne => f.write_str(
                "it is the last member of its cluster, which ends with it: a member in its place would find nothing to join, \
                 and its data would be out of use. Add another member first, or destroy the cluster and form it anew",
            ),
        }
    }
}

/// Decides how `name` leaves. `leaving` are the members that are to leave for good in this run. `members` is the member list,
/// `None` if nobody could give one; `others_run` whether any server of a member that is to stay runs it, or could not be asked.
pub fn decide(
    name: &str,
    fate: Fate,
    leaving: &BTreeSet<String>,
    members: Option<&[Peer]>,
    others_run: bool,
) -> Leaving {
    let last = match fate {
        Fate::Gone => Leaving::Last,
        Fate::Replaced => Leaving::Refuse(Refusal::LastOne),
    };
    let Some(members) = members else {
        return if others_run {
            Leaving::Refuse(Refusal::NoQuorum)
        } else {
            last
        };
    };
    let Some(own) = members.iter().find(|peer| peer.name == name) else {
        return Leaving::Gone;
    };
    let others: Vec<&Peer> = members.iter().filter(|peer| peer.name != name).collect();
    if others.is_empty() {
        return last;
    }
    // Nobody is left who would need a quorum.
    if fate == Fate::Gone && others.iter().all(|peer| leaving.contains(&peer.name)) {
        return Leaving::StopAll;
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

    fn alone(name: &str, members: Option<&[Peer]>, others_run: bool) -> Leaving {
        decide(
            name,
            Fate::Gone,
            &BTreeSet::from([name.to_owned()]),
            members,
            others_run,
        )
    }

    #[test]
    fn all_together_need_no_membership_changes() {
        let all = BTreeSet::from(["s0", "s1", "s2"].map(str::to_owned));
        let members = peers(&[true, false, false]);
        assert_eq!(decide("s0", Fate::Gone, &all, Some(&members), true), Leaving::StopAll);
        // One that comes again does not leave with those that go for good.
        let refused = Leaving::Refuse(Refusal::Quorum { voters: 2, healthy: 0 });
        assert_eq!(decide("s0", Fate::Replaced, &all, Some(&members), true), refused);
    }

    #[test]
    fn a_quorum_that_would_break_is_refused_with_the_arithmetic() {
        let Leaving::Refuse(refusal) = alone("s0", Some(&peers(&[true, true, false])), true) else {
            panic!()
        };
        assert!(
            refusal
                .to_string()
                .starts_with("without it 2 voting members would remain, of which 2 have to agree")
        );
    }

    #[test]
    fn a_dead_one_goes_while_the_others_are_a_quorum() {
        assert_eq!(alone("s0", Some(&peers(&[false, true, true])), true), Leaving::Remove);
        assert_eq!(alone("s0", None, true), Leaving::Refuse(Refusal::NoQuorum));
    }

    #[test]
    fn one_after_the_other_down_to_none() {
        assert_eq!(alone("s0", Some(&peers(&[true, true, true])), true), Leaving::Remove);
        assert_eq!(alone("s0", Some(&peers(&[true, true])), true), Leaving::Remove);
        assert_eq!(alone("s0", Some(&peers(&[true])), true), Leaving::Last);
        assert_eq!(alone("s9", Some(&peers(&[true])), true), Leaving::Gone);
        assert_eq!(alone("s0", None, false), Leaving::Last);
    }

    #[test]
    fn the_last_one_is_not_replaced() {
        let refused = Leaving::Refuse(Refusal::LastOne);
        let nobody = BTreeSet::new();
        assert_eq!(
            decide("s0", Fate::Replaced, &nobody, Some(&peers(&[true])), true),
            refused
        );
        assert_eq!(decide("s0", Fate::Replaced, &nobody, None, false), refused);
    }

    proptest! {
        /// Whoever else leaves: who stays is a quorum after every single step, unless nobody stays.
        #[test]
        fn what_remains_is_a_quorum(
            healthy in prop::collection::vec(any::<bool>(), 1..9),
            who in 0usize..9,
            leaving in prop::collection::btree_set(0usize..9, 0..9),
            replaced in any::<bool>(),
        ) {
            let members = peers(&healthy);
            let name = format!("s{who}");
            let mut leaving: BTreeSet<String> = leaving.into_iter().map(|number| format!("s{number}")).collect();
            let fate = if replaced { Fate::Replaced } else { Fate::Gone };
            if !replaced {
                leaving.insert(name.clone());
            }
            let rest: Vec<_> = members.iter().filter(|peer| peer.name != name).collect();
            match decide(&name, fate, &leaving, Some(&members), true) {
                Leaving::Remove => {
                    prop_assert!(rest.iter().filter(|peer| peer.healthy).count() >= quorum(rest.len()));
                }
                Leaving::StopAll => {
                    prop_assert!(!replaced && members.iter().all(|peer| leaving.contains(&peer.name)));
                }
                Leaving::Last => prop_assert!(rest.is_empty() && !replaced),
                Leaving::Gone => prop_assert!(who >= healthy.len()),
                Leaving::Refuse(_) => {}
            }
        }
    }
}
