//! Whether a cluster that lost its quorum may go on from what one of its members has. It would be a second cluster beside the first one,
//! if that one lived: so whatever could still make a quorum stands in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::quorum;

/// What one of the cluster's servers was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It could not be observed; the text says why.
    Unreached(String),
    /// It was observed.
    Reached(Holding),
}

/// What a server that was reached holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The token that is written down on the server.
    pub token: Option<String>,
    /// Whether it holds a member's data.
    pub data: bool,
    /// Whether that was made for the cluster that is to be: an earlier run has come that far.
    pub recovered: bool,
    /// Whether its member knows a leader.
    pub leader: bool,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The token of the cluster that lost its quorum.
    pub before: String,
    /// The token of the one that is to be.
    pub after: String,
    /// The server whose data it goes on from.
    pub survivor: String,
    /// The servers that are said to be gone for good.
    pub lost: BTreeSet<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Stop the members on these servers for good, then make the survivor's data that of a cluster of its own.
    Go(BTreeSet<String>),
    /// Not allowed, for these reasons, a list for each server.
    Refused(BTreeMap<String, Vec<Refusal>>),
}

/// Why a server stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is said to be lost, and answers.
    Answers,
    /// It is not said to be lost, and does not answer.
    Unreached(String),
    /// Its member knows a leader.
    Leader,
    /// There is nothing to go on from.
    NoData,
    /// It belongs to another cluster.
    OtherCluster(Option<String>),
    /// It and others hold the data of a quorum.
    Quorum {
        /// How many hold data.
        with_data: usize,
        /// How many members the cluster has.
        members: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Answers => f.write_str(
                "is said to be lost, and answers. If only its data is gone, take it out of `lost` and leave it in `servers`: its member joins anew",
            ),
            Refusal::Unreached(why) => write!(
                f,
                "could not be observed, and is not said to be lost. Its member may run and make a quorum with others. Bring it back, or, if it \
                 is gone for good, name it in `lost`: {why}"
            ),
            Refusal::Leader => f.write_str("has a member that knows a leader: the cluster has a quorum, and there is nothing to recover"),
            Refusal::NoData => f.write_str("holds no data of a member, so nothing can go on from it. Name another survivor, or found from a snapshot"),
            Refusal::OtherCluster(Some(token)) => write!(f, "belongs to a cluster of the same name with the token {token:?}"),
            Refusal::OtherCluster(None) => f.write_str("holds data, and nothing says of which cluster"),
            Refusal::Quorum { with_data, members } => write!(
                f,
                "holds data, as {with_data} of {members} servers do that answer, and a quorum is {}. Nothing is lost: start their members \
                 (`systemctl start`), or apply without `recovery`",
                quorum(*members)
            ),
        }
    }
}

/// Decides. `servers` are all that the cluster had.
pub fn recover(wanted: &Wanted, servers: &BTreeMap<String, Seen>) -> Recovery {
    let mut refused: BTreeMap<String, Vec<Refusal>> = BTreeMap::new();
    let mut refuse = |name: &String, refusal| refused.entry(name.clone()).or_default().push(refusal);
    let mut with_data = BTreeSet::new();
    for (name, seen) in servers {
        let holding = match seen {
            Seen::Unreached(_) if wanted.lost.contains(name) => continue,
            Seen::Unreached(why) => {
                refuse(name, Refusal::Unreached(why.clone()));
                continue;
            }
            Seen::Reached(_) if wanted.lost.contains(name) => {
                refuse(name, Refusal::Answers);
                continue;
            }
            Seen::Reached(holding) => holding,
        };
        let ours = { holding.token.as_ref() }.is_some_and(|token| *token == wanted.before || *token == wanted.after);
        if !ours && (holding.data || holding.token.is_some()) {
            refuse(name, Refusal::OtherCluster(holding.token.clone()));
        }
        if holding.data && !holding.recovered {
            with_data.insert(name.clone());
        }
        // What an earlier run has made of the survivor leads itself.
        if holding.leader && !holding.recovered {
            refuse(name, Refusal::Leader);
        }
    }
    let survivor = match servers.get(&wanted.survivor) {
        Some(Seen::Reached(holding)) => Some(holding),
        _ => None,
    };
    if survivor.is_none_or(|holding| !holding.data) {
        refuse(&wanted.survivor, Refusal::NoData);
    }
    let recovered = survivor.is_some_and(|holding| holding.recovered);
    if !recovered && with_data.len() >= quorum(servers.len()) {
        let quorum = Refusal::Quorum {
            with_data: with_data.len(),
            members: servers.len(),
        };
        with_data.iter().for_each(|name| refuse(name, quorum.clone()));
    }
    if !refused.is_empty() {
        return Recovery::Refused(refused);
    }
    let others = servers
        .keys()
        .filter(|name| **name != wanted.survivor && !wanted.lost.contains(*name));
    Recovery::Go(others.cloned().collect())
}

/// How far a member that was started again has come with its log. What a crash left in the log alone is in its database once it has read that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Up to which index its log says that entries are committed.
    pub committed: u64,
    /// Up to which index its last raft snapshot goes: all of that is in the database.
    pub from: u64,
    /// Up to which index it has applied what is committed since it started; 0 before the first.
    pub applied: u64,
}

impl Log {
    /// Whether everything is in the database that the log says is committed.
    pub fn is_read(&self) -> bool {
        self.from.max(self.applied) >= self.committed
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it has applied {} of {}",
            self.from.max(self.applied),
            self.committed
        )
    }
}

