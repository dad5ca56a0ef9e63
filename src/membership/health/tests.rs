use super::*;

fn looks(layout: &[(&str, &str)]) -> BTreeMap<String, Look> {
    let look = |network: &str| Look {
        network: network.to_owned(),
        standing: Some(Standing::Voter),
        leader: Some(1),
        ..Look::default()
    };
    layout
        .iter()
        .map(|(name, network)| ((*name).to_owned(), look(network)))
        .collect()
}

fn said(health: &Health) -> Vec<String> {
    health.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_healthy_cluster_has_no_problems() {
    let health = judge(
        &looks(&[("a1", "a"), ("b1", "b"), ("c1", "c")]),
        &[],
        &Elsewhere::default(),
    );
    assert_eq!(said(&health), Vec::<String>::new());
    assert_eq!((health.voters, health.quorum, health.failures_tolerated), (3, 2, 1));
    assert_eq!(health.expendable_networks, ["a", "b", "c"]);
}

#[test]
fn one_dead_server_leaves_a_quorum_that_stands_nothing_more() {
    let mut looks = looks(&[("a1", "a"), ("b1", "b"), ("c1", "c")]);
    looks.get_mut("c1").unwrap().unreached = Some("no answer".to_owned());
    let health = judge(&looks, &[], &Elsewhere::default());
    assert_eq!(health.has_quorum(), Some(true));
    assert_eq!(health.failures_tolerated, 0);
    assert_eq!(health.expendable_networks, ["c"], "it is lost already");
    assert_eq!(said(&health), ["c1: its server can't be reached: no answer"]);
    looks.get_mut("b1").unwrap().service = Some("failed".to_owned());
    let health = judge(&looks, &[], &Elsewhere::default());
    assert_eq!(health.has_quorum(), None, "c1 may be well");
    assert!(said(&health)[0].starts_with("nothing says whether there is a quorum: 1 of 3"));
    looks.get_mut("a1").unwrap().unhealthy = Some("no quorum confirms a read through it".to_owned());
    let health = judge(&looks, &[], &Elsewhere::default());
    assert_eq!(health.has_quorum(), Some(false));
    assert!(said(&health)[0].starts_with("no quorum: 0 of 3 voting members healthy, 2 needed"));
}

#[test]
fn learners_and_strangers_do_not_vote_and_foreign_members_do() {
    let mut looks = looks(&[("a1", "a"), ("b1", "b"), ("c1", "c")]);
    looks.get_mut("b1").unwrap().standing = Some(Standing::Learner);
    looks.get_mut("c1").unwrap().standing = Some(Standing::Stranger);
    let elsewhere = Elsewhere {
        members: vec!["old".to_owned()],
        ..Elsewhere::default()
    };
    let health = judge(&looks, &[], &elsewhere);
    assert_eq!((health.voters, health.quorum, health.healthy_voters), (2, 2, 1));
    assert_eq!(health.problems.len(), 3);
}

#[test]
fn a_dead_direction_names_both_ends_and_the_rejection() {
    let mut pair = Pair {
        from: "b1".to_owned(),
        to: "a1".to_owned(),
        address: Some("203.0.113.11".to_owned()),
        expected_address: Some("203.0.113.11".to_owned()),
        port: 2380,
        connected: Some(true),
        unreachable: Some("no answer within 3 s".to_owned()),
        ..Pair::default()
    };
    let looks = looks(&[("a1", "a"), ("b1", "b")]);
    let health = judge(&looks, std::slice::from_ref(&pair), &Elsewhere::default());
    assert_eq!(
        said(&health),
        [
            "b1 does not reach a1, which it dials at 203.0.113.11 port 2380: no answer within 3 s. Let TCP from b1 through to it"
        ]
    );
    pair.rejected = Some((14, "203.0.113.29".to_owned(), "tls: bad".to_owned()));
    let health = judge(&looks, std::slice::from_ref(&pair), &Elsewhere::default());
    assert!(said(&health)[0].ends_with("a1 rejected 14 connections from 203.0.113.29 in the last minutes: tls: bad"));
    let mut looks = looks;
    looks.get_mut("a1").unwrap().service = Some("failed".to_owned());
    let health = judge(&looks, &[pair], &Elsewhere::default());
    assert_eq!(health.problems.len(), 2, "that it is down is said once");
}

#[test]
fn clocks_count_only_as_far_as_they_are_known() {
    let mut looks = looks(&[("a1", "a"), ("b1", "b")]);
    looks.get_mut("a1").unwrap().clock = Some((-200, 50));
    looks.get_mut("b1").unwrap().clock = Some((1000, 150));
    assert_eq!(judge(&looks, &[], &Elsewhere::default()).clock_difference_ms, 1000);
    assert!(judge(&looks, &[], &Elsewhere::default()).problems.is_empty());
    looks.get_mut("b1").unwrap().clock = Some((20_000, 150));
    let health = judge(&looks, &[], &Elsewhere::default());
    assert!(said(&health)[0].starts_with("the clocks of a1 and b1 differ by 20.0 s or more"));
}

#[test]
fn a_line_that_became_long_or_poor_is_said_once() {
    let mut looks = looks(&[("a1", "a"), ("b1", "b"), ("c1", "c")]);
    for look in looks.values_mut() {
        look.election_timeout_ms = Some(1000);
    }
    let pair = |from: &str, to: &str, ms: f64, lost: u64| Pair {
        from: from.to_owned(),
        to: to.to_owned(),
        connected: Some(true),
        round_trip_ms: Some(ms),
        packets: Some((1000, lost)),
        ..Pair::default()
    };
    // One direction alone may be a moment's delay.
    let pairs = [pair("a1", "b1", 400.0, 3), pair("b1", "a1", 30.0, 0)];
    assert_eq!(
        said(&judge(&looks, &pairs, &Elsewhere::default())),
        Vec::<String>::new()
    );
    let pairs = [
        pair("a1", "c1", 201.0, 20),
        pair("c1", "a1", 200.0, 31),
        pair("b1", "c1", 199.0, 22),
        pair("c1", "b1", 199.0, 0),
    ];
    let said = said(&judge(&looks, &pairs, &Elsewhere::default()));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("takes 200 ms, which is too long for an election timeout of 1000 ms"),
        "{said:?}"
    );
    assert!(said[0].contains("ten (200 and 2000, for example)"), "{said:?}");
    assert!(
        said[1].starts_with("3.1% of the packets from c1 to a1 are lost"),
        "{said:?}"
    );
    let few = [Pair {
        packets: Some((100, 40)),
        ..pair("a1", "b1", 1.0, 0)
    }];
    assert!(
        judge(&looks, &few, &Elsewhere::default()).problems.is_empty(),
        "an outage that has just ended"
    );
}

