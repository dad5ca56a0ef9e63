//! Which networks a cluster can lose and still have a quorum.

use std::collections::BTreeMap;
use std::fmt;

use super::names::NetworkName;

/// How many of `voters` voting members must agree: more than half.
#[must_use]
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// The cluster's networks, seen as things that fail as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureDomains {
    /// How many voting members there are.
    pub voters: usize,
    /// How many of them are a quorum.
    pub quorum: usize,
    /// The networks that may be lost, one at a time, with a quorum left.
    pub expendable: Vec<NetworkName>,
    /// The networks without which there is no quorum.
    pub critical: Vec<NetworkName>,
    /// What is worth a word to the user.
    pub warnings: Vec<FailureDomainWarning>,
}

/// A layout that works, and is weaker than it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureDomainWarning {
    /// An even number of voters stands no more failures than one fewer would.
    EvenVoters {
        /// How many.
        voters: usize,
    },
    /// Several networks, and the cluster stops with one of them.
    CriticalNetwork {
        /// The network.
        network: NetworkName,
        /// How many voters stand in it.
        holds: usize,
        /// How many voters there are.
        voters: usize,
    },
}

impl fmt::Display for FailureDomainWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EvenVoters { voters } => write!(
                f,
                "{voters} voting members stand no more failures than {} would: {} of them must agree, and any one \
                 that is added to an odd number only adds something that can fail. Use an odd number",
                voters - 1,
                quorum(*voters)
            ),
            Self::CriticalNetwork { network, holds, voters } => write!(
                f,
                "the network {network:?} holds {holds} of {voters} voting members: when it is cut off, no quorum is left \
                 outside of it. Spread the servers so that no network holds half of them or more",
                network = network.as_str()
            ),
        }
    }
}

impl FailureDomains {
    /// Counts voters by network; `networks` has one entry for each voter.
    pub fn new(networks: impl IntoIterator<Item = NetworkName>) -> Self {
        let mut by_network: BTreeMap<NetworkName, usize> = BTreeMap::new();
        for network in networks {
            *by_network.entry(network).or_default() += 1;
        }
        let voters = by_network.values().sum();
        let quorum = quorum(voters);
        let mut warnings = Vec::new();
        if voters > 0 && voters % 2 == 0 {
            warnings.push(FailureDomainWarning::EvenVoters { voters });
        }
        let several = by_network.len() > 1;
        let (mut expendable, mut critical) = (Vec::new(), Vec::new());
        for (network, holds) in by_network {
            if voters - holds >= quorum {
                expendable.push(network);
                continue;
            }
            if several {
                warnings.push(FailureDomainWarning::CriticalNetwork {
                    network: network.clone(),
                    holds,
                    voters,
                });
            }
            critical.push(network);
        }
        Self {
            voters,
            quorum,
            expendable,
            critical,
            warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(layout: &str) -> FailureDomains {
        FailureDomains::new(layout.chars().map(|c| NetworkName::parse(&c.to_string()).unwrap()))
    }

    #[test]
    fn quorum_is_more_than_half() {
        assert_eq!((1..=7).map(quorum).collect::<Vec<_>>(), [1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn three_networks_of_one_each_lose_any() {
        let d = domains("abc");
        assert_eq!((d.expendable.len(), d.critical.len()), (3, 0));
        assert!(d.warnings.is_empty());
    }

    #[test]
    fn the_majority_is_critical_and_said_once() {
        let d = domains("aab");
        assert_eq!(d.critical, [NetworkName::parse("a").unwrap()]);
        assert_eq!(d.warnings.len(), 1);
        assert!(d.warnings[0].to_string().contains("\"a\" holds 2 of 3"));
    }

    #[test]
    fn half_is_critical_too_and_even_is_said() {
        let d = domains("aabb");
        assert_eq!(d.critical.len(), 2);
        assert_eq!(d.warnings.len(), 3);
    }

    #[test]
    fn one_network_is_nothing_to_warn_of() {
        assert!(domains("aaa").warnings.is_empty());
        assert_eq!(domains("aaa").critical.len(), 1);
        assert_eq!(domains("").voters, 0);
    }
}
