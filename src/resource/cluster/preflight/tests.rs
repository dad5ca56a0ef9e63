use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use super::*;
use crate::host::{ANSWERS, PRIVILEGE};
use crate::membership::preflight::Bulk;
use crate::topology::Dialled;

fn lines(text: &str, to: &str) -> Option<Outcome> {
    probed(text.lines(), to, "x86_64")
}

#[test]
fn a_whole_probe_is_read() {
    let text = "open 25.812\nhello b1 0B00000A:094C 157100CB:A000\nback 28672 28672\nout 28672 28672\n\
        kernel ESTAB 0 0 10.0.0.11:40960 203.0.113.21:2380 cubic rto:230 rtt:26.1/2 minrtt:25.1 retrans:0/3 segs_out:40 data_segs_out:30";
    let Some(Outcome::Open(trip)) = lines(text, "b1") else {
        panic!("{:?}", lines(text, "b1"));
    };
    let whole = Some(Bulk {
        sent: 28672,
        arrived: 28672,
    });
    assert_eq!((trip.out, trip.back), (whole, whole));
    assert_eq!(trip.round_trip_ms, Some(25.1));
    assert_eq!(trip.source, Some("203.0.113.21".parse().unwrap()));
    assert_eq!(trip.packets, Some((30, 3)));
}

#[test]
fn what_goes_wrong_is_told_apart() {
    let closed = |text| match lines(text, "b1") {
        Some(Outcome::Closed(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(closed("code 124 "), "no answer within 5 s");
    assert_eq!(closed("code 1 Connection refused"), "connection refused");
    assert!(matches!(lines("open 1.0\nstranger", "b1"), Some(Outcome::Stranger)));
    assert!(matches!(lines("open 1.0\nhello c1 x y", "b1"), Some(Outcome::Other(name)) if name == "c1"));
    let Some(Outcome::Open(trip)) = lines("open 1.0\nhello b1 x y\nback 0 65536", "b1") else {
        panic!("not open");
    };
    assert_eq!(
        (trip.back, trip.out),
        (
            Some(Bulk {
                sent: 65536,
                arrived: 0
            }),
            None
        )
    );
    assert!(lines("", "b1").is_none());
}

#[test]
fn disks_are_measured_in_every_shell_and_nothing_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("not/there/yet");
    // Another user's: root measures none of its own below /tmp, where everybody can write.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).expect("root may");
    }
    for shell in [vec!["sh"], vec!["bash", "--posix"], vec!["busybox", "sh"]] {
        if Command::new(shell[0]).arg("--help").output().is_err() {
            continue;
        }
        let text = format!(
            "LC_ALL=C; disk_of='{}'\n{ANSWERS}{PRIVILEGE}{}measure_disk",
            data.display(),
            include_str!("disk.sh")
        );
        let ran = Command::new(shell[0])
            .args(&shell[1..])
            .arg("-euc")
            .arg(text)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let place = format!("disk={}\n", folder.path().display());
        assert!(
            ran.status.success() && said.starts_with(&place),
            "{shell:?}: {said} {ran:?}"
        );
        assert!(said.contains("disk_free_kib="), "{shell:?}: {said}");
        let writes = said
            .lines()
            .filter_map(|line| line.strip_prefix("write[]=")?.split_once(' '))
            .map(|(seconds, count)| {
                assert!(seconds.parse::<f64>().is_ok(), "{said}");
                count.parse::<u32>().expect("a count")
            });
        assert!(writes.sum::<u32>() >= 5, "{shell:?}: {said}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
    }
}

#[test]
fn the_error_is_a_table_and_words() {
    let refusals = [
        Refusal::Pair {
            from: "a1".to_owned(),
            to: "b1".to_owned(),
            address: "203.0.113.21:2380".parse().unwrap(),
            what: "no answer within 5 s".to_owned(),
            remedy: "TCP from a1 (203.0.113.11) to b1 port 2380".to_owned(),
        },
        Refusal::Clock("c1".to_owned(), 20_000),
    ];
    insta::assert_snapshot!(explain(&refusals));
}

/// Answers one connection as a server does, or as a stranger; the port.
fn answered_by(text: impl Fn(u16) -> String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let text = text(port);
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a connection");
        let output: OwnedFd = socket.try_clone().expect("a copy").into();
        let mut answer = Command::new("sh");
        answer
            .arg("-c")
            .arg(text)
            .stdin(OwnedFd::from(socket))
            .stdout(Stdio::from(output));
        answer.status().expect("the shell runs");
    });
    port
}

#[test]
fn probes_and_answers_understand_each_other() {
    let answer = |name: &'static str| {
        move |port: u16| {
            format!(
                "PREFLIGHT_NONCE=n1 name={name} port={port}\n{}",
                include_str!("answer.sh")
            )
        }
    };
    let without_ss = move |port: u16| answer("g1")(port).replace("command -v ss ", "command -v no-ss ");
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let ports = [
        ("b1", answered_by(answer("b1"))),
        ("c1", answered_by(answer("d1"))),
        (
            "e1",
            answered_by(|_| "echo HTTP/1.1 400 Bad Request; sleep 1".to_owned()),
        ),
        ("f1", closed),
        ("g1", answered_by(without_ss)),
    ];
    let targets: Vec<String> = ports
        .iter()
        .map(|(name, port)| format!("{name} 127.0.0.1 {port}"))
        .collect();
    let text = format!(
        "LC_ALL=C; probes='{}' seconds=5 nonce=n1\n{ANSWERS}{}\nwait",
        targets.join(" "),
        include_str!("probe.sh")
    );
    let ran = Command::new("sh")
        .arg("-euc")
        .arg(text)
        .output()
        .expect("the shell runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let outcome = |to: &str| {
        let prefix = format!("probe[]={to} ");
        lines(
            &said
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix))
                .collect::<Vec<_>>()
                .join("\n"),
            to,
        )
    };
    for to in ["b1", "g1"] {
        let Some(Outcome::Open(trip)) = outcome(to) else {
            panic!("{said}");
        };
        // How large it is depends on how long the handshake took.
        let whole = |bulk: Option<Bulk>| bulk.is_some_and(|bulk| bulk.sent > 0 && bulk.sent == bulk.arrived);
        assert!(whole(trip.out) && whole(trip.back), "{said}");
        assert_eq!(trip.source, Some("127.0.0.1".parse().unwrap()), "{said}");
    }
    assert!(
        matches!(outcome("c1"), Some(Outcome::Other(name)) if name == "d1"),
        "{said}"
    );
    assert!(matches!(outcome("e1"), Some(Outcome::Stranger)), "{said}");
    assert!(
        matches!(outcome("f1"), Some(Outcome::Closed(why)) if why == "connection refused"),
        "{said}"
    );
}

#[test]
fn a_member_that_is_being_restarted_is_no_closed_port() {
    assert!(matches!(only_dialled(&Dialled::Refused, false), Outcome::Untried(_)));
    assert!(matches!(only_dialled(&Dialled::Refused, true), Outcome::Closed(_)));
    assert!(matches!(only_dialled(&Dialled::Silent(5), false), Outcome::Closed(_)));
}
