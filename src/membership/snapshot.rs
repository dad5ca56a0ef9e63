//! Which member a snapshot is taken from.

use std::fmt;

/// How far a member may lag behind the newest entry that anybody knows of: a moment's work.
const LAG: u64 = 5000;

/// A member that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name of its server.
    pub name: String,
    /// Whether it knows a leader.
    pub has_leader: bool,
    /// Whether it is the leader.
    pub leads: bool,
    /// Whether it votes.
    pub votes: bool,
    /// Whether an alarm says that its data is corrupt.
    pub corrupt: bool,
    /// The newest entry that it has applied.
    pub applied: u64,
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody answers.
    Nobody,
    /// Nobody who answers knows a leader: what they have may be old.
    NoQuorum(Vec<String>),
    /// All that answer have corrupt data.
    Corrupt(Vec<String>),
    /// The one that was asked for does not answer.
    Silent(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Nobody => f.write_str("none of the cluster's members answers"),
            Refusal::NoQuorum(names) => write!(
                f,
                "none of the members that answer ({}) knows a leader, so what they have may be older than what the others have. To take what \
                 one of them has all the same, name it with `member`",
                names.join(", ")
            ),
            Refusal::Corrupt(names) => write!(
                f,
                "etcd says that the data of every member that answers is corrupt ({}). To take what one of them has all the same, name it \
                 with `member`",
                names.join(", ")
            ),
            Refusal::Silent(name) => write!(f, "the member on {name}, which `member` names, does not answer"),
        }
    }
}

/// Chooses: a voter that has caught up and does not lead, since the leader has most to do. Whom the user names is taken as it is.
///
/// # Errors
/// If there is nobody whose data could be trusted to be the cluster's.
pub fn choose<'c>(candidates: &'c [Candidate], wanted: Option<&str>) -> Result<&'c Candidate, Refusal> {
    if let Some(wanted) = wanted {
        let found = candidates.iter().find(|one| one.name == wanted);
        return found.ok_or_else(|| Refusal::Silent(wanted.to_owned()));
    }
    let names = || candidates.iter().map(|one| one.name.clone()).collect();
    if candidates.is_empty() {
        return Err(Refusal::Nobody);
    }
    if candidates.iter().all(|one| one.corrupt) {
        return Err(Refusal::Corrupt(names()));
    }
    let newest = candidates.iter().map(|one| one.applied).max().unwrap_or(0);
    let fit = candidates.iter().filter(|one| one.has_leader && !one.corrupt);
    let best = fit.min_by_key(|one| {
        let lags = newest.saturating_sub(one.applied) > LAG;
        (lags, !one.votes, one.leads, &one.name)
    });
    best.ok_or_else(|| Refusal::NoQuorum(names()))
}

/// The files of earlier snapshots that are one too many, where the newest `keep` stay: the oldest first. Names tell their age.
pub fn superfluous(mut names: Vec<String>, keep: usize) -> Vec<String> {
    names.sort();
    names.truncate(names.len().saturating_sub(keep));
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(name: &str, leads: bool, applied: u64) -> Candidate {
        Candidate {
            name: name.to_owned(),
            has_leader: true,
            leads,
            votes: true,
            corrupt: false,
            applied,
        }
    }

    #[test]
    fn a_follower_that_has_caught_up_is_taken() {
        let chosen = |candidates: &[Candidate]| choose(candidates, None).map(|one| one.name.clone());
        let all = [
            candidate("a", true, 9000),
            candidate("b", false, 100),
            candidate("c", false, 8990),
        ];
        assert_eq!(chosen(&all).unwrap(), "c");
        assert_eq!(
            chosen(&all[..2]).unwrap(),
            "a",
            "one that lags is worse than the leader"
        );
        assert_eq!(chosen(&[]), Err(Refusal::Nobody));
        let mut alone = candidate("a", false, 5);
        alone.has_leader = false;
        assert_eq!(
            chosen(std::slice::from_ref(&alone)),
            Err(Refusal::NoQuorum(vec!["a".to_owned()]))
        );
        assert_eq!(choose(std::slice::from_ref(&alone), Some("a")).unwrap().name, "a");
        assert_eq!(choose(&[alone], Some("b")), Err(Refusal::Silent("b".to_owned())));
    }

    proptest! {
        #[test]
        fn what_may_be_old_or_corrupt_is_never_chosen(
            seen in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0u64..20_000), 0..8)
        ) {
            let all: Vec<Candidate> = seen.into_iter().enumerate().map(|(at, (has_leader, leads, votes, corrupt, applied))| Candidate {
                name: format!("s{at}"), has_leader, leads: leads && has_leader, votes, corrupt, applied,
            }).collect();
            let fit = all.iter().any(|one| one.has_leader && !one.corrupt);
            match choose(&all, None) {
                Ok(one) => prop_assert!(one.has_leader && !one.corrupt),
                Err(_) => prop_assert!(!fit),
            }
        }

        #[test]
        fn the_newest_stay(count in 0usize..20, keep in 1usize..10) {
            let names: Vec<String> = (0..count).rev().map(|at| format!("main-2026010{}T000000Z-r{at}.db", at % 10)).collect();
            let gone = superfluous(names.clone(), keep);
            prop_assert_eq!(gone.len(), count.saturating_sub(keep));
            let stays = names.iter().filter(|name| !gone.contains(name)).min();
            prop_assert!(gone.iter().max() < stays || stays.is_none());
        }
    }
}