#[test]
fn a_slow_disk_and_a_taken_port_are_said() {
    let mut looks = looks(&[("a1", "a"), ("b1", "b"), ("c1", "c")]);
    looks.get_mut("a1").unwrap().fsyncs = Some(Fsyncs::from((3, 150.0, 2)));
    assert_eq!(
        slow_disk(Some(Fsyncs::from((10, 150.0, 1)))),
        None,
        "it stood still once"
    );
    looks.get_mut("b1").unwrap().fsyncs = Some(Fsyncs::from((2, 150.0, 2)));
    let c1 = looks.get_mut("c1").unwrap();
    c1.service = Some("failed".to_owned());
    c1.ports_taken = vec![(2380, "nc (process 7)".to_owned())];
    let said = said(&judge(&looks, &[], &Elsewhere::default()));
    assert!(
        said[0].starts_with("a1: its disk takes 150 ms for a synchronous write"),
        "{said:?}"
    );
    assert!(said[1].starts_with("c1: its etcd does not run"), "{said:?}");
    assert!(
        said[2].starts_with("c1: port 2380 of its etcd is taken by nc (process 7)"),
        "{said:?}"
    );
    assert_eq!(said.len(), 3, "{said:?}");
}

#[test]
fn a_verified_member_may_be_remarkable() {
    let near = BTreeMap::from([("b1".to_owned(), 30.0), ("c1".to_owned(), 150.0)]);
    assert_eq!(
        remarks(Some(Fsyncs::from((5, 9.0, 0))), Some((-900, 10)), &near, 1000),
        []
    );
    assert_eq!(remarks(None, Some((1500, 600)), &near, 1000), [], "it may be less");
    let all = remarks(Some(Fsyncs::from((5, 150.0, 5))), Some((-20_040, 30)), &near, 800);
    assert_eq!(
        all,
        [
            Remark::SlowDisk(150.0),
            Remark::Clock(-20_040),
            Remark::Far("c1".to_owned(), 150.0, 800)
        ]
    );
    let said: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert!(
        said[1].starts_with("has a clock that is 20.0 s behind that of the machine that runs Terraform"),
        "{said:?}"
    );
    assert!(said[2].starts_with("is 150 ms from c1 and back"), "{said:?}");
}

#[test]
fn an_alarm_outlives_its_member() {
    let elsewhere = Elsewhere {
        alarms: vec![("a member that has left (ID 1)".to_owned(), "NOSPACE".to_owned())],
        ..Elsewhere::default()
    };
    let health = judge(&looks(&[("a1", "a")]), &[], &elsewhere);
    assert_eq!(health.voters, 1, "it has left");
    assert!(said(&health)[0].starts_with("the alarm NOSPACE of a member that has left (ID 1) is raised still"));
}

#[test]
fn alarms_full_databases_and_ends_of_certificates_are_said() {
    let mut looks = looks(&[("a1", "a")]);
    let look = looks.get_mut("a1").unwrap();
    look.alarms.insert("NOSPACE".to_owned());
    look.size = Some((90, 100));
    look.certificate_days = BTreeMap::from([("peers".to_owned(), -1), ("clients".to_owned(), 300)]);
    look.snapshots = Some("its timer does not run".to_owned());
    let said = said(&judge(&looks, &[], &Elsewhere::default()));
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[3].ends_with("its timer does not run"));
    assert!(said[2].contains("peers has expired"));
}
