//! Something that speaks SSH badly, before anybody has logged in.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use terraform_provider_etcd::host::{ConnectOptions, HostKeyPolicy, Target};

use super::{Cost, cost_of, memory_now, what};
use crate::hosts;

const TIME: Duration = Duration::from_secs(5);

/// A packet as SSH has it before keys are exchanged: length, padding, type, and what is in it.
fn packet(kind: u8, size: usize) -> Vec<u8> {
    let padding = 8 - (5 + 1 + size) % 8 + 8;
    let mut packet = u32::try_from(1 + 1 + size + padding)
        .expect("short")
        .to_be_bytes()
        .to_vec();
    packet.push(u8::try_from(padding).expect("short"));
    packet.push(kind);
    packet.resize(packet.len() + size + padding, b'x');
    packet
}

fn listen(what: &str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (first, then) = match what {
        "lines" => (Vec::new(), b"no SSH here\r\n".repeat(1000)),
        "line" => (Vec::new(), vec![b'x'; 65_536]),
        "slow-lines" => (Vec::new(), b"no SSH here\r\n".to_vec()),
        "packets" => (b"SSH-2.0-hostile\r\n".to_vec(), packet(53, 30_000)),
        "small-packets" => (b"SSH-2.0-hostile\r\n".to_vec(), packet(99, 8).repeat(1000)),
        other => panic!("{other}"),
    };
    let pause = what.starts_with("slow");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(&first);
            while stream.write_all(&then).is_ok() {
                if pause {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "cost_of runs it"]
async fn a_login() {
    let policy = HostKeyPolicy::AcceptNew {
        known_hosts: Vec::new(),
        pinned: None,
    };
    let mut target = Target::new("127.0.0.1", "root", policy);
    target.port = listen(&what());
    let before = memory_now();
    let began = Instant::now();
    let options = ConnectOptions {
        timeout: TIME,
        retry: false,
    };
    let error = hosts().connect(&target, options).await.expect_err("no SSH");
    Cost::of(began, before, error.to_string()).tell();
}

#[test]
fn what_comes_before_the_login_is_bounded() {
    for kind in ["lines", "line", "packets", "small-packets"] {
        let cost = cost_of("hostile::handshake::a_login", kind);
        assert!(cost.took < Duration::from_secs(3), "{kind}: {:?}", cost.took);
        assert!(cost.error.contains("root@127.0.0.1"), "{kind}: {}", cost.error);
    }
    let cost = cost_of("hostile::handshake::a_login", "slow-lines");
    assert!(cost.took < TIME + Duration::from_secs(1), "{:?}", cost.took);
}
