use super::*;
use crate::host::Output;
use crate::plugin::value::from_value;

fn seen(there: &str, runs: Option<&str>) -> Seen {
    let answer = Output::new("", String::new(), 0, "mark-");
    Seen {
        binary: Some("3.6.14".into()),
        binary_sum: Some(there.into()),
        running_sum: runs.map(Into::into),
        ..crate::resource::member::observe::seen(&answer)
    }
}

fn block(version: &str, binary: Value, sum: Option<&str>) -> Value {
    Value::object([
        ("version", version.into()),
        ("binary", binary),
        ("binary_sha256", Value::from(sum)),
    ])
}

fn version() -> Version {
    Version::parse("3.6.14").unwrap()
}

#[test]
fn a_changed_program_is_brought_again_and_what_runs_it_restarted() {
    let left = block("3.6.14", Value::Null, Some("right"));
    let known = Known::new(&left, &left);
    let fine = seen("right", Some("right"));
    assert!(!known.is_to_be_brought(&version(), &fine) && !known.runs_other(&fine));
    // The file was changed under a process, and the process was started from it.
    let only_file = seen("wrong", Some("right"));
    assert!(known.is_to_be_brought(&version(), &only_file) && !known.runs_other(&only_file));
    let both = seen("wrong", Some("wrong"));
    assert!(known.is_to_be_brought(&version(), &both) && known.runs_other(&both));
    known.brought.store(true, Ordering::Relaxed);
    let mended = seen("right", Some("wrong"));
    assert!(!known.is_to_be_brought(&version(), &mended) && known.runs_other(&mended));
    // The next run finds the process as it was, however this one ended.
    assert!(Known::new(&left, &left).runs_other(&mended));
    // What was brought in this run is right, whatever a state says.
    let other = seen("other", Some("other"));
    assert!(!known.is_to_be_brought(&version(), &other) && !known.runs_other(&other));
}

#[test]
fn nothing_is_compared_with_a_sum_of_something_else() {
    let left = block("3.6.14", Value::Null, Some("right"));
    let other = seen("other", Some("other"));
    for (prior, planned) in [
        // A state of an older provider, another version, and the user's own file on the server.
        (block("3.6.14", Value::Null, None), block("3.6.14", Value::Null, None)),
        (block("3.6.13", Value::Null, Some("right")), left.clone()),
        (Value::Null, left.clone()),
    ] {
        let known = Known::new(&prior, &planned);
        assert!(!known.is_to_be_brought(&version(), &other) && !known.runs_other(&other));
    }
    let own = Value::object([("host_path", "/opt/etcd".into())]);
    let own = block("3.6.14", own, Some("right"));
    let known = Known::new(&own, &own);
    assert!(!known.is_to_be_brought(&version(), &other) && !known.runs_other(&other));
    assert!(known.runs_other(&seen("other", Some("right"))), "it is run from there");
    // From elsewhere now: brought once.
    let elsewhere = block("3.6.14", Value::object([("upload", "etcd".into())]), None);
    let known = Known::new(&left, &elsewhere);
    assert!(known.is_to_be_brought(&version(), &other));
}

#[test]
fn an_archive_has_a_sum_before_it_is_fetched() {
    let member = |binary: Value| {
        let block = Value::object([
            ("server", "a1".into()),
            ("version", "3.6.14".into()),
            ("binary", binary),
            (
                "cluster",
                Value::object([("name", "main".into()), ("servers", Value::object([]))]),
            ),
        ]);
        from_value::<MemberModel>(&block).unwrap()
    };
    let carried = carried_sum(&version(), Arch::Amd64).unwrap();
    let own = "b".repeat(64);
    let url = || ("url", Value::from("http://mirror.test/etcd.tar.gz"));
    let of = |binary, version: &str, arch| source(&member(binary), &Version::parse(version).unwrap(), arch);
    assert_eq!(
        of(Value::Null, "3.6.14", Arch::Amd64).unwrap(),
        BinarySource::Official {
            sha256: Some(carried.clone())
        }
    );
    assert_eq!(
        of(Value::Null, "3.99.0", Arch::Amd64).unwrap(),
        BinarySource::Official { sha256: None }
    );
    let given = of(Value::object([("sha256", own.as_str().into())]), "3.6.14", Arch::Amd64).unwrap();
    assert_eq!(
        given,
        BinarySource::Official {
            sha256: Some(Sha256Sum::parse(&own).unwrap())
        }
    );
    let mirror = of(Value::object([url()]), "3.6.14", Arch::Amd64).unwrap();
    assert!(matches!(mirror, BinarySource::Url { sha256, .. } if sha256 == carried));
    let unknown = of(Value::object([url()]), "3.99.0", Arch::Amd64);
    assert!(matches!(unknown, Err(BinaryError::NoSum { .. })));
}
