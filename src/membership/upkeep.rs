//! What keeps a running cluster well: in which order members are defragmented, who may lead, up to where history may go,
//! when an alarm may be taken back.

use std::collections::BTreeSet;
use std::fmt;

use super::{may_pause, quorum};

/// How far a member may be behind before it may be receiving a snapshot: as many entries as etcd keeps for slow followers
/// (`SnapshotCatchUpEntries` in its `etcdserver/server.go`).
const CAUGHT_UP: u64 = 5000;

/// A member of the list, as the survey saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its ID.
    pub id: u64,
    /// The name of its server.
    pub name: String,
    /// Whether it votes.
    pub voter: bool,
    /// What it says; `None` if it does not answer, or knows no leader.
    pub says: Option<Says>,
}

/// What a member says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Says {
    /// Major, minor and patch version.
    pub version: (u64, u64, u64),
    /// How far it has applied the log.
    pub applied: u64,
    /// How far the log is committed, as far as it knows.
    pub committed: u64,
}

/// The next step of a defragmentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This member.
    Defragment(u64),
    /// The leader is next: another one is to lead first.
    MoveLeader(u64),
    /// All that were wanted are done.
    Done,
    /// Not now.
    Refuse(Unsafe),
}

/// Why a member is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsafe {
    /// It does not answer.
    Silent(String),
    /// Without it there would be no quorum.
    Quorum {
        /// The member.
        name: String,
        /// How many vote.
        voters: usize,
        /// How many of the others are healthy.
        healthy: usize,
    },
    /// A member may be receiving a snapshot, and its version may lose data when it is defragmented then.
    Behind {
        /// The member.
        name: String,
        /// By how many entries.
        by: u64,
        /// Its version.
        version: (u64, u64, u64),
    },
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(name) => write!(f, "the member on {name} does not answer, or knows no leader"),
            Self::Quorum { name, voters, healthy } => write!(
                f,
                "while the member on {name} stands still, {healthy} of {voters} voting members would be healthy, where {} are needed. \
                 Bring the others back first",
                quorum(*voters)
            ),
            Self::Behind {
                name,
                by,
                version: (major, minor, patch),
            } => write!(
                f,
                "the member on {name} is {by} entries behind, so it may be receiving a snapshot, and etcd {major}.{minor}.{patch} may damage its \
                 data when it is defragmented meanwhile (repaired in 3.5.23 and 3.6.5). Wait until it has caught up"
            ),
        }
    }
}

/// Whether this version may damage data where a snapshot is being applied to what is defragmented.
fn is_delicate(version: (u64, u64, u64)) -> bool {
    match version {
        (3, 5, patch) => patch < 23,
        (3, 6, patch) => patch < 5,
        (major, minor, _) => (major, minor) < (3, 5),
    }
}

/// Which member is defragmented next: of those that are `wanted` and not `done`, in the order of their names, the leader last. While it works a
/// member serves nobody, so the others have to be a quorum, as for a restart. `moved`: it was tried already to have another one lead.
pub fn defragment(
    members: &[Member],
    leader: u64,
    wanted: &BTreeSet<String>,
    done: &BTreeSet<u64>,
    moved: bool,
) -> Next {
    let mut left: Vec<&Member> = { members.iter() }
        .filter(|one| wanted.contains(&one.name) && !done.contains(&one.id))
        .collect();
    left.sort_by_key(|one| (one.id == leader, one.name.clone()));
    let Some(next) = left.first() else { return Next::Done };
    let Some(says) = &next.says else {
        return Next::Refuse(Unsafe::Silent(next.name.clone()));
    };
    let others = || members.iter().filter(|one| one.voter && one.id != next.id);
    let healthy = others().filter(|one| one.says.is_some()).count();
    if next.voter && !may_pause(others().count() + 1, healthy) {
        return Next::Refuse(Unsafe::Quorum {
            name: next.name.clone(),
            voters: others().count() + 1,
            healthy,
        });
    }
    let committed = members
        .iter()
        .filter_map(|one| Some(one.says.as_ref()?.committed))
        .max();
    let behind = committed.unwrap_or_default().saturating_sub(says.applied);
    if behind > CAUGHT_UP && is_delicate(says.version) {
        return Next::Refuse(Unsafe::Behind {
            name: next.name.clone(),
            by: behind,
            version: says.version,
        });
    }
    if next.id == leader && healthy > 0 && !moved {
        return Next::MoveLeader(leader);
    }
    Next::Defragment(next.id)
}

