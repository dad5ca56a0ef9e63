//! Options that all servers of a k3s cluster must have alike. k3s compares them when a server joins, and refuses one that differs from the
//! server it joins through; one that has data it does not compare, and lets it misbehave.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

/// Of these options one is the way the cluster was made: addresses and names of services, pods and tokens follow from it.
const FIXED: [&str; 4] = ["cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain"];
/// The one thing of `disable` that k3s compares.
const DISABLED: (&str, &str) = ("disable", "servicelb");
/// The options that are true or false.
const SWITCHES: [&str; 8] = [
    "disable-cloud-controller",
    "disable-helm-controller",
    "disable-network-policy",
    "embedded-registry",
    "flannel-external-ip",
    "flannel-ipv6-masq",
    "secrets-encryption",
    "supervisor-metrics",
];
/// The others, and what they are where nothing is said.
const TEXTS: [(&str, &str); 5] = [
    ("cluster-cidr", "10.42.0.0/16"),
    ("service-cidr", "10.43.0.0/16"),
    ("cluster-domain", "cluster.local"),
    ("flannel-backend", "vxlan"),
    ("egress-selector-mode", "agent"),
];

/// What a server has of these options, as k3s compares it: defaults are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared(BTreeMap<&'static str, String>);

/// An option in which two servers differ, or a server before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name in k3s.
    pub option: &'static str,
    /// What the server in question has.
    pub own: String,
    /// What the other one has, or what it had before.
    pub other: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?} and not {:?}", self.option, self.own, self.other)
    }
}

impl Shared {
    /// Of these options of a server.
    #[must_use]
    pub fn of(options: &BTreeMap<String, Vec<String>>) -> Self {
        let given = |name: &str| {
            let values = options.get(name).into_iter().flatten();
            values
                .flat_map(|value| value.split(','))
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
                .collect::<Vec<_>>()
        };
        let mut all = BTreeMap::new();
        for name in SWITCHES {
            let on = given(name)
                .last()
                .is_some_and(|value| ["true", "t", "1"].contains(&value.to_ascii_lowercase().as_str()));
            all.insert(name, on.to_string());
        }
        for (name, default) in TEXTS {
            let values = given(name);
            all.insert(
                name,
                if values.is_empty() {
                    default.to_owned()
                } else {
                    values.join(",")
                },
            );
        }
        let (disable, what) = DISABLED;
        let disabled = given(disable).iter().any(|one| one == what);
        all.insert(disable, if disabled { what.to_owned() } else { String::new() });
        let names = given("cluster-dns");
        let names = match names.is_empty() {
            true => all["service-cidr"].split(',').map(tenth).collect(),
            false => names,
        };
        all.insert("cluster-dns", names.join(","));
        Self(all)
    }

    /// In what it differs from another server's.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let pairs = self.0.iter().zip(other.0.values());
        let mut all: Vec<Difference> = pairs
            .filter(|((_, own), other)| own != other)
            .map(|((option, own), other)| Difference {
                option,
                own: own.clone(),
                other: other.clone(),
            })
            .collect();
        // It follows from the range, which is named already.
        if all.iter().any(|one| one.option == "service-cidr") {
            all.retain(|one| one.option != "cluster-dns");
        }
        all
    }

    /// What would be another cluster, not other options of the same: no restart brings it about.
    #[must_use]
    pub fn impossible(&self, before: &Self) -> Vec<Difference> {
        let mut all = self.differences(before);
        all.retain(|one| FIXED.contains(&one.option));
        all
    }
}

/// Where k3s has the DNS of a range of services unless it is told.
fn tenth(range: &str) -> String {
    let first = range
        .split_once('/')
        .and_then(|(first, _)| first.parse::<Ipv4Addr>().ok());
    match first.and_then(|first| u32::from(first).checked_add(10)) {
        Some(tenth) => Ipv4Addr::from(tenth).to_string(),
        None => format!("the tenth of {range}"),
    }
}

/// Whether a server may join now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Yes.
    Open,
    /// Others are about to be restarted with the same options.
    Await(String, Vec<Difference>),
    /// k3s would refuse it: this server has others.
    Differs(String, Vec<Difference>),
}

