use super::*;

fn server(network: &str) -> Server {
    Server {
        network: network.to_owned(),
        new: true,
        ..Server::default()
    }
}

fn open(round_trip: f64) -> Outcome {
    Outcome::Open(Trip {
        round_trip_ms: Some(round_trip),
        ..Trip::default()
    })
}

fn pair(from: &str, to: &str, outcome: Outcome) -> Pair {
    Pair {
        from: from.to_owned(),
        to: to.to_owned(),
        address: "203.0.113.21:2380".parse().unwrap(),
        expected_sources: vec!["203.0.113.11".parse().unwrap()],
        outcome,
    }
}

fn findings(pairs: Vec<Pair>) -> Findings {
    let servers = [("a1", "A"), ("b1", "B"), ("c1", "C")];
    Findings {
        servers: servers.map(|(name, network)| (name.to_owned(), server(network))).into(),
        pairs,
    }
}

fn refused(findings: &Findings) -> Vec<String> {
    judge(findings).refusals.iter().map(ToString::to_string).collect()
}

fn warned(findings: &Findings) -> Vec<String> {
    judge(findings).warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn open_pairs_are_no_trouble() {
    let verdict = judge(&findings(vec![
        pair("a1", "b1", open(25.0)),
        pair("b1", "a1", open(26.5)),
    ]));
    assert!(verdict.refusals.is_empty() && verdict.warnings.is_empty() && verdict.sources.is_empty());
    assert_eq!(verdict.longest_round_trip_ms, Some(26.5));
}

#[test]
fn a_round_trip_is_the_shorter_one_of_both_ends() {
    let mut findings = findings(vec![
        pair("a1", "b1", open(25.0)),
        pair("b1", "a1", open(190.0)),
        pair("a1", "c1", open(30.0)),
        pair("c1", "a1", Outcome::Stranger),
    ]);
    findings.settle_round_trips();
    assert_eq!(judge(&findings).longest_round_trip_ms, Some(30.0));
}

#[test]
fn pairs_that_are_closed_make_a_table() {
    let verdict = judge(&findings(vec![
        pair("a1", "b1", Outcome::Closed("no answer within 5 s".to_owned())),
        pair("b1", "a1", open(1.0)),
        pair("c1", "b1", Outcome::Other("a1".to_owned())),
        pair("b1", "c1", Outcome::Stranger),
        pair(
            "a1",
            "c1",
            Outcome::Open(Trip {
                out: Some(Bulk {
                    sent: 65536,
                    arrived: 0,
                }),
                back: Some(Bulk {
                    sent: 65536,
                    arrived: 65536,
                }),
                ..Trip::default()
            }),
        ),
    ]));
    insta::assert_snapshot!(table(&verdict.refusals), @r#"
    from  to  at                 what happened                                   what to open or mend
    a1    b1  203.0.113.21:2380  no answer within 5 s                            TCP from a1 (203.0.113.11) to b1 port 2380
    c1    b1  203.0.113.21:2380  a1 answers there                                let 203.0.113.21:2380 lead to b1
    b1    c1  203.0.113.21:2380  something else answers there                    let 203.0.113.21:2380 lead to c1
    a1    c1  203.0.113.21:2380  open, but larger messages from a1 don't arrive  ICMP "fragmentation needed" to a1, or a smaller MTU there
    "#);
}

#[test]
fn a_clock_that_is_off_is_named_and_not_the_others() {
    let clocks = |clocks: &[(&str, i64, i64)]| {
        let mut findings = findings(Vec::new());
        findings
            .servers
            .retain(|name, _| clocks.iter().any(|(other, ..)| name == other));
        for (name, ms, uncertain) in clocks {
            if let Some(server) = findings.servers.get_mut(*name) {
                server.clock = Some((*ms, *uncertain));
            }
        }
        findings
    };
    let one = clocks(&[("a1", 3, 20), ("b1", -20_050, 20), ("c1", -8, 20)]);
    assert_eq!(
        refused(&one),
        ["b1: its clock is 20.0 s behind the others. Let a time service (chrony, systemd-timesyncd) keep it"]
    );
    // Where the servers agree, ours is the one that is off.
    let ours = clocks(&[("a1", 30_000, 20), ("b1", 30_010, 20)]);
    assert!(refused(&ours).is_empty());
    assert!(warned(&ours)[0].starts_with("The clock of the machine that runs Terraform is 30.0 s behind the others"));
    // With one server there is nobody else to believe.
    assert!(refused(&clocks(&[("a1", 20_000, 20)]))[0].starts_with("a1: its clock is 20.0 s ahead of the others"));
    assert!(warned(&clocks(&[("a1", 1500, 20), ("b1", 0, 20)]))[0].starts_with("The clock of a1 is 1.5 s ahead of"));
    // What is not known for certain is nobody's fault.
    assert!(warned(&clocks(&[("a1", 1500, 600), ("b1", 0, 20)])).is_empty());
}

#[test]
fn slow_and_full_disks_are_told_from_those_that_will_do() {
    let disk = |writes_ms: Vec<f64>, free_mib: u64| {
        let mut findings = findings(Vec::new());
        if let Some(server) = findings.servers.get_mut("b1") {
            server.disk = Some(Disk {
                place: "/var/lib/etcd".to_owned(),
                free_mib: Some(free_mib),
                writes_ms,
            });
        }
        findings
    };
    let mut writes = vec![2.0; 20];
    writes[3] = 80.0;
    writes[4] = 30.0;
    assert!(warned(&disk(writes.clone(), 50_000)).is_empty(), "hiccups are none");
    writes[..5].fill(25.0);
    assert_eq!(
        warned(&disk(writes, 50_000)),
        ["On b1 one of four synchronous writes to /var/lib/etcd takes 25 ms or more; 10 ms is what etcd wants"]
    );
    let slow = disk(vec![210.0; 5], 50_000);
    assert!(refused(&slow)[0].starts_with("b1: every second synchronous write to /var/lib/etcd takes 210 ms or more"));
    assert!(warned(&slow).is_empty());
    assert!(refused(&disk(Vec::new(), 100))[0].starts_with("b1: 100 MiB are free in /var/lib/etcd"));
    assert!(warned(&disk(vec![1.0], 1000))[0].starts_with("On b1 only 1000 MiB are free"));
}

#[test]
fn slow_and_lossy_networks_are_named() {
    let lossy = |lost: u64| {
        Outcome::Open(Trip {
            round_trip_ms: Some(201.0),
            packets: Some((180, lost)),
            ..Trip::default()
        })
    };
    let found = findings(vec![
        pair("a1", "c1", lossy(4)),
        pair("c1", "a1", lossy(3)),
        pair("a1", "b1", open(2.0)),
        pair("b1", "a1", open(2.0)),
    ]);
    assert_eq!(
        warned(&found),
        [
            "Between the networks A and C a round trip takes up to 201 ms, and 1.9% of the packets are lost: writes wait for that"
        ]
    );
    let stray = findings(vec![pair(
        "a1",
        "b1",
        Outcome::Open(Trip {
            packets: Some((100, 2)),
            ..Trip::default()
        }),
    )]);
    assert!(warned(&stray).is_empty());
}

#[test]
fn another_source_address_is_kept_and_refuses_nothing() {
    let source = "203.0.113.29".parse().unwrap();
    let outcome = Outcome::Open(Trip {
        source: Some(source),
        ..Trip::default()
    });
    let verdict = judge(&findings(vec![pair("a1", "b1", outcome)]));
    assert!(verdict.refusals.is_empty() && verdict.warnings.is_empty());
    assert_eq!(
        verdict.sources,
        BTreeMap::from([("a1".to_owned(), BTreeSet::from([source]))])
    );
}
