use std::collections::BTreeMap;

use super::{Condition, Diagram, SeenPair};
use crate::topology::{ClusterName, Domain, NetworkName, Scheme, Server, ServerName, Topology};

/// So many servers in each of the networks `frankfurt`, `home`, `office`.
fn topology(layout: &[usize]) -> Topology {
    let networks = ["frankfurt", "home", "office", "paris", "rome"];
    let servers = layout
        .iter()
        .zip(networks)
        .zip(0u8..)
        .flat_map(|((count, network), number)| {
            let initial = network.chars().next().unwrap();
            (1..=*count).map(move |at| {
                let last = u8::try_from(at).unwrap() + 10;
                Server {
                    name: ServerName::parse(&format!("{initial}{at}")).unwrap(),
                    network: NetworkName::parse(network).unwrap(),
                    private_address: [10, 0, 0, last].into(),
                    public_address: Some([203, 0, 113, number * 20 + last].into()),
                    egress_addresses: Vec::new(),
                    peer_port: 2380,
                    client_port: 2379,
                }
            })
        });
    let cluster = ClusterName::parse("main").unwrap();
    let domain = Domain::of_cluster(&cluster);
    Topology::new(cluster, domain, Scheme::Https, servers.collect()).unwrap()
}

fn seen(topology: &Topology, dead: &[(&str, &str)], down: &[&str]) -> Diagram {
    let names: Vec<String> = topology.servers().keys().map(ToString::to_string).collect();
    let condition = |(at, name): (usize, &String)| {
        let condition = match (down.contains(&name.as_str()), at) {
            (true, _) => Condition::Down,
            (_, 0) => Condition::Leader,
            _ => Condition::Healthy,
        };
        (name.clone(), condition)
    };
    let conditions: BTreeMap<String, Condition> = names.iter().enumerate().map(condition).collect();
    let network = |name: &str| topology.servers()[&ServerName::parse(name).unwrap()].network.clone();
    let pairs = names.iter().flat_map(|from| names.iter().map(move |to| (from, to)));
    let pairs = pairs.filter(|(from, to)| from != to).map(|(from, to)| {
        let lost = dead.contains(&(from, to)) || down.contains(&to.as_str()) || down.contains(&from.as_str());
        let far = if network(from) == network(to) {
            0.4
        } else {
            38.2 + f64::from(to.as_bytes()[1] % 4)
        };
        SeenPair {
            from: from.clone(),
            to: to.clone(),
            rtt_ms: Some(far).filter(|_| !lost),
            dead: lost,
        }
    });
    Diagram::of(topology, "etcd cluster main").with_seen(&conditions, &pairs.collect::<Vec<_>>())
}

#[test]
fn three_servers_at_three_sites_as_they_are_meant_to_be() {
    let diagram = Diagram::of(&topology(&[1, 1, 1]), "etcd cluster main");
    insta::assert_snapshot!("three-mermaid", diagram.mermaid());
    insta::assert_snapshot!("three-svg", diagram.svg());
}

#[test]
fn five_servers_with_a_dead_direction() {
    let diagram = seen(&topology(&[2, 2, 1]), &[("f1", "h2")], &[]);
    insta::assert_snapshot!("five-mermaid", diagram.mermaid());
    insta::assert_snapshot!("five-svg", diagram.svg());
}

#[test]
fn seven_servers_one_of_them_down() {
    let diagram = seen(&topology(&[3, 2, 2]), &[], &["o2"]);
    insta::assert_snapshot!("seven-mermaid", diagram.mermaid());
    insta::assert_snapshot!("seven-svg", diagram.svg());
}

#[test]
fn no_two_cards_overlap_and_all_are_within_the_picture() {
    for layout in [
        vec![1],
        vec![7],
        vec![3, 4],
        vec![1, 1, 1],
        vec![3, 2, 2],
        vec![2, 2, 2, 1],
        vec![1; 5],
    ] {
        let diagram = Diagram::of(&topology(&layout), "etcd");
        let drawn = super::layout::Layout::of(&diagram);
        let areas: Vec<_> = drawn.boxes.iter().map(|network| network.area).collect();
        for (at, one) in areas.iter().enumerate() {
            assert!(one.x >= 0.0 && one.x + one.width <= drawn.width, "{layout:?}");
            assert!(one.y >= 0.0 && one.y + one.height <= drawn.height, "{layout:?}");
            for other in &areas[at + 1..] {
                let apart = one.x + one.width <= other.x
                    || other.x + other.width <= one.x
                    || one.y + one.height <= other.y
                    || other.y + other.height <= one.y;
                assert!(apart, "{layout:?}: {one:?} {other:?}");
            }
        }
        let cards: usize = drawn.boxes.iter().map(|network| network.cards.len()).sum();
        assert_eq!(cards, layout.iter().sum::<usize>());
    }
}

#[test]
fn what_users_write_can_break_neither_form() {
    let diagram = Diagram::of(&topology(&[1, 1]), "a \"title\" & <more>");
    let svg = diagram.svg();
    assert!(svg.contains("a &quot;title&quot; &amp; &lt;more&gt;") && !svg.contains("<more>"));
    assert!(
        diagram
            .mermaid()
            .starts_with("---\ntitle: \"a \\\"title\\\" & <more>\"\n---\nflowchart LR\n")
    );
    let mut diagram = Diagram::of(&topology(&[1, 1]), "not in XML: \u{fffe}\u{1b}\u{ffff}");
    assert!(diagram.svg().contains("not in XML: \u{fffd}\u{fffd}\u{fffd}<"));
    let (_, places) = diagram.networks.pop_first().unwrap();
    diagram.networks.insert("#quot; `code` & more".to_owned(), places);
    let mermaid = diagram.mermaid();
    assert!(mermaid.contains("[\"#35;quot; #96;code#96; #amp; more\"]"), "{mermaid}");
}