/// Who is to lead: the one that is asked for, or else the healthy voter that has applied most and does not lead yet.
///
/// # Errors
/// Why nobody can, in words.
pub fn successor(members: &[Member], leader: u64, wanted: Option<&str>) -> Result<Option<u64>, String> {
    if let Some(name) = wanted {
        let Some(one) = members.iter().find(|one| one.name == name) else {
            return Err(format!("server {name} has no member in the member list"));
        };
        return match one {
            one if one.id == leader => Ok(None),
            one if !one.voter => Err(format!(
                "the member on {name} is a learner: it has no vote, so it can't lead"
            )),
            one if one.says.is_none() => Err(Unsafe::Silent(name.to_owned()).to_string()),
            one => Ok(Some(one.id)),
        };
    }
    let fit = members.iter().filter(|one| one.voter && one.id != leader);
    let fit = fit.filter_map(|one| Some((one.says.as_ref()?.applied, one.id)));
    match fit.max() {
        Some((_, id)) => Ok(Some(id)),
        None => Err("no other voting member answers".to_owned()),
    }
}

/// What is to be left of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Everything from this revision on.
    From(i64),
    /// So many revisions.
    Keep(i64),
}

/// Up to which revision to compact; `None` if there is nothing to drop.
///
/// # Errors
/// If that revision has not been yet.
pub fn compaction(current: i64, wish: History) -> Result<Option<i64>, String> {
    match wish {
        History::From(revision) if revision > current => Err(format!(
            "revision {revision} has not been yet: the cluster is at {current}"
        )),
        History::From(revision) => Ok((revision > 0).then_some(revision)),
        History::Keep(revisions) => Ok(Some(current.saturating_sub(revisions)).filter(|revision| *revision > 0)),
    }
}

/// Whether the alarm of a database that was full may be taken back.
///
/// # Errors
/// If it is as large as it may be still; in words.
pub fn has_room(name: &str, size: u64, quota: u64) -> Result<(), String> {
    if quota > 0 && size >= quota {
        return Err(format!(
            "the database on {name} has {size} bytes, and may have {quota}: the alarm would be raised again at the next write. Win space first: \
             etcd_compact, then etcd_defragment; or raise quota-backend-bytes in the members' config"
        ));
    }
    Ok(())
}

/// The alarm CORRUPT has this in place of a member's ID where no majority agrees, so that etcd can't tell whose data are right
/// (`etcdserver/corrupt.go`, etcd 3.5 and later).
pub const NOBODY_KNOWS_WHOSE: u64 = 0;

