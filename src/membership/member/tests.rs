use super::*;

fn permitted() -> Observed {
    Observed {
        permit: Some("t".into()),
        token: Some("t".into()),
        bare: false,
        data: Data::Empty,
        restored: false,
        service: Service::Stopped,
        installed: false,
        restart_needed: false,
        expired: false,
        peers_moved: false,
        port_taken: None,
        founders_started: None,
        answers: None,
        cluster: None,
        others_wait: false,
        old_entries: false,
        last_minor: None,
        leader_moves: 0,
        copied: false,
        adoption: None,
    }
}

fn desired() -> Desired {
    Desired {
        token: "t".into(),
        founders: 3,
        founder: true,
        as_founded: true,
        verify: true,
        minor: 6,
        peer_url_differs: false,
    }
}

#[test]
fn a_permit_founds() {
    assert_eq!(next_step(&permitted(), &desired()), Step::Install(Start::Found));
}

#[test]
fn a_permit_is_void_once_the_servers_are_others() {
    let desired = Desired {
        as_founded: false,
        ..desired()
    };
    let looked = |cluster| Observed {
        cluster: Some(cluster),
        ..permitted()
    };
    assert_eq!(next_step(&permitted(), &desired), Step::LookAtCluster);
    let step = next_step(&looked(Cluster::NoQuorum), &desired);
    assert_eq!(step, Step::Refuse(Refusal::NoCluster));
    // It founded nothing, and is listed as a voter: it starts as that.
    let lives = Cluster::Lives(Lives {
        own: Listed::Unstarted,
        others: 2,
        healthy: 2,
        leads: false,
        minors: Some((6, 6)),
        learner: None,
        given_up: false,
        peer_url: PeerUrl::Wanted,
    });
    assert_eq!(next_step(&looked(lives), &desired), Step::Install(Start::Join));
}

#[test]
fn data_beside_an_unused_permit_is_somebody_elses() {
    let observed = Observed {
        data: Data::Member,
        ..permitted()
    };
    assert_eq!(next_step(&observed, &desired()), Step::Refuse(Refusal::ForeignData));
}

#[test]
fn what_was_made_of_a_snapshot_may_stand_beside_a_permit() {
    let observed = Observed {
        data: Data::Member,
        restored: true,
        ..permitted()
    };
    assert_eq!(next_step(&observed, &desired()), Step::Install(Start::Found));
    // For another cluster it is nothing.
    let other = Observed {
        permit: None,
        token: Some("other".into()),
        ..observed
    };
    assert_eq!(
        next_step(&other, &desired()),
        Step::Refuse(Refusal::OtherCluster("other".into()))
    );
}

#[test]
fn the_first_of_three_does_not_wait_for_the_others() {
    let observed = Observed {
        permit: None,
        data: Data::Member,
        service: Service::Running,
        installed: true,
        founders_started: Some(1),
        ..permitted()
    };
    assert_eq!(next_step(&observed, &desired()), Step::Leave);
    let second = Observed {
        founders_started: Some(2),
        ..observed.clone()
    };
    assert_eq!(next_step(&second, &desired()), Step::AwaitHealth);
    let third = Observed {
        founders_started: Some(3),
        answers: Some(Answer::Voter),
        ..observed
    };
    assert_eq!(next_step(&third, &desired()), Step::Verify);
}

#[test]
fn a_wiped_member_leaves_before_it_joins_again() {
    let lives = |own| {
        Some(Cluster::Lives(Lives {
            own,
            others: 2,
            healthy: 2,
            leads: false,
            minors: Some((6, 6)),
            learner: None,
            given_up: false,
            peer_url: PeerUrl::Wanted,
        }))
    };
    let wiped = Observed {
        permit: None,
        ..permitted()
    };
    assert_eq!(next_step(&wiped, &desired()), Step::LookAtCluster);
    let looked = |cluster| {
        next_step(
            &Observed {
                cluster,
                ..wiped.clone()
            },
            &desired(),
        )
    };
    assert_eq!(looked(Some(Cluster::NoQuorum)), Step::Refuse(Refusal::NoCluster));
    assert_eq!(looked(lives(Listed::Voter)), Step::RemoveOld);
    assert_eq!(looked(lives(Listed::Not)), Step::AddLearner);
    assert_eq!(looked(lives(Listed::Unstarted)), Step::Install(Start::Join));
    let weak = Some(Cluster::Lives(Lives {
        own: Listed::Voter,
        others: 2,
        healthy: 1,
        leads: false,
        minors: Some((6, 6)),
        learner: None,
        given_up: false,
        peer_url: PeerUrl::Wanted,
    }));
    assert_eq!(looked(weak), Step::Refuse(Refusal::Quorum { others: 2, healthy: 1 }));
}

