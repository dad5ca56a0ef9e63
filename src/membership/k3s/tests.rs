//! What is decided about k3s servers.

use proptest::prelude::*;

use super::*;

fn holding(data: Data, permit: bool, runs: bool) -> Seen {
    Seen::Reached(Holding {
        id: Some("id".to_owned()),
        permit,
        data,
        runs,
        ..Holding::default()
    })
}

fn servers(all: &[(&str, Seen)]) -> BTreeMap<String, Seen> {
    { all.iter() }
        .map(|(name, seen)| ((*name).to_owned(), seen.clone()))
        .collect()
}

#[test]
fn the_permit_goes_to_whoever_comes_first() {
    let all = servers(&[
        ("a", holding(Data::Empty, true, false)),
        ("b", holding(Data::Empty, false, false)),
    ]);
    assert_eq!(start("id", "a", &all), Start::Found);
    assert_eq!(start("id", "b", &all), Start::TakePermit("a".to_owned()));
    let started = servers(&[
        ("a", holding(Data::Empty, false, true)),
        ("b", holding(Data::Empty, false, false)),
    ]);
    assert_eq!(start("id", "b", &started), Start::Await("a".to_owned()));
    assert!(!is_stranded(&started));
    let founded = servers(&[
        ("a", holding(Data::Etcd, false, true)),
        ("b", holding(Data::Empty, true, false)),
        ("c", Seen::Unreached("off".to_owned())),
    ]);
    assert_eq!(
        start("id", "b", &founded),
        Start::Join(vec!["a".to_owned()]),
        "a permit is void then"
    );
    assert_eq!(start("id", "a", &founded), Start::Resume);
}

#[test]
fn what_is_somebody_elses_is_in_the_way() {
    let mut other = Holding {
        id: Some("x".to_owned()),
        ..Holding::default()
    };
    assert_eq!(misfit("id", &other), Some(Refusal::OtherCluster("x".to_owned())));
    other.id = None;
    other.data = Data::Etcd;
    assert_eq!(misfit("id", &other), Some(Refusal::Data));
    other.data = Data::Other("/x/state.db".to_owned());
    assert_eq!(misfit("id", &other), Some(Refusal::OtherData("/x/state.db".to_owned())));
    let refused = found(
        "id",
        &servers(&[("a", Seen::Reached(other)), ("b", Seen::Unreached("off".to_owned()))]),
    );
    assert_eq!(refused.unwrap_err().len(), 2);
}

#[test]
fn joining_and_restarting_keep_the_quorum() {
    let others = |voters, healthy| Others {
        voters,
        healthy,
        learner: None,
    };
    assert_eq!(join(Listed::Not, others(1, 1)), Join::Start);
    assert_eq!(join(Listed::Started { voter: true }, others(2, 2)), Join::RemoveOld);
    assert!(matches!(
        join(Listed::Started { voter: true }, others(2, 1)),
        Join::Refuse(_)
    ));
    assert!(matches!(join(Listed::Not, others(3, 2)), Join::Refuse(_)));
    let learner = Others {
        learner: Some(true),
        ..others(2, 2)
    };
    assert_eq!(join(Listed::Not, learner), Join::PromoteOther);
    assert_eq!(restart(others(2, 2), false, true, false), Restart::Now);
    assert_eq!(restart(others(2, 2), true, true, false), Restart::LetOthersFirst);
    assert_eq!(restart(others(2, 2), true, false, false), Restart::MoveLeader);
    assert!(matches!(restart(others(2, 1), false, false, false), Restart::Refuse(_)));
    assert_eq!(restart(others(0, 0), true, false, false), Restart::Now);
}

#[test]
fn a_member_that_was_removed_joins_again_and_founds_nothing() {
    let removed = || holding(Data::Removed, false, false);
    let with = |others: &[(&str, Seen)]| {
        let mut all = servers(others);
        all.insert("a".to_owned(), removed());
        all
    };
    let live = holding(Data::Etcd, false, true);
    assert_eq!(start("id", "a", &with(&[("b", live.clone())])), Start::SetAside);
    // Nobody joins through it, and it is no reason to found.
    let empty = with(&[("b", holding(Data::Empty, true, false))]);
    for name in ["a", "b"] {
        assert_eq!(
            start("id", name, &empty),
            Start::Refuse("a".to_owned(), Refusal::Removed)
        );
    }
    assert!(found("id", &empty).is_err() && !is_stranded(&empty) && is_founded(&empty));
    let off = with(&[("b", Seen::Unreached("off".to_owned()))]);
    assert!(matches!(
        start("id", "a", &off),
        Start::Refuse(_, Refusal::Unreached(_))
    ));
}

#[test]
fn data_is_set_aside_where_a_quorum_does_not_have_its_member() {
    assert_eq!(resume(Some(Listed::Not), false), Resume::SetAside);
    assert!(matches!(resume(Some(Listed::Not), true), Resume::Refuse(_)));
    for listed in [None, Some(Listed::Unstarted), Some(Listed::Started { voter: true })] {
        assert_eq!(resume(listed, false), Resume::GoOn);
    }
}

fn any_seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        1 => Just(Seen::Unreached("off".to_owned())),
        6 => (any::<bool>(), 0u8..4, any::<bool>(), any::<bool>()).prop_map(|(ours, data, permit, runs)| {
            Seen::Reached(Holding {
                id: ours.then(|| "id".to_owned()),
                permit: permit && ours,
                data: match data {
                    0 | 1 => Data::Empty,
                    2 => Data::Removed,
                    _ => Data::Etcd,
                },
                runs,
                ..Holding::default()
            })
        }),
    ]
}

proptest! {
    /// Nobody founds where anybody holds data or could not be asked.
    #[test]
    fn nothing_is_founded_twice(seen in prop::collection::vec(any_seen(), 1..5), who in 0usize..5) {
        let all: BTreeMap<String, Seen> =
            seen.iter().enumerate().map(|(number, seen)| (format!("s{number}"), seen.clone())).collect();
        let empty = |seen: &Seen| matches!(seen, Seen::Reached(holding) if holding.data == Data::Empty);
        if found("id", &all).is_ok() {
            prop_assert!(seen.iter().all(empty));
        }
        match start("id", &format!("s{who}"), &all) {
            Start::Found | Start::TakePermit(_) => {
                prop_assert!(seen.iter().all(empty));
            }
            Start::Join(through) => prop_assert!(through.iter().all(|other| !empty(&all[other]))),
            _ => {}
        }
        if is_stranded(&all) {
            prop_assert!(seen.iter().all(empty) && !is_founded(&all));
        }
    }
}
