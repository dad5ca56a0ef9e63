//! The next step of one member: observe, decide here, perform, and observe again. Killed between any two
//! steps, the next run finds its place by observing.

use std::fmt;

use super::quorum;

/// What the data directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing, or it is not there.
    Empty,
    /// The data of an etcd member.
    Member,
    /// Files that are none of etcd's.
    Other,
}

/// What the service manager says of the member's service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It is not running.
    Stopped,
    /// Its process runs; it may still wait for its peers.
    Running,
    /// It ended with an error.
    Failed,
}

/// What was observed of one member and, as far as it matters, of the other founding members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The token of the founding permit that the server holds.
    pub permit: Option<String>,
    /// The token that is written down on the server.
    pub token: Option<String>,
    /// Its data directory.
    pub data: Data,
    /// Its service.
    pub service: Service,
    /// Whether binary, configuration, certificates and unit are as wanted.
    pub installed: bool,
    /// Whether what is not as wanted needs a restart of a running member.
    pub restart_needed: bool,
    /// Another process that has one of the member's ports.
    pub port_taken: Option<(u16, String)>,
    /// How many founding members have started, this one included; `None` before it was looked at.
    pub founders_started: Option<usize>,
    /// What this member answers; `None` before it was asked.
    pub answers: Option<Answer>,
    /// The cluster as its other members see it; `None` before it was looked at.
    pub cluster: Option<Cluster>,
}

/// What a member says of itself once it answers as one of a cluster with a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It votes.
    Voter,
    /// It receives the log, and does not vote yet.
    Learner,
}

/// The cluster as the other members see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Nobody answers as one of a cluster with a leader.
    NoQuorum,
    /// It has a leader.
    Lives {
        /// How this member stands in the member list.
        own: Listed,
        /// The other voters.
        others: usize,
        /// How many of them are healthy.
        healthy: usize,
    },
}

/// How a member stands in etcd's member list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Not at all.
    Not,
    /// Added, and never started.
    Unstarted,
    /// Started before, as a voter.
    Voter,
    /// Started before, as a learner.
    Learner,
}

/// What the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The cluster's token.
    pub token: String,
    /// How many members found the cluster.
    pub founders: usize,
    /// Whether this member is one of them.
    pub founder: bool,
    /// Whether to see that every directed pair is connected, once it runs.
    pub verify: bool,
}

/// How etcd is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the permit, as a founder.
    Found,
    /// With the joining permit, as a member that was added.
    Join,
    /// With the data that it has.
    Resume,
    /// Not at all: it runs, and what changes needs no restart.
    No,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bring files into place and start etcd so.
    Install(Start),
    /// See whether the cluster lives, and how this member stands in its member list.
    LookAtCluster,
    /// Take the member that lost its data out of the member list.
    RemoveOld,
    /// Add it to the member list, as a learner.
    AddLearner,
    /// Make a voter of it, when it has caught up.
    Promote,
    /// See how many founders have started.
    CountFounders,
    /// Wait until the member answers: enough founders run.
    AwaitHealth,
    /// The process runs, and no quorum can be expected before others are created too.
    Leave,
    /// Everybody runs: verify every directed pair.
    Verify,
    /// It answers; somebody else verifies when the last one has started.
    Done,
    /// Not allowed.
    Refuse(Refusal),
}

/// Why a member is not touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The data directory holds files that are not this member's.
    ForeignData,
    /// The server belongs to a cluster of this name with another token.
    OtherCluster(String),
    /// Another process has the port.
    PortTaken(u16, String),
    /// It has no permit and no data, and there is no cluster that it could join.
    NoCluster,
    /// Its data is lost, and without it too few of the others are healthy to take it out of the cluster.
    Quorum {
        /// The other voters.
        others: usize,
        /// How many of them are healthy.
        healthy: usize,
    },
    /// A change that would restart a member of a running cluster.
    Rolling,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::ForeignData => f.write_str(
                "the data directory is not empty, and what it holds is not this member's. Move it away if it is not \
                 needed, or choose another data_dir",
            ),
            Refusal::OtherCluster(token) => write!(
                f,
                "the server belongs to a cluster of the same name with the token {token:?}. Destroy that one first, \
                 or give this cluster another name"
            ),
            Refusal::PortTaken(port, process) => write!(
                f,
                "port {port} is in use by {process}. Stop it, or choose another port with the server's peer_port or \
                 client_port"
            ),
            Refusal::NoCluster => f.write_str(
                "it has neither a founding permit nor the data of its member, and no other member answers as one of a \
                 cluster with a leader, so there is nothing that it could join. Founding it again could lose data. Start \
                 the other members first; if no member of the cluster has ever held data, `terraform apply` issues the \
                 permits anew",
            ),
            Refusal::Quorum { others, healthy } => write!(
                f,
                "its data is gone, so its old member has to leave the cluster first; {others} voting members would \
                 remain, of which {} have to agree, and only {healthy} of them are healthy now. Bring the others back first",
                quorum(*others)
            ),
            Refusal::Rolling => f.write_str(
                "this change needs a restart of a member of a running cluster, and rolling changes are not part of \
                 this version. Nothing was changed on this server",
            ),
        }
    }
}