#[test]
fn the_leader_is_restarted_last_and_only_under_a_quorum() {
    let runs = |cluster| Observed {
        permit: None,
        data: Data::Member,
        service: Service::Running,
        restart_needed: true,
        cluster,
        ..permitted()
    };
    let lives = |others, healthy, leads| {
        Some(Cluster::Lives(Lives {
            own: Listed::Voter,
            others,
            healthy,
            leads,
            minors: (others > 0).then_some((6, 6)),
            learner: None,
            given_up: false,
            peer_url: PeerUrl::Wanted,
        }))
    };
    let step = |observed: &Observed| next_step(observed, &desired());
    assert_eq!(step(&runs(None)), Step::LookAtCluster);
    assert_eq!(step(&runs(lives(4, 3, false))), Step::Install(Start::Restart));
    let weak = Refusal::Restart { voters: 5, healthy: 2 };
    assert!(weak.may_pass());
    assert_eq!(step(&runs(lives(4, 2, false))), Step::Refuse(weak));
    let leader = runs(lives(4, 4, true));
    let polite = Observed {
        others_wait: true,
        ..leader.clone()
    };
    assert_eq!(step(&polite), Step::LetOthersFirst);
    assert_eq!(step(&leader), Step::MoveLeader);
    let in_vain = Observed {
        leader_moves: 3,
        ..leader
    };
    assert_eq!(step(&in_vain), Step::Install(Start::Restart));
    let old = Observed {
        old_entries: true,
        ..in_vain
    };
    assert_eq!(step(&old), Step::Install(Start::Snapshot));
    // Alone or two: there is no other way than a pause.
    assert_eq!(step(&runs(lives(0, 0, true))), Step::Install(Start::Restart));
    assert_eq!(step(&runs(lives(1, 1, false))), Step::Install(Start::Restart));
    assert!(matches!(step(&runs(lives(1, 0, false))), Step::Refuse(_)));
}

#[test]
fn a_token_that_an_interrupted_create_left_is_in_nobodys_way() {
    let other = |bare| Observed {
        permit: Some("other".into()),
        token: Some("other".into()),
        bare,
        ..permitted()
    };
    assert_eq!(
        next_step(&other(false), &desired()),
        Step::Refuse(Refusal::OtherCluster("other".into()))
    );
    assert_eq!(next_step(&other(true), &desired()), Step::LookAtCluster, "it joins");
}

#[test]
fn data_without_a_token_is_said_to_be_that() {
    let observed = |token: Option<&str>| Observed {
        permit: None,
        token: token.map(str::to_owned),
        data: Data::Member,
        ..permitted()
    };
    let said = Refusal::TokenGone.to_string();
    assert!(
        said.contains("no file `token`") && said.contains("write it again"),
        "{said}"
    );
    assert_eq!(next_step(&observed(None), &desired()), Step::Refuse(Refusal::TokenGone));
    assert_eq!(next_step(&observed(Some("t")), &desired()), Step::LookAtCluster);
}

