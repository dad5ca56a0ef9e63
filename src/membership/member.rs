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
    /// Whether this member answers, as one of a cluster with a leader; `None` before it was looked at.
    pub answers: Option<bool>,
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
}

/// How etcd is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the permit, as a founder.
    Found,
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
    /// The cluster was founded without this server.
    Joining,
    /// A founder whose permit is gone and whose data is not there.
    Rejoining,
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
            Refusal::Joining => f.write_str(
                "the cluster was founded without this server, and adding members to a running cluster is not part of \
                 this version. Nothing was changed",
            ),
            Refusal::Rejoining => f.write_str(
                "this server has neither a founding permit nor the data of its member, so its member can't be founded \
                 again (a second founding could lose data), and replacing a member is not part of this version. If no \
                 member of the cluster has ever held data, `terraform apply` issues the permits anew",
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
            _ if desired.founder => Step::Refuse(Refusal::Rejoining),
            _ => Step::Refuse(Refusal::Joining),
        };
    }
    if !observed.installed {
        return Step::Install(Start::No);
    }
    match (observed.founders_started, observed.answers) {
        (None, _) => Step::CountFounders,
        (Some(started), _) if started < quorum(desired.founders) => Step::Leave,
        (Some(_), None | Some(false)) => Step::AwaitHealth,
        (Some(started), Some(true)) if started >= desired.founders => Step::Verify,
        (Some(_), Some(true)) => Step::Done,
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
        }
    }

    fn desired() -> Desired {
        Desired {
            token: "t".into(),
            founders: 3,
            founder: true,
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
            answers: Some(true),
            ..observed
        };
        assert_eq!(next_step(&third, &desired()), Step::Verify);
    }

    /// What performing a step does to a member, in a world where nothing fails.
    fn perform(observed: &mut Observed, step: &Step, started_elsewhere: usize) {
        match step {
            Step::Install(start) => {
                observed.installed = true;
                if *start == Start::Found {
                    observed.permit = None;
                    observed.data = Data::Member;
                }
                if *start != Start::No {
                    observed.service = Service::Running;
                }
            }
            Step::CountFounders => observed.founders_started = Some(started_elsewhere + 1),
            Step::AwaitHealth => observed.answers = Some(true),
            Step::Leave | Step::Verify | Step::Done | Step::Refuse(_) => {}
        }
    }

    fn any_observed() -> impl Strategy<Value = Observed> {
        let token = prop_oneof![Just(None), Just(Some("t".to_owned())), Just(Some("other".to_owned()))];
        let data = prop_oneof![Just(Data::Empty), Just(Data::Member), Just(Data::Other)];
        let service = prop_oneof![Just(Service::Stopped), Just(Service::Running), Just(Service::Failed)];
        let port = prop_oneof![3 => Just(None), 1 => Just(Some((2380, "nginx".to_owned())))];
        (token.clone(), token, data, service, any::<bool>(), any::<bool>(), port).prop_map(
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
            },
        )
    }

    proptest! {
        #[test]
        fn it_ends_and_founds_at_most_once(
            mut observed in any_observed(), founder in any::<bool>(), elsewhere in 0usize..5, founders in 1usize..6
        ) {
            let desired = Desired { token: "t".into(), founders, founder };
            let mut founded = 0;
            for _ in 0..8 {
                let step = next_step(&observed, &desired);
                if step == Step::Install(Start::Found) {
                    prop_assert!(observed.permit.as_deref() == Some("t") && observed.data == Data::Empty);
                    founded += 1;
                }
                if matches!(step, Step::Leave | Step::Verify | Step::Done | Step::Refuse(_)) {
                    prop_assert!(founded <= 1);
                    prop_assert_eq!(next_step(&observed, &desired), step, "a second look decides the same");
                    return Ok(());
                }
                perform(&mut observed, &step, elsewhere.min(founders - 1));
            }
            prop_assert!(false, "no end: {observed:?}");
        }

        #[test]
        fn foreign_data_is_never_touched(observed in any_observed(), founder in any::<bool>()) {
            let desired = Desired { token: "t".into(), founders: 3, founder };
            if observed.data == Data::Other || (observed.data == Data::Member && observed.token.as_deref() != Some("t")) {
                prop_assert!(matches!(next_step(&observed, &desired), Step::Refuse(_)));
            }
        }
    }
}
