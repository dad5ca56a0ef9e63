//! Whether a cluster may be founded. A second cluster under the name of a first one is the worst that this
//! provider could do, so everything that is not plainly clean is refused.

use std::collections::{BTreeMap, BTreeSet};
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

impl Seen {
    fn holding(&self) -> Option<&Holding> {
        match self {
            Seen::Reached(holding) => Some(holding),
            Seen::Unreached(_) => None,
        }
    }
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
    /// The servers that its member founds with or has founded with, if it is or was one of the founders.
    pub founders: Option<BTreeSet<String>>,
    /// Its member was one of a quorum once, in the cluster with that token. The mark outlives the data.
    pub founded: bool,
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
    /// Some founders have started and are no quorum, and other servers than those that found the cluster are wanted.
    HalfFounded {
        /// How many were seen to have started.
        started: usize,
        /// How many found it.
        founders: usize,
    },
    /// Members are founded or being founded, but not enough of them ever got their data, and this server's
    /// permit is gone.
    PermitLost,
}

/// Says that a port is taken: by a process, or by the unit that listens for the preflight of a cluster.
pub(super) fn port_taken(port: u16, process: &str) -> String {
    let cluster = process.strip_prefix("preflight-etcd-");
    match cluster.and_then(|name| name.strip_suffix(".service")) {
        Some(cluster) => format!(
            "port {port} is in use by the preflight of the etcd cluster {cluster}, which another run of this provider began there. It ends with that \
             run, or within 45 s if that run was cut off: apply again then"
        ),
        None => format!(
            "port {port} is in use by {process}. Stop it, or choose another port with the server's peer_port or client_port"
        ),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unreached(why) => write!(f, "could not be observed: {why}"),
            Refusal::HoldsData(directory) => write!(
                f,
                "holds the data of an etcd member in {directory}. A cluster is founded only on servers without data. If it is this \
                 cluster's, import the cluster. If the data is not needed, move that directory away"
            ),
            Refusal::OtherCluster(token) => write!(
                f,
                "belongs to a cluster of the same name with the token {token:?}. If it is the same cluster, import it. \
                 If it is another one, choose another name for this one"
            ),
            Refusal::PortTaken(port, process) => f.write_str(&port_taken(*port, process)),
            Refusal::HalfFounded { started, founders } => write!(
                f,
                "holds the data of a member of this cluster, whose founding is under way: {started} of {founders} founding members have \
                 started, and a quorum is {}. Other servers would found another cluster beside it. Put `servers` back as they were, \
                 apply, and change them then",
                quorum(*founders)
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

/// Decides again for a cluster whose permits were issued before: an apply may have been interrupted anywhere. `founders` are the servers
/// that they were issued for, `servers` those that are wanted, and `removed` the founders that are not among these.
///
/// Permits are issued anew only while no server holds data. They are good for exactly the servers that they were issued for: members that
/// start with different ones would be of different clusters.
pub fn found_again(
    token: &str,
    founders: &BTreeSet<String>,
    servers: &BTreeMap<String, Seen>,
    removed: &BTreeMap<String, Seen>,
) -> Founding {
    let mut all = servers.values().chain(removed.values());
    if all.any(|seen| was_founded(seen, token)) {
        return Founding::Underway;
    }
    if !servers.keys().eq(founders) {
        return found_others(token, founders, servers, removed);
    }
    let reached: BTreeMap<&String, &Holding> = { servers.iter() }
        .filter_map(|(name, seen)| Some((name, seen.holding()?)))
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

/// Other servers are wanted than those that permits were issued for.
fn found_others(
    token: &str,
    founders: &BTreeSet<String>,
    servers: &BTreeMap<String, Seen>,
    removed: &BTreeMap<String, Seen>,
) -> Founding {
    let all = || servers.iter().chain(removed);
    if is_founded(founders, all()) || is_founded_by_others(token, all()) {
        return Founding::Underway;
    }
    let mut refused: BTreeMap<String, Vec<Refusal>> = BTreeMap::new();
    let mut held = Vec::new();
    for (name, seen) in all() {
        match seen {
            Seen::Unreached(why) => drop(refused.insert(name.clone(), vec![Refusal::Unreached(why.clone())])),
            Seen::Reached(holding) if holding.data.is_some() && founders.contains(name) => held.push(name.clone()),
            Seen::Reached(_) => {}
        }
    }
    let half = Refusal::HalfFounded {
        started: held.len(),
        founders: founders.len(),
    };
    refused.extend(held.into_iter().map(|name| (name, vec![half.clone()])));
    if refused.is_empty() {
        found(token, servers)
    } else {
        Founding::Refused(refused)
    }
}

/// Whether a quorum of the founders was seen to hold data. From then on the cluster lives by its member list.
pub fn is_founded<'a>(founders: &BTreeSet<String>, seen: impl Iterator<Item = (&'a String, &'a Seen)>) -> bool {
    let with_data = seen.filter(|(name, seen)| {
        founders.contains(*name) && seen.holding().is_some_and(|holding| holding.data.is_some())
    });
    with_data.count() >= quorum(founders.len())
}

/// Whether a server has the mark that the cluster with this token was founded once. It is never founded again, whatever has become of its data.
fn was_founded(seen: &Seen, token: &str) -> bool {
    let holding = seen.holding();
    holding.is_some_and(|holding| holding.founded && holding.token.as_deref() == Some(token))
}

/// Whether the cluster was founded, as far as its servers tell: `None` if the servers that were not reached could make the difference.
pub fn known(token: &str, founders: &BTreeSet<String>, servers: &BTreeMap<String, Seen>) -> Option<bool> {
    if is_founded(founders, servers.iter()) || servers.values().any(|seen| was_founded(seen, token)) {
        return Some(true);
    }
    let unreached = servers.values().any(|seen| seen.holding().is_none());
    let without = founders.iter().any(|name| !servers.contains_key(name));
    (!unreached && !without).then_some(false)
}

/// Whether a quorum of other founders than the state has was seen to hold data, by what they founded with: an earlier run has issued permits
/// for them, and the state does not know of it.
fn is_founded_by_others<'a>(token: &str, seen: impl Iterator<Item = (&'a String, &'a Seen)>) -> bool {
    let ours = seen.filter_map(|(name, seen)| {
        let holding = seen.holding()?;
        let ours = holding.data.is_some() && holding.token.as_deref() == Some(token);
        Some((name, holding.founders.as_ref().filter(|_| ours)?))
    });
    let ours: BTreeMap<&String, &BTreeSet<String>> = ours.collect();
    ours.values().any(|founders| {
        let started = ours
            .iter()
            .filter(|(name, theirs)| founders.contains(**name) && *theirs == founders);
        started.count() >= quorum(founders.len())
    })
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
        let decision = again(3, vec![with_permit, clean(), clean()]);
        assert!(matches!(decision, Founding::Permit(names) if names.len() == 3));
    }

    /// With as many founders, of which those are removed that nothing is seen of.
    fn again(founders: usize, seen: Vec<Seen>) -> Founding {
        let founders = (0..founders).map(|number| format!("s{number}")).collect();
        found_again("t", &founders, &servers(seen), &BTreeMap::new())
    }

    fn with_data() -> Seen {
        Seen::Reached(Holding {
            token: Some("t".into()),
            data: Some("/var/lib/etcd/main".into()),
            ..Holding::default()
        })
    }

    #[test]
    fn permits_are_for_the_servers_that_they_were_issued_for() {
        let half = Refusal::HalfFounded {
            started: 1,
            founders: 3,
        };
        let Founding::Refused(reasons) = again(3, vec![with_data(), clean(), clean(), clean()]) else {
            panic!("a fourth one while one of three has started")
        };
        assert_eq!(reasons["s0"], [half]);
        let two = vec![with_data(), with_data(), clean(), clean()];
        assert_eq!(again(3, two), Founding::Underway, "a quorum of the three has started");
        let none = again(3, vec![clean(), clean()]);
        assert!(
            matches!(none, Founding::Permit(names) if names.len() == 2),
            "nobody has started"
        );
        let founders = BTreeSet::from(["s0".to_owned(), "s9".to_owned()]);
        let removed = BTreeMap::from([("s9".to_owned(), Seen::Unreached("gone".to_owned()))]);
        let unknown = found_again("t", &founders, &servers(vec![clean()]), &removed);
        assert!(matches!(unknown, Founding::Refused(reasons) if reasons.contains_key("s9")));
    }

    #[test]
    fn permits_of_another_run_have_founded_it_too() {
        let founded_with = |token: &str, founders: &[&str]| {
            Seen::Reached(Holding {
                token: Some(token.into()),
                data: Some("/var/lib/etcd/main".into()),
                founders: Some(founders.iter().map(|name| (*name).to_owned()).collect()),
                ..Holding::default()
            })
        };
        // The state has five founders. Two of them can be a cluster of two, or the first ones of five.
        let of_two = || founded_with("t", &["s0", "s1"]);
        let of_five = || founded_with("t", &["s0", "s1", "s2", "s3", "s4"]);
        assert_eq!(again(5, vec![of_two(), of_two()]), Founding::Underway);
        assert_eq!(again(5, vec![of_two(), of_two(), clean()]), Founding::Underway);
        for half in [
            vec![of_five(), of_five()],
            vec![of_two(), of_five()],
            vec![of_two(), clean()],
            vec![with_data(), with_data()],
            vec![of_two(), founded_with("other", &["s0", "s1"])],
        ] {
            assert!(matches!(again(5, half.clone()), Founding::Refused(_)), "{half:?}");
        }
    }

    #[test]
    fn what_was_founded_once_is_never_founded_again() {
        let marked = |token: &str| {
            Seen::Reached(Holding {
                token: Some(token.into()),
                founded: true,
                ..Holding::default()
            })
        };
        // All data is gone, and one server has the mark.
        assert_eq!(again(3, vec![clean(), marked("t"), clean()]), Founding::Underway);
        assert_eq!(again(3, vec![clean(), marked("t")]), Founding::Underway);
        assert!(matches!(
            again(3, vec![clean(), marked("other"), clean()]),
            Founding::Permit(_)
        ));
    }

    #[test]
    fn whether_it_was_founded_is_not_guessed() {
        let gone = || Seen::Unreached("gone".to_owned());
        let of = |seen: Vec<Seen>| {
            let founders = (0..3).map(|number| format!("s{number}")).collect();
            known("t", &founders, &servers(seen))
        };
        assert_eq!(of(vec![with_data(), with_data(), gone()]), Some(true));
        assert_eq!(of(vec![with_data(), clean(), gone()]), None);
        assert_eq!(of(vec![clean(), clean(), gone()]), None);
        assert_eq!(of(vec![with_data(), clean(), clean()]), Some(false));
        // A founder has left the map.
        assert_eq!(of(vec![clean(), clean()]), None);
    }

    fn any_seen() -> impl Strategy<Value = Seen> {
        let token = prop_oneof![Just(None), Just(Some("t".to_owned())), Just(Some("other".to_owned()))];
        let any = any::<bool>;
        let holding = (token, any(), any(), any(), any()).prop_map(|(token, permit, data, founded, port)| {
            Seen::Reached(Holding {
                token,
                permit,
                data: data.then(|| "/var/lib/etcd/main".to_owned()),
                founders: founded.then(|| BTreeSet::from(["s0".to_owned(), "s1".to_owned()])),
                founded: false,
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
            seen in prop::collection::vec(any_seen(), 1..9), again in any::<bool>(), before in 1usize..9,
            gone in prop::collection::vec(any_seen(), 0..3),
        ) {
            let servers = servers(seen);
            let gone = gone.into_iter().zip(20..).map(|(seen, number)| (format!("s{number}"), seen)).collect();
            let founders = (0..before).map(|number| format!("s{number}")).chain(BTreeMap::keys(&gone).cloned()).collect();
            let decision = if again {
                found_again("t", &founders, &servers, &gone)
            } else {
                found("t", &servers)
            };
            let looked_at = servers.values().chain(gone.values().filter(|_| again));
            let clean = { looked_at }.all(|seen| matches!(seen, Seen::Reached(holding) if holding.data.is_none()));
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