#[test]
fn a_stopped_member_goes_on_from_the_version_that_it_ran() {
    let stopped = |last, old_entries| Observed {
        permit: None,
        data: Data::Member,
        cluster: Some(Cluster::NoQuorum),
        last_minor: Some(last),
        old_entries,
        ..permitted()
    };
    let step = |last, old_entries| next_step(&stopped(last, old_entries), &desired());
    assert_eq!(step(5, false), Step::Install(Start::Resume));
    assert_eq!(step(6, false), Step::Install(Start::Resume));
    assert_eq!(step(6, true), Step::Install(Start::AsItIs));
    assert_eq!(step(4, false), Step::Refuse(Refusal::Version { minor: 6, last: 4 }));
    let newer = Refusal::Version { minor: 6, last: 7 };
    assert!(newer.to_string().contains("Set its version to 3.7 again"));
    assert_eq!(step(7, false), Step::Refuse(newer));
}

/// Seen with site B cut off while drift was mended: the member whose start would have made the quorum waited for the turn of one that was
/// restarted, and that one for the quorum.
#[test]
fn a_stopped_member_does_not_wait_for_the_turn_of_another() {
    let observed = |service, restart_needed| Observed {
        permit: None,
        data: Data::Member,
        service,
        restart_needed,
        ..permitted()
    };
    let lives = |own| {
        Cluster::Lives(Lives {
            own,
            others: 4,
            healthy: 3,
            leads: false,
            minors: Some((6, 6)),
            learner: None,
            given_up: false,
            peer_url: PeerUrl::Wanted,
        })
    };
    let goes_on = |observed: &Observed, cluster| goes_on_out_of_turn(observed, &desired(), cluster);
    let stopped = observed(Service::Stopped, false);
    assert!(goes_on(&stopped, lives(Listed::Voter)));
    assert!(goes_on(&observed(Service::Failed, true), Cluster::NoQuorum));
    // Data is set aside, and members are restarted and added, in a turn.
    assert!(!goes_on(&stopped, lives(Listed::Not)));
    assert!(!goes_on(&observed(Service::Running, true), lives(Listed::Voter)));
    let wiped = Observed {
        data: Data::Empty,
        ..stopped
    };
    assert!(!goes_on(&wiped, lives(Listed::Unstarted)));
}

#[test]
fn a_founder_that_was_given_up_makes_room() {
    let joins = |healthy, given_up| Observed {
        permit: None,
        cluster: Some(Cluster::Lives(Lives {
            own: Listed::Not,
            others: 3,
            healthy,
            leads: false,
            minors: Some((6, 6)),
            learner: None,
            given_up,
            peer_url: PeerUrl::Wanted,
        })),
        ..permitted()
    };
    let no_room = |healthy| Step::Refuse(Refusal::NoRoom { voters: 3, healthy });
    assert_eq!(next_step(&joins(2, false), &desired()), no_room(2));
    assert_eq!(next_step(&joins(2, true), &desired()), Step::RemoveOther);
    assert_eq!(next_step(&joins(1, true), &desired()), no_room(1), "two have to agree");
    let runs = |given_up| Observed {
        data: Data::Member,
        service: Service::Running,
        restart_needed: true,
        cluster: Some(Cluster::Lives(Lives {
            own: Listed::Voter,
            others: 2,
            healthy: 1,
            leads: false,
            minors: Some((6, 6)),
            learner: None,
            given_up,
            peer_url: PeerUrl::Wanted,
        })),
        ..joins(0, false)
    };
    let refused = Step::Refuse(Refusal::Restart { voters: 3, healthy: 1 });
    assert_eq!(next_step(&runs(false), &desired()), refused);
    assert_eq!(next_step(&runs(true), &desired()), Step::RemoveOther);
}

#[test]
fn members_stay_within_one_minor_version() {
    let lives = |own, minors| {
        Some(Cluster::Lives(Lives {
            own,
            others: 2,
            healthy: 2,
            leads: false,
            minors: Some(minors),
            learner: None,
            given_up: false,
            peer_url: PeerUrl::Wanted,
        }))
    };
    let joins = |minors| Observed {
        permit: None,
        cluster: lives(Listed::Not, minors),
        ..permitted()
    };
    let skew = |other| Step::Refuse(Refusal::Skew { minor: 6, other });
    assert_eq!(next_step(&joins((5, 6)), &desired()), Step::AddLearner);
    assert_eq!(
        next_step(&joins((5, 5)), &desired()),
        skew(5),
        "nobody joins who is newer than all"
    );
    assert_eq!(
        next_step(&joins((7, 7)), &desired()),
        skew(7),
        "etcd lets nobody join who is older than all"
    );
    assert_eq!(next_step(&joins((4, 5)), &desired()), skew(5));
    let runs = Observed {
        data: Data::Member,
        service: Service::Running,
        restart_needed: true,
        ..joins((4, 5))
    };
    let runs = Observed {
        cluster: lives(Listed::Voter, (4, 5)),
        ..runs
    };
    assert_eq!(next_step(&runs, &desired()), skew(4));
}

