//! Whether a server may leave the map of servers of a cluster that was founded. Its lines leave the other servers' hosts files with it,
//! so its member must have left before.

use std::fmt;

/// A server that is to leave the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// What is on it; `None` if it was not reached.
    pub there: Option<There>,
    /// Whether the cluster lists its member.
    pub listed: Listed,
}

/// What is on a server that was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct There {
    /// Its member runs.
    pub runs: bool,
    /// Where its member's data is.
    pub data: Option<String>,
    /// The other name under which the same machine stays in the map.
    pub stays_as: Option<String>,
}

/// What a member list that a quorum confirmed says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It has the member, with this ID.
    Yes(u64),
    /// It does not have it.
    No,
    /// No quorum answered.
    Unknown,
}

/// What becomes of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vacating {
    /// What is left of a member there is stopped and kept aside: by the member list it is no longer the cluster's. Only under the cluster's
    /// lock, after another look at the list: another run may add the member again.
    Take,
    /// What the cluster has there is taken away, unless a member turns up there after all.
    TakeIfEmpty,
    /// The machine stays in the map under another name: nothing is taken away.
    Stays(String),
    /// It was not reached, and its member is no longer the cluster's: it is left as it is.
    LeftBehind,
    /// Nothing may be changed on any server.
    Refuse(Refusal),
}

/// Why a server may not leave the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The cluster lists its member.
    Listed(u64),
    /// Its member runs, and no quorum says whether the cluster lists it.
    Runs,
    /// It holds data, and no quorum says whether the cluster lists its member.
    Holds(String),
    /// It was not reached, and no quorum says whether the cluster lists its member.
    Unknown,
}

impl Refusal {
    /// A stable name for the reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Listed(_) => "listed",
            Self::Runs => "runs",
            Self::Holds(_) => "holds-data",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(id) => write!(f, "the cluster still lists its member, with the ID {id:x}"),
            Self::Runs => f.write_str("its member runs, and no quorum of the cluster answers"),
            Self::Holds(path) => write!(
                f,
                "it holds the data of a member in {path}, and no quorum of the cluster answers"
            ),
            Self::Unknown => f.write_str(
                "it was not reached, and no quorum of the cluster answers that could say whether its member still has a vote",
            ),
        }
    }
}

/// What becomes of a server that is to leave the map of a cluster that was founded.
pub fn decide(leaving: &Leaving) -> Vacating {
    let there = leaving.there.as_ref();
    if let Listed::Yes(id) = leaving.listed {
        return Vacating::Refuse(Refusal::Listed(id));
    }
    if let Some(name) = there.and_then(|there| there.stays_as.clone()) {
        return Vacating::Stays(name);
    }
    match (there, leaving.listed) {
        (Some(there), Listed::No) if there.runs || there.data.is_some() => Vacating::Take,
        (None, Listed::No) => Vacating::LeftBehind,
        (Some(there), _) if there.runs => Vacating::Refuse(Refusal::Runs),
        (Some(there), _) => match &there.data {
            Some(path) => Vacating::Refuse(Refusal::Holds(path.clone())),
            None => Vacating::TakeIfEmpty,
        },
        (None, _) => Vacating::Refuse(Refusal::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_leaving() -> impl Strategy<Value = Leaving> {
        let listed = prop_oneof![
            any::<u64>().prop_map(Listed::Yes),
            Just(Listed::No),
            Just(Listed::Unknown)
        ];
        let there = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(runs, data, stays)| There {
            runs,
            data: data.then(|| "/var/lib/etcd/main".to_owned()),
            stays_as: stays.then(|| "other".to_owned()),
        });
        (prop::option::of(there), listed).prop_map(|(there, listed)| Leaving { there, listed })
    }

    proptest! {
        #[test]
        fn a_member_that_may_have_a_vote_keeps_its_server_in_the_map(leaving in any_leaving()) {
            let decision = decide(&leaving);
            if let Listed::Yes(id) = leaving.listed {
                prop_assert_eq!(&decision, &Vacating::Refuse(Refusal::Listed(id)));
            }
            let holds = leaving.there.as_ref().is_none_or(|there| there.runs || there.data.is_some());
            let stays = leaving.there.as_ref().is_some_and(|there| there.stays_as.is_some());
            if leaving.listed == Listed::Unknown && holds && !stays {
                prop_assert!(matches!(decision, Vacating::Refuse(_)), "{decision:?}");
            }
            // What stays under another name is never taken.
            if stays {
                prop_assert!(matches!(decision, Vacating::Stays(_) | Vacating::Refuse(_)), "{decision:?}");
            }
            // One that has left, by the word of a quorum, is never in the way.
            if leaving.listed == Listed::No {
                prop_assert!(!matches!(decision, Vacating::Refuse(_)), "{decision:?}");
            }
        }
    }
}
