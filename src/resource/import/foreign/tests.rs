use super::*;

fn status(member_id: u64) -> Status {
    Status {
        member_id,
        cluster_id: 0xc,
        leader: 1,
        raft_term: 2,
        raft_index: 9,
        raft_applied_index: 9,
        version: "3.6.16".into(),
        db_size: Some(0),
        db_size_in_use: Some(0),
        is_learner: false,
        errors: Vec::new(),
    }
}

fn member(id: u64, name: &str) -> Member {
    Member {
        id,
        name: name.into(),
        peer_urls: vec![format!("http://10.0.0.{id}:2380")],
        client_urls: Vec::new(),
        is_learner: false,
    }
}

fn said(statuses: [Status; 2], members: &[Member]) -> String {
    let servers = ["a1".to_owned(), "b1".to_owned()];
    problems(&servers.into_iter().zip(statuses).collect(), members).join(" ")
}

#[test]
fn a_cluster_that_is_well_and_known_whole_is_taken() {
    assert_eq!(said([status(1), status(2)], &[member(1, "x"), member(2, "y")]), "");
}

#[test]
fn what_is_not_well_or_not_given_is_named() {
    let members = [member(1, "x"), member(2, "y"), member(3, "")];
    let unknown = said([status(1), status(2)], &members);
    assert!(
        unknown.contains("a member 3 (never started, http://10.0.0.3:2380) that runs on none"),
        "{unknown}"
    );
    let same = said([status(1), status(1)], &members[..1]);
    assert!(same.contains("Two of these servers are the same member"), "{same}");
    let learner = Status {
        is_learner: true,
        ..status(2)
    };
    assert!(said([status(1), learner], &members[..2]).contains("server b1 is a learner"));
    let alone = Status { leader: 0, ..status(2) };
    assert!(said([status(1), alone], &members[..2]).contains("server b1 knows no leader"));
    let full = Status {
        errors: vec!["NOSPACE".into()],
        ..status(2)
    };
    assert!(said([status(1), full], &members[..2]).contains("server b1 says: NOSPACE"));
    let other = Status {
        cluster_id: 0xd,
        ..status(2)
    };
    assert!(said([status(1), other], &members[..2]).contains("a1 is in c, b1 is in d"));
}

#[test]
fn the_want_of_a_user_is_told_from_the_want_of_a_quorum() {
    assert!(wants_user("etcdserver: user name is empty (InvalidArgument)"));
    assert!(!wants_user("etcdserver: request timed out"));
}