#[test]
fn a_member_is_taken_over_when_a_quorum_stays_without_it() {
    let at = |adoption, cluster| Observed {
        token: None,
        permit: None,
        data: Data::Member,
        adoption: Some(adoption),
        port_taken: Some((2380, "etcd".to_owned())),
        cluster,
        ..permitted()
    };
    let lives = |own, healthy, leads| {
        Some(Cluster::Lives(Lives {
            own,
            others: 2,
            healthy,
            leads,
            minors: Some((6, 6)),
            learner: None,
            given_up: false,
            peer_url: PeerUrl::Wanted,
        }))
    };
    let step = |observed: &Observed| next_step(observed, &desired());
    let runs = |cluster| step(&at(Adoption::Runs, cluster));
    assert_eq!(runs(None), Step::LookAtCluster);
    assert_eq!(runs(lives(Listed::Voter, 2, false)), Step::Adopt);
    assert_eq!(runs(lives(Listed::Voter, 2, true)), Step::MoveLeader);
    assert!(matches!(runs(lives(Listed::Voter, 1, false)), Step::Refuse(_)));
    assert_eq!(runs(lives(Listed::Not, 2, false)), Step::Refuse(Refusal::Unlisted));
    // Its data is neither set aside nor its member removed, whatever the cluster says.
    let stopped = at(Adoption::Stopped, lives(Listed::Not, 2, false));
    assert_eq!(step(&stopped), Step::Refuse(Refusal::FormerStopped));
    assert_eq!(step(&at(Adoption::Begun, None)), Step::Adopt);
    let started = at(Adoption::Renaming, None);
    assert_eq!(step(&started), Step::AwaitHealth);
    let answers = Observed {
        answers: Some(Answer::Voter),
        ..started
    };
    assert_eq!(step(&answers), Step::Rename);
}

mod properties;

#[test]
fn a_port_for_peers_changes_with_two_urls_for_a_while() {
    let running = |peer_url, restart_needed: bool| Observed {
        answers: (!restart_needed).then_some(Answer::Voter),
        installed: !restart_needed,
        data: Data::Member,
        service: Service::Running,
        restart_needed,
        cluster: Some(Cluster::Lives(Lives {
            own: Listed::Voter,
            others: 2,
            healthy: 2,
            leads: false,
            minors: Some((6, 6)),
            learner: None,
            given_up: false,
            peer_url,
        })),
        permit: None,
        ..permitted()
    };
    let desired = Desired {
        peer_url_differs: true,
        verify: false,
        ..desired()
    };
    let step = |peer_url, restart_needed| next_step(&running(peer_url, restart_needed), &desired);
    assert_eq!(step(PeerUrl::Other, true), Step::AddUrl);
    assert_eq!(step(PeerUrl::Both, true), Step::Install(Start::Restart));
    assert_eq!(step(PeerUrl::Both, false), Step::SettleUrl);
    assert_eq!(step(PeerUrl::Wanted, false), Step::Done);
    // What an earlier version of this provider left: it listens at the wanted port, and the list has the former one.
    assert_eq!(step(PeerUrl::Other, false), Step::AddUrl);
    // A port that another process has is no reason to stop the member.
    let taken = Observed {
        port_taken: Some((2390, "nginx (process 7)".to_owned())),
        ..running(PeerUrl::Both, true)
    };
    let refused = Refusal::PortTaken(2390, "nginx (process 7)".to_owned());
    assert_eq!(next_step(&taken, &desired), Step::Refuse(refused));
}