/// The members whose data differ from the others', and that keep `own` from being restarted, removed or added: all but itself, as long as
/// they are listed. One that comes anew in the place of such a member fetches the data of the others. With [`NOBODY_KNOWS_WHOSE`] among
/// them nobody may be disturbed: whoever it is may have the only right ones.
#[must_use]
pub fn differing(corrupt: &[u64], listed: &[u64], own: Option<u64>) -> Vec<u64> {
    if corrupt.contains(&NOBODY_KNOWS_WHOSE) {
        return vec![NOBODY_KNOWS_WHOSE];
    }
    if own.is_some_and(|own| corrupt.contains(&own)) {
        return Vec::new();
    }
    corrupt.iter().copied().filter(|id| listed.contains(id)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_differs_is_disturbed() {
        assert_eq!(differing(&[1], &[1, 2, 3], Some(2)), [1]);
        assert_eq!(differing(&[1], &[1, 2, 3], Some(1)), Vec::<u64>::new());
        assert_eq!(differing(&[1], &[1, 2, 3], None), [1]);
        // It was taken out, and another one is to come.
        assert_eq!(differing(&[1], &[2, 3], None), Vec::<u64>::new());
        assert_eq!(differing(&[0, 1], &[1, 2, 3], Some(1)), [NOBODY_KNOWS_WHOSE]);
    }

    fn member(id: u64, voter: bool, version: Option<(u64, u64, u64)>) -> Member {
        Member {
            id,
            name: format!("s{id}"),
            voter,
            says: version.map(|version| Says {
                version,
                applied: 10_000,
                committed: 10_000,
            }),
        }
    }

    fn all(members: &[Member]) -> BTreeSet<String> {
        members.iter().map(|one| one.name.clone()).collect()
    }

    const NEW: Option<(u64, u64, u64)> = Some((3, 6, 16));

    #[test]
    fn the_leader_is_the_last_and_leads_no_more() {
        let members = [member(1, true, NEW), member(2, true, NEW), member(3, true, NEW)];
        let mut done = BTreeSet::new();
        let wanted = all(&members);
        assert_eq!(defragment(&members, 1, &wanted, &done, false), Next::Defragment(2));
        done.insert(2);
        assert_eq!(defragment(&members, 1, &wanted, &done, false), Next::Defragment(3));
        done.insert(3);
        assert_eq!(defragment(&members, 1, &wanted, &done, false), Next::MoveLeader(1));
        assert_eq!(defragment(&members, 2, &wanted, &done, true), Next::Defragment(1));
        done.insert(1);
        assert_eq!(defragment(&members, 2, &wanted, &done, true), Next::Done);
    }

    #[test]
    fn nobody_is_defragmented_whose_pause_costs_the_quorum() {
        let members = [member(1, true, NEW), member(2, true, NEW), member(3, true, None)];
        let refused = defragment(&members, 1, &all(&members), &BTreeSet::new(), false);
        let Next::Refuse(why @ Unsafe::Quorum { .. }) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            why.to_string()
                .contains("1 of 3 voting members would be healthy, where 2 are needed")
        );
    }

    #[test]
    fn a_delicate_version_that_is_behind_is_left_alone() {
        let mut members = vec![
            member(1, true, NEW),
            member(2, true, Some((3, 5, 22))),
            member(3, true, NEW),
        ];
        let wanted = ["s2".to_owned()].into();
        let next = |members: &[Member]| defragment(members, 1, &wanted, &BTreeSet::new(), false);
        assert_eq!(next(&members), Next::Defragment(2));
        if let Some(says) = &mut members[1].says {
            says.applied = 100;
        }
        assert!(matches!(next(&members), Next::Refuse(Unsafe::Behind { by: 9900, .. })));
        if let Some(says) = &mut members[1].says {
            says.version = (3, 5, 23);
        }
        assert_eq!(next(&members), Next::Defragment(2));
    }

    #[test]
    fn who_may_lead() {
        let mut members = vec![
            member(1, true, NEW),
            member(2, true, NEW),
            member(3, false, NEW),
            member(4, true, None),
        ];
        if let Some(says) = &mut members[0].says {
            says.applied = 9;
        }
        assert_eq!(successor(&members, 2, None), Ok(Some(1)));
        assert_eq!(successor(&members, 1, None), Ok(Some(2)));
        assert_eq!(successor(&members, 1, Some("s1")), Ok(None));
        assert!(successor(&members, 1, Some("s3")).is_err_and(|why| why.contains("learner")));
        assert!(successor(&members, 1, Some("s4")).is_err_and(|why| why.contains("does not answer")));
        assert!(successor(&members, 1, Some("s9")).is_err());
    }

    #[test]
    fn history_ends_in_the_past() {
        assert_eq!(compaction(100, History::From(90)), Ok(Some(90)));
        assert_eq!(compaction(100, History::From(100)), Ok(Some(100)));
        assert!(compaction(100, History::From(101)).is_err());
        assert_eq!(compaction(100, History::Keep(30)), Ok(Some(70)));
        assert_eq!(compaction(100, History::Keep(100)), Ok(None));
    }

    #[test]
    fn an_alarm_stays_without_room() {
        assert!(has_room("a1", 100, 100).is_err());
        assert!(has_room("a1", 99, 100).is_ok());
    }

    proptest! {
        /// Whoever is down, a defragmentation never leaves fewer healthy voters than a quorum, but where one or two are all there are.
        #[test]
        fn a_quorum_always_stays(voters in 1_usize..8, down in proptest::collection::btree_set(0_u64..8, 0..8), leader in 0_u64..8) {
            let voters = u64::try_from(voters).unwrap_or_default();
            let leader = leader % voters;
            let members: Vec<Member> = (0..voters)
                .map(|id| member(id, true, NEW.filter(|_| !down.contains(&id) || id == leader)))
                .collect();
            let healthy = |without: u64| members.iter().filter(|one| one.id != without && one.says.is_some()).count();
            let mut done = BTreeSet::new();
            loop {
                match defragment(&members, leader, &all(&members), &done, true) {
                    Next::Defragment(id) => {
                        let unavoidable = members.len() <= 2 && healthy(id) + 1 == members.len();
                        prop_assert!(healthy(id) >= quorum(members.len()) || unavoidable);
                        prop_assert!(id != leader || done.len() + 1 == members.len(), "the leader before others");
                        prop_assert!(done.insert(id), "twice");
                    }
                    Next::Refuse(_) => break,
                    Next::Done => {
                        prop_assert_eq!(done.len(), members.len());
                        break;
                    }
                    Next::MoveLeader(_) => prop_assert!(false, "it was moved"),
                }
            }
        }
    }
}
