//! Random members and clusters: it ends wherever it is interrupted, and what is foreign is never touched.

use proptest::prelude::*;

use super::*;

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
    url: PeerUrl,
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
                observed.expired = false;
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
                        prop_assert!(
                            self.url != PeerUrl::Other,
                            "the others reach it before its restart and after"
                        );
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
            Step::Renew => {
                prop_assert!(observed.service == Service::Running && observed.restart_needed);
                observed.expired = false;
            }
            Step::LookAtCluster => {
                prop_assert!(
                    !observed.expired || observed.service != Service::Running || observed.adoption.is_some(),
                    "members that can't be asked are asked"
                );
                observed.cluster = Some(if lives {
                    Cluster::Lives(Lives {
                        own: self.listed,
                        others: self.others,
                        healthy: self.healthy,
                        leads: self.leads,
                        minors: (self.others > 0).then_some((6, 6)),
                        learner: None,
                        given_up: false,
                        peer_url: self.url,
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
            Step::AddUrl => {
                prop_assert!(lives && self.url == PeerUrl::Other);
                self.url = PeerUrl::Both;
                observed.cluster = None;
            }
            Step::SettleUrl => {
                prop_assert!(lives && self.url == PeerUrl::Both);
                prop_assert!(observed.service == Service::Running && !observed.restart_needed);
                self.url = PeerUrl::Wanted;
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
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let observed = (token.clone(), token, data, service, flags, port).prop_map(
        |(permit, token, data, service, (installed, restart_needed, peers_moved, expired), port_taken)| Observed {
            permit,
            token,
            data,
            restored: false,
            service,
            installed,
            restart_needed: restart_needed && !installed,
            expired: expired && restart_needed && !installed,
            peers_moved,
            port_taken,
            ..permitted()
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
        prop_oneof![3 => Just(PeerUrl::Wanted), 1 => Just(PeerUrl::Both), 1 => Just(PeerUrl::Other)],
    )
        .prop_map(
            |(observed, listed, others, healthy, elsewhere, leads, others_wait, adoption, url)| World {
                url,
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
        peer_url_differs in any::<bool>(),
        interruptions in prop::collection::vec(1usize..4, 0..6)
    ) {
        let desired = Desired { token: "t".into(), founders, founder, as_founded, verify, minor: 6, peer_url_differs };
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
                            // This world counts the others alone, and with few of them there is nothing to ask.
                            let unsettled = again == Step::Refuse(Refusal::Unsettled) && !world.lives();
                            prop_assert!(unsettled || !matches!(again, Step::Refuse(_)));
                            return Ok(());
                        }
                        prop_assert!(!peer_url_differs || world.url == PeerUrl::Wanted || !world.lives(), "{:?} is left", world.url);
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

    /// A member with another server's data is neither started nor restarted, leads nobody's change, and is never called well.
    #[test]
    fn a_copy_never_runs_by_our_doing(mut world in any_world(), founder in any::<bool>(), verify in any::<bool>(), peer_url_differs in any::<bool>()) {
        let desired = Desired { token: "t".into(), founders: 3, founder, as_founded: true, verify, minor: 6, peer_url_differs };
        world.observed.data = Data::Member;
        world.observed.permit = None;
        for _ in 0..16 {
            // It is known as soon as the cluster was looked at, or the member was asked.
            world.observed.copied = world.observed.cluster.is_some() || world.observed.answers.is_some();
            let step = next_step(&world.observed, &desired);
            let starts = matches!(step, Step::Install(start) if start != Start::No) || step == Step::Adopt;
            prop_assert!(!starts || world.observed.adoption == Some(Adoption::Begun), "it is started: {step:?}");
            prop_assert!(!matches!(step, Step::MoveLeader | Step::Verify | Step::Promote), "{step:?}");
            if is_end(&step) || starts {
                break;
            }
            world.perform(&step)?;
        }
    }

    #[test]
    fn foreign_data_is_never_touched(world in any_world(), founder in any::<bool>()) {
        let desired = Desired { token: "t".into(), founders: 3, founder, as_founded: true, verify: true, minor: 6, peer_url_differs: false };
        let observed = Observed { adoption: None, ..world.observed };
        if observed.data == Data::Other || (observed.data == Data::Member && observed.token.as_deref() != Some("t")) {
            prop_assert!(matches!(next_step(&observed, &desired), Step::Refuse(_)));
        }
    }
}
