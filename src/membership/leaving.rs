//! How a member leaves: together with all others, alone, or not now. Quorum first.

use std::collections::BTreeSet;
use std::fmt;

use super::quorum;

/// One member as etcd's member list and the servers show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name of its server, as its peer URL has it though no state of ours may know that server; or its ID where that says nothing.
    pub name: String,
    /// It votes.
    pub voter: bool,
    /// It answers, and knows a leader.
    pub healthy: bool,
    /// It never started, and is of a server that the cluster does not have any more: a founder that was given up.
    pub given_up: bool,
}

/// How a member is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// For good.
    Gone,
    /// Another one is to come in its place, in the same run.
    Replaced,
}

/// What is known of the cluster's servers in this run.
#[derive(Clone, Copy, Debug)]
pub struct InThisRun<'a> {
    /// Whether the plan says that the cluster stays; `false` where that is not known.
    pub stays: bool,
    /// Those whose members are to leave for good, as far as it was said.
    pub leaving: &'a BTreeSet<String>,
    /// Those whose members are to be there, as far as it was said.
    pub coming: &'a BTreeSet<String>,
    /// Those that hold no member any more though the member list may have it, or one that rests, as far as they were looked at: an earlier
    /// run that was cut off has stopped them, or they have lost it. The server of the member that is to leave may be among them.
    pub gone: &'a BTreeSet<String>,
}

/// What to do about a member that is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The cluster rests with it: stop it, without membership changes, and leave its data where it is. Only whoever destroys the cluster
    /// knows that nobody comes back to it.
    Rest,
    /// It is in the cluster no more: stop it.
    Gone,
    /// Remove it from the cluster through another member, then stop it.
    Remove,
    /// Remove a founder first that was given up: it counts for the quorum, and never voted.
    RemoveGivenUp,
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
    /// It is the last one, and its cluster is to stay: whoever comes would find nothing to join.
    LastOne,
    /// It is the last one, and the members of these servers are to be there, and have not joined yet.
    Awaited {
        /// Their names.
        coming: Vec<String>,
    },
}

impl Refusal {
    /// Whether it may well pass by itself: a leader is elected within seconds, and others of the same run may be on their way.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Quorum { .. } | Self::NoQuorum | Self::Awaited { .. })
    }
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
                 Bring a quorum back first, or destroy all members in one run. Where its founding was cut off, apply once more: members that \
                 run and that no state knows of are in the way",
            ),
            Refusal::LastOne => f.write_str(
                "it is the last member of its cluster, which stays: without it nobody serves, and other members would find nothing to \
                 join. Add those first, in an apply of their own, and remove this one in the next; or destroy the cluster too",
            ),
            Refusal::Awaited { coming } => write!(
                f,
                "it is the last member of its cluster, which would end with it, and the members that are to be there ({}) have not \
                 joined. See what is said of them, and apply again",
                coming.join(", ")
            ),
        }
    }
}

/// Decides how `name` leaves. `members` is the member list as a quorum confirms it, `None` if nobody could give one; `others_run` whether any server of a
/// member that is to stay runs it, or could not be asked.
///
/// No cluster ends here. Who is to be there and who goes is said member by member, in any order, and that the cluster is to end is not
/// said to its members at all.
pub fn decide(name: &str, fate: Fate, run: &InThisRun<'_>, members: Option<&[Peer]>, others_run: bool) -> Leaving {
    let Some(members) = members else {
        return if others_run {
            Leaving::Refuse(Refusal::NoQuorum)
        } else {
            rest(name, fate, run)
        };
    };
    let Some(own) = members.iter().find(|peer| peer.name == name) else {
        return Leaving::Gone;
    };
    let others: Vec<&Peer> = members.iter().filter(|peer| peer.name != name).collect();
    if others.is_empty() {
        return rest(name, fate, run);
    }
    // Nobody is left who would need a quorum.
    let goes = |peer: &&Peer| run.leaving.contains(&peer.name) || run.gone.contains(&peer.name);
    let ends = fate == Fate::Gone && run.coming.is_empty() && !run.stays;
    if ends && others.iter().all(goes) {
        return Leaving::Rest;
    }
    let voters = others.iter().filter(|peer| peer.voter).count();
    let healthy = others.iter().filter(|peer| peer.voter && peer.healthy).count();
    // One that is gone had no part in the quorum that confirms the list, and its absence takes nothing from that. Who of the others can't be
    // asked does not matter then: a member may have joined that the state of this one does not know.
    let had_a_vote = own.voter && !run.gone.contains(name);
    if had_a_vote && healthy < quorum(voters) {
        let given_up = others.iter().any(|peer| peer.voter && peer.given_up);
        if given_up && healthy + usize::from(own.healthy) >= quorum(voters) {
            return Leaving::RemoveGivenUp;
        }
        return Leaving::Refuse(Refusal::Quorum { voters, healthy });
    }
    Leaving::Remove
}

