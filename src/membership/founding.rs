//! Whether a cluster may be founded. A second cluster under the name of a first one is the worst that this
//! provider could do, so everything that is not plainly clean is refused.

use std::collections::BTreeMap;
use std::fmt;

use super::quorum;

/// What one founding server was found to hold, before anything was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It could not be observed; the text says why.
    Unreached(String),
    /// It was observed.
    Reached(Holding),
}

/// What a server that was reached holds of a cluster of this name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The token that is written down on the server, by an earlier run or by another cluster of this name.
    pub token: Option<String>,
    /// It has a founding permit that was not used yet.
    pub permit: bool,
    /// The data directory that holds an etcd member's data, if one does.
    pub data: Option<String>,
    /// Ports that the member needs and some other process has: port and process.
    pub ports_taken: Vec<(u16, String)>,
}

/// What to do about founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Founding {
    /// Every server was reached and none holds data: leave a permit on each of these.
    Permit(Vec<String>),
    /// Permits are in place or members hold data: nothing to decide any more.
    Underway,
    /// Not allowed, for these reasons, a list for each server.
    Refused(BTreeMap<String, Vec<Refusal>>),
}

/// Why a server stands in the way of founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was not reached.
    Unreached(String),
    /// It holds data, and this run has not founded anything yet.
    HoldsData(String),
    /// It belongs to a cluster of this name with another token.
    OtherCluster(String),
    /// Another process has a port of the member.
    PortTaken(u16, String),
    /// Members are founded or being founded, but not enough of them ever got their data, and this server's
    /// permit is gone.
    PermitLost,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unreached(why) => write!(f, "could not be observed: {why}"),
            Refusal::HoldsData(directory) => write!(
                f,
                "holds the data of an etcd member in {directory}. A cluster is founded only on servers without data: \
                 move that directory away if its data is not needed, or give this cluster another name"
            ),
            Refusal::OtherCluster(token) => write!(
                f,
                "belongs to a cluster of the same name with the token {token:?}. Give this cluster another name, or \
                 destroy the other one first"
            ),
            Refusal::PortTaken(port, process) => write!(
                f,
                "port {port} is in use by {process}. Stop it, or choose another port with the server's peer_port or \
                 client_port"
            ),
            Refusal::PermitLost => f.write_str(
                "has no founding permit any more and its member never got any data, while other members have theirs \
                 and are no quorum. Start those members again (systemctl start), then apply once more",
            ),
        }
    }
}

/// Decides the founding of a new cluster: on all servers or on none.
pub fn found(token: &str, servers: &BTreeMap<String, Seen>) -> Founding {
    let mut refused: BTreeMap<String, Vec<Refusal>> = BTreeMap::new();
    for (name, seen) in servers {
        let reasons = match seen {
            Seen::Unreached(why) => vec![Refusal::Unreached(why.clone())],
            Seen::Reached(holding) => obstacles(token, holding),
        };
        if !reasons.is_empty() {
            refused.insert(name.clone(), reasons);
        }
    }
    if refused.is_empty() {
        Founding::Permit(servers.keys().cloned().collect())
    } else {
        Founding::Refused(refused)
    }
}

/// Decides again for a cluster whose permits were issued before: an apply may have been interrupted anywhere.
/// Permits are issued anew only while no server holds data.
pub fn found_again(token: &str, servers: &BTreeMap<String, Seen>) -> Founding {
    let reached: BTreeMap<&String, &Holding> = servers
        .iter()
        .filter_map(|(name, seen)| match seen {
            Seen::Reached(holding) => Some((name, holding)),
            Seen::Unreached(_) => None,
        })
        .collect();
    let with_data = reached.values().filter(|holding| holding.data.is_some()).count();
    let stranded: Vec<&String> = reached
        .iter()
        .filter(|(_, holding)| holding.data.is_none() && !holding.permit)
        .map(|(name, _)| *name)
        .collect();
    if stranded.is_empty() || with_data >= quorum(servers.len()) {
        return Founding::Underway;
    }
    if with_data == 0 {
        return found(token, servers);
    }
    // Permits that are still there may bring the quorum; only what can never come about is refused.
    let may_come = reached
        .values()
        .filter(|holding| holding.data.is_some() || holding.permit)
        .count();
    let unreached = servers.len() - reached.len();
    if may_come + unreached >= quorum(servers.len()) {
        return Founding::Underway;
    }
    Founding::Refused(
        stranded
            .into_iter()
            .map(|name| (name.clone(), vec![Refusal::PermitLost]))
            .collect(),
    )
}