/// What a user has to write to have it done: the cluster, and what may be lost.
pub fn acknowledgement(cluster: &str, survivor: &str, lost: &BTreeSet<String>) -> String {
    let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
    let whose = if lost.is_empty() {
        "others".to_owned()
    } else {
        lost.join(", ")
    };
    format!("{cluster} goes on from {survivor}, and what only {whose} had is lost")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(lost: &[&str]) -> Wanted {
        Wanted {
            before: "t".into(),
            after: "u".into(),
            survivor: "a".into(),
            lost: lost.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn holds() -> Seen {
        Seen::Reached(Holding {
            token: Some("t".into()),
            data: true,
            ..Holding::default()
        })
    }

    fn gone() -> Seen {
        Seen::Unreached("no route".into())
    }

    fn servers(seen: &[(&str, Seen)]) -> BTreeMap<String, Seen> {
        seen.iter()
            .map(|(name, seen)| ((*name).to_owned(), seen.clone()))
            .collect()
    }

    fn refusals(wanted: &Wanted, seen: &[(&str, Seen)], name: &str) -> Vec<Refusal> {
        match recover(wanted, &servers(seen)) {
            Recovery::Go(_) => Vec::new(),
            Recovery::Refused(mut reasons) => reasons.remove(name).unwrap_or_default(),
        }
    }

    #[test]
    fn one_of_three_goes_on_when_two_are_gone() {
        let seen = [("a", holds()), ("b", gone()), ("c", gone())];
        assert_eq!(
            recover(&wanted(&["b", "c"]), &servers(&seen)),
            Recovery::Go(BTreeSet::new())
        );
        assert_eq!(
            refusals(&wanted(&["b"]), &seen, "c"),
            [Refusal::Unreached("no route".into())]
        );
    }

    #[test]
    fn who_answers_is_not_lost() {
        let seen = [("a", holds()), ("b", holds()), ("c", gone())];
        assert_eq!(refusals(&wanted(&["b", "c"]), &seen, "b"), [Refusal::Answers]);
        let two = Refusal::Quorum {
            with_data: 2,
            members: 3,
        };
        assert_eq!(refusals(&wanted(&["c"]), &seen, "a"), [two]);
    }

    #[test]
    fn survivors_that_are_no_quorum_are_stopped() {
        let seen = [
            ("a", holds()),
            ("b", holds()),
            ("c", gone()),
            ("d", gone()),
            ("e", gone()),
        ];
        let go = recover(&wanted(&["c", "d", "e"]), &servers(&seen));
        assert_eq!(go, Recovery::Go(BTreeSet::from(["b".to_owned()])));
    }

    #[test]
    fn an_earlier_run_is_carried_on() {
        let done = Seen::Reached(Holding {
            token: Some("u".into()),
            data: true,
            recovered: true,
            leader: true,
        });
        let fenced = Seen::Reached(Holding {
            token: Some("u".into()),
            ..Holding::default()
        });
        let seen = [("a", done), ("b", fenced), ("c", gone())];
        assert_eq!(
            recover(&wanted(&["c"]), &servers(&seen)),
            Recovery::Go(BTreeSet::from(["b".to_owned()]))
        );
    }

    #[test]
    fn a_log_is_read_when_all_that_is_committed_is_applied() {
        let log = |committed, from, applied| Log {
            committed,
            from,
            applied,
        };
        // The first thing that it measures may be a part: etcd applies by the megabyte.
        assert!(!log(28, 0, 0).is_read() && !log(28, 0, 27).is_read() && log(28, 0, 28).is_read());
        // After a raft snapshot of everything there is nothing to apply, and nothing is ever measured.
        assert!(log(28, 28, 0).is_read() && !log(29, 28, 0).is_read());
        assert_eq!(log(29, 28, 0).to_string(), "it has applied 28 of 29");
    }

    fn any_seen() -> impl Strategy<Value = Seen> {
        let token = prop_oneof![
            Just(None),
            Just(Some("t".to_owned())),
            Just(Some("u".to_owned())),
            Just(Some("x".to_owned()))
        ];
        let holding = (token, any::<bool>(), any::<bool>()).prop_map(|(token, data, leader)| {
            Seen::Reached(Holding {
                token,
                data,
                recovered: false,
                leader: leader && data,
            })
        });
        prop_oneof![2 => Just(gone()), 3 => holding]
    }

    proptest! {
        #[test]
        fn never_beside_what_may_be_a_quorum(seen in prop::collection::vec((any_seen(), any::<bool>()), 1..8)) {
            let servers: BTreeMap<String, Seen> =
                seen.iter().enumerate().map(|(at, (seen, _))| (["a", "b", "c", "d", "e", "f", "g"][at].to_owned(), seen.clone())).collect();
            let lost = servers.keys().zip(&seen).filter(|(name, (_, lost))| *lost && *name != "a").map(|(name, _)| name.clone()).collect();
            let wanted = Wanted { lost, ..wanted(&[]) };
            if let Recovery::Go(fenced) = recover(&wanted, &servers) {
                // Nobody that has a leader, nobody unknown, and fewer that have data than a quorum.
                let reached = servers.values().filter_map(|seen| match seen { Seen::Reached(one) => Some(one), Seen::Unreached(_) => None });
                prop_assert!(reached.clone().all(|one| !one.leader));
                prop_assert!(reached.filter(|one| one.data).count() < quorum(servers.len()));
                for (name, seen) in &servers {
                    let known = matches!(seen, Seen::Reached(_));
                    prop_assert_eq!(known, !wanted.lost.contains(name));
                    prop_assert_eq!(fenced.contains(name), known && name != "a");
                }
            }
        }
    }
}