/// Nobody would be left of the cluster.
fn rest(name: &str, fate: Fate, run: &InThisRun<'_>) -> Leaving {
    let coming: Vec<String> = run.coming.iter().filter(|other| *other != name).cloned().collect();
    if !coming.is_empty() {
        Leaving::Refuse(Refusal::Awaited { coming })
    } else if fate == Fate::Replaced || run.stays {
        Leaving::Refuse(Refusal::LastOne)
    } else {
        Leaving::Rest
    }
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
                given_up: false,
            })
            .collect()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Where `leaving` go and `coming` are to be there.
    fn decided(
        name: &str,
        fate: Fate,
        (leaving, coming, stays): (&[&str], &[&str], bool),
        members: Option<&[Peer]>,
        others_run: bool,
    ) -> Leaving {
        let run = InThisRun {
            stays,
            leaving: &names(leaving),
            coming: &names(coming),
            gone: &BTreeSet::new(),
        };
        decide(name, fate, &run, members, others_run)
    }

    /// And nothing is known of the others.
    fn alone(name: &str, members: Option<&[Peer]>, others_run: bool) -> Leaving {
        decided(name, Fate::Gone, (&[name], &[], false), members, others_run)
    }

    #[test]
    fn all_together_need_no_membership_changes() {
        let all: &[&str] = &["s0", "s1", "s2"];
        let members = peers(&[true, false, false]);
        let decided = |fate| decided("s0", fate, (all, &[], false), Some(&members), true);
        assert_eq!(decided(Fate::Gone), Leaving::Rest);
        // One that comes again does not leave with those that go for good.
        let refused = Leaving::Refuse(Refusal::Quorum { voters: 2, healthy: 0 });
        assert_eq!(decided(Fate::Replaced), refused);
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
        assert_eq!(alone("s0", Some(&peers(&[true])), true), Leaving::Rest);
        assert_eq!(alone("s9", Some(&peers(&[true])), true), Leaving::Gone);
        assert_eq!(alone("s0", None, false), Leaving::Rest);
    }

    #[test]
    fn a_founder_that_was_given_up_goes_first() {
        let mut members = peers(&[true, true, false]);
        members[2].given_up = true;
        assert_eq!(alone("s0", Some(&members), true), Leaving::RemoveGivenUp);
        members[1].healthy = false;
        let refused = Leaving::Refuse(Refusal::Quorum { voters: 2, healthy: 0 });
        assert_eq!(alone("s0", Some(&members), true), refused);
    }

    #[test]
    fn the_last_one_is_not_replaced() {
        let refused = Leaving::Refuse(Refusal::LastOne);
        let decided = |members: Option<&[Peer]>| decided("s0", Fate::Replaced, (&[], &[], false), members, false);
        assert_eq!(decided(Some(&peers(&[true]))), refused);
        assert_eq!(decided(None), refused);
    }

    #[test]
    fn the_last_one_waits_for_those_that_come() {
        let last = |coming: &[&str], stays, members: Option<&[Peer]>| {
            decided("s0", Fate::Gone, (&["s0"], coming, stays), members, false)
        };
        let one = peers(&[true]);
        let awaited = Leaving::Refuse(Refusal::Awaited {
            coming: vec!["s1".to_owned()],
        });
        assert_eq!(last(&["s1"], false, Some(&one)), awaited, "s1 comes, and finds it");
        assert_eq!(last(&["s1"], true, None), awaited);
        assert_eq!(last(&[], true, Some(&one)), Leaving::Refuse(Refusal::LastOne));
        assert_eq!(last(&[], false, Some(&one)), Leaving::Rest);
        assert_eq!(last(&[], false, None), Leaving::Rest);
        // All that there are leave, and the cluster stays: one after the other.
        let three = peers(&[true, true, true]);
        let all: &[&str] = &["s0", "s1", "s2"];
        let of_three = |coming: &[&str], stays| decided("s0", Fate::Gone, (all, coming, stays), Some(&three), true);
        assert_eq!(of_three(&["s3"], false), Leaving::Remove);
        assert_eq!(of_three(&[], true), Leaving::Remove);
        assert_eq!(of_three(&[], false), Leaving::Rest);
    }

    #[test]
    fn a_teardown_that_was_cut_off_goes_on_and_touches_no_data() {
        let (leaving, gone) = (names(&["s1", "s2"]), names(&["s0"]));
        let nobody = BTreeSet::new();
        let members = peers(&[false, true, true]);
        let decided = |gone| {
            let run = InThisRun {
                stays: false,
                leaving: &leaving,
                coming: &nobody,
                gone,
            };
            decide("s1", Fate::Gone, &run, Some(&members), true)
        };
        assert_eq!(
            decided(&nobody),
            Leaving::Refuse(Refusal::Quorum { voters: 2, healthy: 1 })
        );
        // s0 may as well have lost its data, and be wanted.
        assert_eq!(decided(&gone), Leaving::Rest);
    }

    #[test]
    fn one_that_lost_its_data_goes_whoever_can_be_asked() {
        // s2 has joined since, and the state of s0 does not know its server.
        let members = peers(&[false, true, false]);
        let nobody = BTreeSet::new();
        let decided = |gone: &BTreeSet<String>, members: Option<&[Peer]>| {
            let run = InThisRun {
                stays: false,
                leaving: &names(&["s0"]),
                coming: &nobody,
                gone,
            };
            decide("s0", Fate::Gone, &run, members, true)
        };
        let refused = Leaving::Refuse(Refusal::Quorum { voters: 2, healthy: 1 });
        assert_eq!(decided(&nobody, Some(&members)), refused);
        assert_eq!(decided(&names(&["s0"]), Some(&members)), Leaving::Remove);
        // That another one has lost its data makes up for nothing.
        assert_eq!(decided(&names(&["s2"]), Some(&members)), refused);
        // And without a list nobody has confirmed anything.
        assert_eq!(decided(&names(&["s0"]), None), Leaving::Refuse(Refusal::NoQuorum));
    }

    proptest! {
        /// Whoever else leaves: who stays is a quorum after every single step, unless nobody stays.
        #[test]
        fn what_remains_is_a_quorum(
            healthy in prop::collection::vec(any::<bool>(), 1..9),
            who in 0usize..9,
            leaving in prop::collection::btree_set(0usize..9, 0..9),
            coming in prop::collection::btree_set(0usize..10, 0..2),
            gone in prop::collection::btree_set(0usize..9, 0..3),
            stays in any::<bool>(),
            replaced in any::<bool>(),
        ) {
            let members = peers(&healthy);
            let name = format!("s{who}");
            let named = |numbers: BTreeSet<usize>| -> BTreeSet<String> {
                numbers.into_iter().map(|number| format!("s{number}")).collect()
            };
            let (mut leaving, mut coming) = (named(leaving), named(coming));
            leaving.retain(|server| !coming.contains(server));
            coming.remove(&name);
            let fate = if replaced { Fate::Replaced } else { Fate::Gone };
            if !replaced {
                leaving.insert(name.clone());
            }
            let gone = named(gone);
            let run = InThisRun { stays, leaving: &leaving, coming: &coming, gone: &gone };
            let rest: Vec<_> = members.iter().filter(|peer| peer.name != name).collect();
            match decide(&name, fate, &run, Some(&members), true) {
                Leaving::Remove => {
                    let healthy = rest.iter().filter(|peer| peer.healthy).count();
                    prop_assert!(healthy >= quorum(rest.len()) || gone.contains(&name));
                }
                Leaving::Rest => {
                    prop_assert!(!replaced && !stays && coming.is_empty());
                    prop_assert!(rest.iter().all(|peer| leaving.contains(&peer.name) || gone.contains(&peer.name)));
                }
                Leaving::RemoveGivenUp => prop_assert!(false, "nobody was given up"),
                Leaving::Gone => prop_assert!(who >= healthy.len()),
                Leaving::Refuse(_) => {}
            }
        }
    }
}
