use super::*;

const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

fn key_of(algorithm: &str, rest: &[u8]) -> HostKey {
    let mut blob = u32::try_from(algorithm.len()).expect("short").to_be_bytes().to_vec();
    blob.extend(algorithm.as_bytes());
    blob.extend(rest);
    HostKey::from_blob(&blob).expect("well-formed")
}

fn known(text: &str, host: &str, port: u16) -> Known {
    Known::from_entries(parse(text, Path::new("known_hosts")), host, port).expect("every revocation can be read")
}

fn unknown() -> Verdict {
    Verdict::Unknown { unused: Vec::new() }
}

#[test]
fn fingerprint_as_openssh_prints_it() {
    // GitHub's published key and fingerprint.
    assert_eq!(
        HostKey::from_line(ED).expect("a key").fingerprint(),
        "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
    );
}

#[test]
fn lines_that_lie_are_refused() {
    assert!(
        HostKey::from_line("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl").is_none()
    );
    assert!(HostKey::from_line("ssh-ed25519").is_none());
    assert!(HostKey::from_line("ssh-ed25519 !!!").is_none());
    assert!(HostKey::from_blob(&[0xff; 8]).is_none());
}

#[test]
fn plain_ports_patterns_and_negation() {
    let key = HostKey::from_line(ED).expect("a key");
    let text =
        format!("# comment\nhost1,10.0.0.1 {ED} me@there\n[host2]:2222 {ED}\n*.example.org,!bad.example.org {ED}\n");
    for (host, port, verdict) in [
        ("host1", 22, Verdict::Right),
        ("HOST1", 22, Verdict::Right),
        ("10.0.0.1", 22, Verdict::Right),
        ("host1", 2222, unknown()),
        ("host2", 2222, Verdict::Right),
        ("host2", 22, unknown()),
        ("a.example.org", 22, Verdict::Right),
        ("bad.example.org", 22, unknown()),
    ] {
        assert_eq!(known(&text, host, port).judge(&key), verdict, "{host}:{port}");
    }
}

#[test]
fn hashed_names() {
    // Made by `ssh-keygen -H` from "[127.0.0.1]:2222".
    let salt = STANDARD.encode(b"0123456789abcdefghij");
    let mac = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"0123456789abcdefghij"),
        b"[127.0.0.1]:2222",
    );
    let text = format!("|1|{salt}|{} {ED}", STANDARD.encode(mac.as_ref()));
    let key = HostKey::from_line(ED).expect("a key");
    assert_eq!(known(&text, "127.0.0.1", 2222).judge(&key), Verdict::Right);
    assert_eq!(known(&text, "127.0.0.1", 22).judge(&key), unknown());
}

#[test]
fn another_key() {
    let seen = key_of("ssh-ed25519", b"other");
    let Verdict::Changed { expected, known_from } = known(&format!("h {ED}"), "h", 22).judge(&seen) else {
        panic!("must be changed")
    };
    assert_eq!(expected, ["SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"]);
    assert_eq!(known_from, "known_hosts:1");
}

#[test]
fn revoked_keys() {
    let key = HostKey::from_line(ED).expect("a key");
    let verdict = |names: &str, host: &str, port| {
        let known = known(&format!("# the old key\n@revoked {names} {ED}"), host, port);
        // Whatever else makes it right.
        let judged = [known.judge(&key), known.pinned(key.clone(), "test").judge(&key)];
        let revoked =
            |verdict: &Verdict| matches!(verdict, Verdict::Revoked { known_from } if known_from == "known_hosts:2");
        assert!(
            judged.iter().all(revoked) || !judged.iter().any(revoked),
            "{names}: {judged:?}"
        );
        revoked(&judged[0])
    };
    for (names, host, port, expected) in [
        ("*", "h", 22, true),
        ("h", "h", 22, true),
        ("H", "h", 22, true),
        ("h,other", "h", 2222, true),
        ("[h]:2222", "h", 2222, true),
        ("[h]:2222", "h", 22, false),
        ("[h]:2200", "h", 2222, false),
        ("*,!h", "h", 22, false),
        ("*,!h", "other", 22, true),
        // Only the name without the port is taken out.
        ("*,!h", "h", 2222, true),
        ("*,!h,![h]:2222", "h", 2222, false),
        ("!h", "other", 22, false),
        ("other", "h", 22, false),
        ("|1|nonsense", "h", 22, true),
    ] {
        assert_eq!(verdict(names, host, port), expected, "{names} for {host}:{port}");
    }
}

#[test]
fn a_revocation_that_cannot_be_read_is_an_error() {
    for line in [
        "@revoked * ssh-ed25519 AAAA",
        "@revoked * ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        &format!("@revoked {ED}"),
        "@revoked h",
        "@revoked",
        &format!("@Revoked h {ED}"),
        &format!("@revokedh {ED}"),
    ] {
        let text = format!("h {ED}\n{line}\n");
        let error = Known::from_entries(parse(&text, Path::new("known_hosts")), "another", 22).expect_err(line);
        assert!(error.to_string().starts_with("known_hosts:2 may revoke"), "{error}");
    }
}

#[test]
fn lines_that_cannot_be_used_are_told_if_no_key_is_known() {
    let key = HostKey::from_line(ED).expect("a key");
    let lines = format!("@cert-authority * {ED}\nh nonsense\n|2|x|y {ED}\nother nonsense\n@cert-authority *.org x\nh");
    let Verdict::Unknown { unused } = known(&lines, "h", 22).judge(&key) else {
        panic!("none of them makes it right")
    };
    let places: Vec<&str> = unused.iter().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(
        places,
        ["known_hosts:1", "known_hosts:2", "known_hosts:3", "known_hosts:6"]
    );
    assert_eq!(known(&format!("{lines}\nh {ED}"), "h", 22).judge(&key), Verdict::Right);
    assert_eq!(
        known(&lines, "h", 22).pinned(key.clone(), "test").judge(&key),
        Verdict::Right
    );
}

#[test]
fn a_home_that_is_no_folder_has_no_known_hosts() {
    let paths = [PathBuf::from("/dev/null/.ssh/known_hosts"), PathBuf::from("/not/there")];
    assert_eq!(read(&paths).expect("none is there").len(), 0);
    assert!(read(&[PathBuf::from("/")]).is_err(), "a folder can't be read");
}

proptest::proptest! {
    #[test]
    fn any_line_is_survived(line in "\\PC{0,80}", marker in proptest::sample::select(vec!["", "@revoked ", "@cert-authority ", "|1|"])) {
        let key = HostKey::from_line(ED).expect("a key");
        let entries = parse(&format!("{marker}{line}"), Path::new("known_hosts"));
        if let Ok(known) = Known::from_entries(entries, "h", 22) {
            let _ = known.judge(&key);
        }
    }
}

#[test]
fn wildcards() {
    assert!(matches("*", "anything") && matches("a*c", "abbc") && matches("a?c", "abc") && matches("a*b*c", "a1b2b3c"));
    assert!(!matches("a*c", "abd") && !matches("a?c", "ac") && !matches("", "a"));
}