/// Decides.
pub fn next_step(observed: &Observed, desired: &Desired) -> Step {
    let ours = observed.token.as_deref() == Some(desired.token.as_str());
    if let (false, Some(other)) = (ours, &observed.token) {
        return Step::Refuse(Refusal::OtherCluster(other.clone()));
    }
    // A permit is consumed before etcd first runs: data beside an unused permit was there before.
    let permitted = observed.permit.as_deref() == Some(desired.token.as_str());
    match observed.data {
        Data::Other => return Step::Refuse(Refusal::ForeignData),
        Data::Member if permitted || !ours => return Step::Refuse(Refusal::ForeignData),
        Data::Member | Data::Empty => {}
    }
    if observed.service == Service::Running && observed.restart_needed {
        return Step::Refuse(Refusal::Rolling);
    }
    if observed.service != Service::Running {
        if let Some((port, process)) = &observed.port_taken {
            return Step::Refuse(Refusal::PortTaken(*port, process.clone()));
        }
        return match observed.data {
            Data::Member => Step::Install(Start::Resume),
            _ if permitted => Step::Install(Start::Found),
            _ => join(observed),
        };
    }
    if !observed.installed {
        return Step::Install(Start::No);
    }
    if !desired.verify {
        return Step::Done;
    }
    // A member that was added has a quorum to ask; one that founds may be the first of many.
    if desired.founder && observed.answers.is_none() {
        match observed.founders_started {
            None => return Step::CountFounders,
            Some(started) if started < quorum(desired.founders) => return Step::Leave,
            Some(_) => {}
        }
    }
    match observed.answers {
        None => Step::AwaitHealth,
        Some(Answer::Learner) => Step::Promote,
        Some(Answer::Voter) => match observed.founders_started {
            Some(started) if started < desired.founders => Step::Done,
            _ => Step::Verify,
        },
    }
}

/// A member without data and without a founding permit joins the cluster, if there is one.
fn join(observed: &Observed) -> Step {
    match observed.cluster {
        None => Step::LookAtCluster,
        Some(Cluster::NoQuorum) => Step::Refuse(Refusal::NoCluster),
        Some(Cluster::Lives { own: Listed::Not, .. }) => Step::AddLearner,
        Some(Cluster::Lives {
            own: Listed::Unstarted, ..
        }) => Step::Install(Start::Join),
        // What has no data any more must not come back under its old ID: it may have voted.
        Some(Cluster::Lives {
            own: Listed::Learner, ..
        }) => Step::RemoveOld,
        Some(Cluster::Lives {
            own: Listed::Voter,
            others,
            healthy,
        }) if healthy < quorum(others) => Step::Refuse(Refusal::Quorum { others, healthy }),
        Some(Cluster::Lives { own: Listed::Voter, .. }) => Step::RemoveOld,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn permitted() -> Observed {
        Observed {
            permit: Some("t".into()),
            token: Some("t".into()),
            data: Data::Empty,
            service: Service::Stopped,
            installed: false,
            restart_needed: false,
            port_taken: None,
            founders_started: None,
            answers: None,
            cluster: None,
        }
    }

    fn desired() -> Desired {
        Desired {
            token: "t".into(),
            founders: 3,
            founder: true,
            verify: true,
        }
    }

    #[test]
    fn a_permit_founds() {
        assert_eq!(next_step(&permitted(), &desired()), Step::Install(Start::Found));
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
            Some(Cluster::Lives {
                own,
                others: 2,
                healthy: 2,
            })
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
        let weak = Some(Cluster::Lives {
            own: Listed::Voter,
            others: 2,
            healthy: 1,
        });
        assert_eq!(looked(weak), Step::Refuse(Refusal::Quorum { others: 2, healthy: 1 }));
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
                        Start::Resume => prop_assert!(observed.data == Data::Member),
                        Start::No => {}
                    }
                    if *start != Start::No {
                        observed.service = Service::Running;
                    }
                    observed.cluster = None;
                }
                Step::LookAtCluster => {
                    observed.cluster = Some(if lives {
                        Cluster::Lives {
                            own: self.listed,
                            others: self.others,
                            healthy: self.healthy,
                        }
                    } else {
                        Cluster::NoQuorum
                    });
                }
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
        let observed = (token.clone(), token, data, service, any::<bool>(), any::<bool>(), port).prop_map(
            |(permit, token, data, service, installed, restart_needed, port_taken)| Observed {
                permit,
                token,
                data,
                service,
                installed,
                restart_needed: restart_needed && !installed,
                port_taken,
                founders_started: None,
                answers: None,
                cluster: None,
            },
        );
        (observed, listed, 0usize..8, 0usize..8, 0usize..5).prop_map(
            |(observed, listed, others, healthy, elsewhere)| World {
                observed,
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
            mut world in any_world(), founder in any::<bool>(), verify in any::<bool>(), founders in 1usize..6,
            interruptions in prop::collection::vec(1usize..4, 0..6)
        ) {
            let desired = Desired { token: "t".into(), founders, founder, verify };
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
            let desired = Desired { token: "t".into(), founders: 3, founder, verify: true };
            let observed = world.observed;
            if observed.data == Data::Other || (observed.data == Data::Member && observed.token.as_deref() != Some("t")) {
                prop_assert!(matches!(next_step(&observed, &desired), Step::Refuse(_)));
            }
        }
    }
}
