use super::*;
use proptest::prelude::*;

fn permitted() -> Observed {
    Observed {
        permit: Some("t".into()),
        token: Some("t".into()),
        bare: false,
        data: Data::Empty,
        service: Service::Stopped,
        installed: false,
        restart_needed: false,
        peers_moved: false,
        port_taken: None,
        founders_started: None,
        answers: None,
        cluster: None,
        others_wait: false,
        old_entries: false,
        last_minor: None,
        leader_moves: 0,
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

/// A world of one member and what the others see of it. Performs a step as it would go where nothing fails, and
/// checks what must hold while it does.
#[derive(Debug)]
struct World {
    observed: Observed,
    listed: Listed,
    others: usize,
    healthy: usize,
    started_elsewhere: usize,
    caught_up: bool,
    foundings: usize,
    leads: bool,
}

impl World {
    fn lives(&self) -> bool {
        self.healthy > 0 && self.healthy >= quorum(self.others + usize::from(self.listed == Listed::Voter))
    }

    fn perform(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let lives = self.lives();
        let observed = &mut self.observed;
        match step {
            Step::Install(start) => {
                observed.installed = true;
                match start {
                    Start::Found => {
                        prop_assert!(observed.permit.is_some() && observed.data == Data::Empty);
                        self.foundings += 1;
                        observed.permit = None;
                        observed.data = Data::Member;
                        self.listed = Listed::Voter;
                        self.caught_up = true;
                    }
                    Start::Join => {
                        prop_assert!(self.listed == Listed::Unstarted, "only who was added anew joins");
                        observed.data = Data::Member;
                        self.listed = Listed::Learner;
                    }
                    Start::Resume => {
                        prop_assert!(observed.data == Data::Member);
                        prop_assert!(
                            self.listed != Listed::Not || !lives,
                            "who was taken out does not come back"
                        );
                        if self.listed == Listed::Unstarted {
                            self.listed = Listed::Learner;
                        }
                    }
                    Start::Restart => {
                        prop_assert!(observed.service == Service::Running && observed.restart_needed && lives);
                        let voters = self.others + 1;
                        let alone = voters <= 2 && self.healthy == self.others;
                        prop_assert!(
                            self.listed != Listed::Voter || self.healthy >= quorum(voters) || alone,
                            "a quorum stays healthy without it"
                        );
                        prop_assert!(
                            !self.leads || self.healthy == 0 || observed.leader_moves == 3,
                            "the leader hands over first"
                        );
                        observed.answers = None;
                    }
                    Start::Snapshot | Start::AsItIs => unreachable!("no world has old entries"),
                    Start::No => {}
                }
                if *start != Start::No {
                    observed.service = Service::Running;
                    observed.restart_needed = false;
                    self.leads &= *start == Start::Restart;
                }
                observed.cluster = None;
            }
            Step::LookAtCluster => {
                observed.cluster = Some(if lives {
                    Cluster::Lives(Lives {
                        own: self.listed,
                        others: self.others,
                        healthy: self.healthy,
                        leads: self.leads,
                        minors: (self.others > 0).then_some((6, 6)),
                        learner: None,
                        given_up: false,
                    })
                } else {
                    Cluster::NoQuorum
                });
            }
            Step::LetOthersFirst => {
                prop_assert!(self.leads);
                observed.others_wait = false;
                observed.cluster = None;
            }
            Step::MoveLeader => {
                prop_assert!(self.leads && self.healthy > 0);
                // The first try is in vain.
                self.leads = observed.leader_moves == 0;
                observed.leader_moves += 1;
                observed.cluster = None;
            }
            Step::SetAside => {
                prop_assert!(lives && self.listed == Listed::Not);
                observed.data = Data::Empty;
                observed.cluster = None;
            }
            Step::PromoteOther | Step::RemoveOther => unreachable!("no world has another learner"),
            Step::RemoveOld => {
                prop_assert!(observed.data == Data::Empty);
                let voter = self.listed == Listed::Voter;
                prop_assert!(
                    !voter || self.healthy >= quorum(self.others),
                    "a quorum of the others remains"
                );
                self.listed = Listed::Not;
                observed.cluster = None;
            }
            Step::AddLearner => {
                prop_assert!(self.listed == Listed::Not && lives);
                self.listed = Listed::Unstarted;
                observed.cluster = None;
            }
            Step::Promote => {
                prop_assert!(self.listed == Listed::Learner);
                self.caught_up = true;
                self.listed = Listed::Voter;
                observed.answers = None;
            }
            Step::Adopt => {
                let voters = self.others + 1;
                let alone = voters <= 2 && self.healthy == self.others;
                prop_assert!(
                    observed.adoption == Some(Adoption::Begun)
                        || self.listed != Listed::Voter
                        || self.healthy >= quorum(voters)
                        || alone,
                    "a quorum stays healthy without it"
                );
                prop_assert!(
                    !self.leads
                        || self.healthy == 0
                        || observed.leader_moves == 3
                        || observed.adoption == Some(Adoption::Begun),
                    "the leader hands over first"
                );
                observed.adoption = Some(Adoption::Renaming);
                (observed.data, observed.service) = (Data::Member, Service::Running);
                observed.token = Some("t".to_owned());
                (observed.cluster, observed.answers, observed.port_taken) = (None, None, None);
                self.leads = false;
            }
            Step::Rename => {
                prop_assert!(observed.adoption == Some(Adoption::Renaming) && observed.service == Service::Running);
                observed.adoption = None;
                observed.cluster = None;
            }
            Step::Redial => {
                prop_assert!(observed.service == Service::Running, "without a restart");
                observed.peers_moved = false;
            }
            Step::CountFounders => observed.founders_started = Some(self.started_elsewhere + 1),
            Step::AwaitHealth => {
                let voter = self.listed != Listed::Learner;
                observed.answers = Some(if voter { Answer::Voter } else { Answer::Learner });
            }
            Step::Leave | Step::Verify | Step::Done | Step::Refuse(_) => {}
        }
        Ok(())
    }

    /// What a new run sees: only what is on the server and in the cluster.
    fn forget(&mut self) {
        self.observed.founders_started = None;
        self.observed.answers = None;
        self.observed.cluster = None;
        self.observed.leader_moves = 0;
    }
}

/// As a server is in this state of an adoption.
fn adopting(observed: Observed) -> Observed {
    match observed.adoption {
        None => observed,
        Some(Adoption::Runs | Adoption::Stopped | Adoption::NotImported) => Observed {
            token: None,
            permit: None,
            service: Service::Stopped,
            ..observed
        },
        Some(stage) => Observed {
            token: Some("t".to_owned()),
            permit: None,
            data: Data::Member,
            service: if stage == Adoption::Renaming {
                Service::Running
            } else {
                Service::Stopped
            },
            port_taken: None,
            ..observed
        },
    }
}

fn any_world() -> impl Strategy<Value = World> {
    let token = prop_oneof![1 => Just(None), 4 => Just(Some("t".to_owned())), 1 => Just(Some("other".to_owned()))];
    let data = prop_oneof![3 => Just(Data::Empty), 2 => Just(Data::Member), 1 => Just(Data::Other)];
    let service = prop_oneof![Just(Service::Stopped), Just(Service::Running), Just(Service::Failed)];
    let port = prop_oneof![5 => Just(None), 1 => Just(Some((2380, "nginx".to_owned())))];
    let listed = prop_oneof![
        Just(Listed::Not),
        Just(Listed::Unstarted),
        Just(Listed::Voter),
        Just(Listed::Learner)
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let observed = (token.clone(), token, data, service, flags, port).prop_map(
        |(permit, token, data, service, (installed, restart_needed, peers_moved), port_taken)| Observed {
            permit,
            token,
            bare: false,
            data,
            service,
            installed,
            restart_needed: restart_needed && !installed,
            peers_moved,
            port_taken,
            founders_started: None,
            answers: None,
            cluster: None,
            others_wait: false,
            old_entries: false,
            last_minor: None,
            leader_moves: 0,
            adoption: None,
        },
    );
    let adoption = prop_oneof![
        8 => Just(None),
        1 => Just(Some(Adoption::Runs)),
        1 => Just(Some(Adoption::Stopped)),
        1 => Just(Some(Adoption::NotImported)),
        1 => Just(Some(Adoption::Begun)),
        1 => Just(Some(Adoption::Renaming)),
    ];
    (
        observed,
        listed,
        0usize..8,
        0usize..8,
        0usize..5,
        any::<bool>(),
        any::<bool>(),
        adoption,
    )
        .prop_map(
            |(observed, listed, others, healthy, elsewhere, leads, others_wait, adoption)| World {
                leads: leads && listed == Listed::Voter,
                observed: adopting(Observed {
                    others_wait,
                    adoption,
                    ..observed
                }),
                listed,
                others,
                healthy: healthy.min(others),
                started_elsewhere: elsewhere,
                caught_up: false,
                foundings: 0,
            },
        )
}

fn is_end(step: &Step) -> bool {
    matches!(step, Step::Leave | Step::Verify | Step::Done | Step::Refuse(_))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Interrupted after any steps and begun again, it ends, founds once at most, and a second run changes nothing.
    #[test]
    fn it_ends_wherever_it_is_interrupted(
        mut world in any_world(), founder in any::<bool>(), as_founded in any::<bool>(), verify in any::<bool>(), founders in 1usize..6,
        interruptions in prop::collection::vec(1usize..4, 0..6)
    ) {
        let desired = Desired { token: "t".into(), founders, founder, as_founded, verify, minor: 6 };
        let mut interruptions = interruptions.into_iter();
        let mut left = interruptions.next();
        for _ in 0..64 {
            let step = next_step(&world.observed, &desired);
            if is_end(&step) {
                prop_assert!(world.foundings <= 1);
                if !matches!(step, Step::Refuse(_)) {
                    world.forget();
                    for _ in 0..8 {
                        let again = next_step(&world.observed, &desired);
                        if is_end(&again) {
                            prop_assert!(!matches!(again, Step::Refuse(_)));
                            return Ok(());
                        }
                        let looks = matches!(again, Step::CountFounders | Step::AwaitHealth | Step::LookAtCluster);
                        let late = again == Step::Promote;
                        prop_assert!(looks || late || !verify, "a second run changes something: {again:?}");
                        world.perform(&again)?;
                    }
                    prop_assert!(false, "the second run has no end");
                }
                return Ok(());
            }
            world.perform(&step)?;
            if let Some(steps) = left.as_mut() {
                *steps -= 1;
                if *steps == 0 {
                    world.forget();
                    left = interruptions.next();
                }
            }
        }
        prop_assert!(false, "no end: {:?}", world.observed);
    }

    #[test]
    fn foreign_data_is_never_touched(world in any_world(), founder in any::<bool>()) {
        let desired = Desired { token: "t".into(), founders: 3, founder, as_founded: true, verify: true, minor: 6 };
        let observed = Observed { adoption: None, ..world.observed };
        if observed.data == Data::Other || (observed.data == Data::Member && observed.token.as_deref() != Some("t")) {
            prop_assert!(matches!(next_step(&observed, &desired), Step::Refuse(_)));
        }
    }
}