/// Decides on joining with these options, by what the servers have that are in the cluster. Where nothing differs nobody is waited for: a
/// restart may need the vote of the one that joins.
#[must_use]
pub fn entry(own: &Shared, others: &BTreeMap<String, Shared>, restarts_wait: bool) -> Entry {
    let differs = others
        .iter()
        .map(|(server, other)| (server.clone(), own.differences(other)))
        .find(|(_, differences)| !differences.is_empty());
    match differs {
        None => Entry::Open,
        Some((server, differences)) if restarts_wait => Entry::Await(server, differences),
        Some((server, differences)) => Entry::Differs(server, differences),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared(options: &[(&str, &str)]) -> Shared {
        Shared::of(
            &options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]))
                .collect(),
        )
    }

    #[test]
    fn what_says_the_same_in_other_words_is_the_same() {
        let none = shared(&[]);
        for same in [
            ("cluster-cidr", "10.42.0.0/16"),
            ("cluster-dns", "10.43.0.10"),
            ("disable", "traefik,metrics-server"),
            ("secrets-encryption", "false"),
            ("flannel-backend", "vxlan"),
            ("node-label", "a=b"),
        ] {
            assert_eq!(shared(&[same]), none, "{same:?}");
        }
        let two: BTreeMap<_, _> = [("disable".to_owned(), vec!["traefik".to_owned(), "servicelb".to_owned()])].into();
        assert_eq!(Shared::of(&two), shared(&[("disable", "servicelb")]));
        assert_ne!(Shared::of(&two), none);
    }

    #[test]
    fn a_cluster_keeps_its_ranges_and_names_and_may_change_the_rest() {
        let before = shared(&[]);
        let changed = |option, value| shared(&[(option, value)]).impossible(&before);
        let named = |differences: Vec<Difference>| differences.iter().map(|one| one.option).collect::<Vec<_>>();
        assert_eq!(named(changed("service-cidr", "10.96.0.0/16")), ["service-cidr"]);
        assert_eq!(named(changed("cluster-cidr", "10.52.0.0/16")), ["cluster-cidr"]);
        assert_eq!(named(changed("cluster-dns", "10.43.0.53")), ["cluster-dns"]);
        assert_eq!(named(changed("cluster-domain", "k3s.example")), ["cluster-domain"]);
        assert!(changed("flannel-backend", "wireguard-native").is_empty());
        assert!(changed("disable", "servicelb").is_empty());
        let says = &changed("cluster-domain", "x")[0];
        assert_eq!(says.to_string(), r#"cluster-domain is "x" and not "cluster.local""#);
    }

    #[test]
    fn who_joins_waits_for_restarts_that_make_the_others_alike() {
        let (old, new) = (shared(&[]), shared(&[("disable-network-policy", "true")]));
        let others = |all: &[(&str, &Shared)]| {
            all.iter()
                .map(|(name, one)| ((*name).to_owned(), (*one).clone()))
                .collect()
        };
        assert_eq!(entry(&new, &others(&[("a", &new)]), false), Entry::Open);
        assert_eq!(
            entry(&new, &others(&[("a", &new)]), true),
            Entry::Open,
            "nothing to wait for"
        );
        let half = others(&[("a", &new), ("b", &old)]);
        assert!(matches!(entry(&new, &half, true), Entry::Await(server, _) if server == "b"));
        assert!(matches!(entry(&new, &half, false), Entry::Differs(server, _) if server == "b"));
    }

    proptest! {
        /// In what one differs from another the other differs from the one, and nobody from itself.
        #[test]
        fn differences_have_two_sides(options in prop::collection::vec((0usize..4, "[a-c,]{0,3}"), 0..6)) {
            let names = ["cluster-dns", "flannel-backend", "disable", "service-cidr"];
            let options: Vec<_> = options.iter().map(|(name, value)| (names[*name], value.as_str())).collect();
            let (one, other) = (shared(&options), shared(&options[options.len() / 2..]));
            prop_assert!(one.differences(&one).is_empty());
            let (there, back) = (one.differences(&other), other.differences(&one));
            prop_assert_eq!(there.len(), back.len());
            prop_assert_eq!(there.is_empty(), one == other);
            prop_assert!(one.impossible(&other).iter().all(|found| there.contains(found)));
        }
    }
}