fn obstacles(token: &str, holding: &Holding) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    // A token without data is what an interrupted run leaves behind, and harmless; with data it is a cluster.
    match (&holding.token, &holding.data) {
        (Some(other), Some(_)) if other != token => reasons.push(Refusal::OtherCluster(other.clone())),
        (_, Some(directory)) => reasons.push(Refusal::HoldsData(directory.clone())),
        _ => {}
    }
    // With data there, the port is most likely the same member's: one reason is enough.
    if reasons.is_empty() {
        reasons.extend(
            holding
                .ports_taken
                .iter()
                .map(|(port, by)| Refusal::PortTaken(*port, by.clone())),
        );
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean() -> Seen {
        Seen::Reached(Holding::default())
    }

    fn servers(seen: Vec<Seen>) -> BTreeMap<String, Seen> {
        seen.into_iter()
            .enumerate()
            .map(|(number, seen)| (format!("s{number}"), seen))
            .collect()
    }

    #[test]
    fn clean_servers_get_permits() {
        let decision = found("t", &servers(vec![clean(), clean(), clean()]));
        assert_eq!(decision, Founding::Permit(vec!["s0".into(), "s1".into(), "s2".into()]));
    }

    #[test]
    fn one_unreached_server_is_enough_to_refuse() {
        let decision = found(
            "t",
            &servers(vec![clean(), Seen::Unreached("no route".into()), clean()]),
        );
        let Founding::Refused(reasons) = decision else {
            panic!("{decision:?}")
        };
        assert_eq!(
            reasons.into_iter().collect::<Vec<_>>(),
            [("s1".to_owned(), vec![Refusal::Unreached("no route".into())])]
        );
    }

    #[test]
    fn a_lost_permit_without_any_data_is_issued_anew() {
        let with_permit = Seen::Reached(Holding {
            permit: true,
            token: Some("t".into()),
            ..Holding::default()
        });
        let decision = found_again("t", &servers(vec![with_permit, clean(), clean()]));
        assert!(matches!(decision, Founding::Permit(names) if names.len() == 3));
    }

    fn any_seen() -> impl Strategy<Value = Seen> {
        let token = prop_oneof![Just(None), Just(Some("t".to_owned())), Just(Some("other".to_owned()))];
        let holding = (token, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(token, permit, data, port)| {
            Seen::Reached(Holding {
                token,
                permit,
                data: data.then(|| "/var/lib/etcd/main".to_owned()),
                ports_taken: if port {
                    vec![(2380, "nginx".to_owned())]
                } else {
                    Vec::new()
                },
            })
        });
        prop_oneof![1 => Just(Seen::Unreached("gone".to_owned())), 6 => holding]
    }

    proptest! {
        #[test]
        fn permits_are_never_issued_where_one_server_is_unknown_or_holds_data(
            seen in prop::collection::vec(any_seen(), 1..9), again in any::<bool>()
        ) {
            let servers = servers(seen);
            let decision = if again { found_again("t", &servers) } else { found("t", &servers) };
            let clean = servers.values().all(|seen| matches!(seen, Seen::Reached(holding) if holding.data.is_none()));
            match decision {
                Founding::Permit(names) => {
                    prop_assert!(clean);
                    prop_assert_eq!(names.len(), servers.len());
                }
                Founding::Refused(reasons) => prop_assert!(!reasons.is_empty()),
                Founding::Underway => prop_assert!(again),
            }
        }
    }
}
