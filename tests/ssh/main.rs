//! The road to a machine, against a real SSH server on loopback. Needs root, `openssh-server` and `sudo`.

mod bastions;
mod entering;
mod etcd_api;
mod hostile;
mod methods;
mod sshd;
mod trust;

use std::path::Path;
use std::time::{Duration, Instant};

use sshd::{Sshd, free_port};
use terraform_provider_etcd::host::{
    ConnectError, ConnectOptions, FileSpec, Host, Hosts, RunError, Script, Target, TunnelError, Upload, UploadError,
    UploadOutcome,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

fn hosts() -> Hosts {
    Hosts::new(CancellationToken::new())
}

async fn connect(target: &Target) -> Result<Host, ConnectError> {
    hosts()
        .connect(
            target,
            ConnectOptions {
                timeout: Duration::from_secs(15),
                retry: false,
            },
        )
        .await
}

async fn says(host: &Host, line: &str) -> String {
    host.run_checked(&Script::new("test").line(line))
        .await
        .expect("it runs")
        .stdout
        .trim()
        .to_owned()
}

async fn says_owned(host: Host, line: String) -> String {
    says(&host, &line).await
}

#[tokio::test]
async fn scripts_run_in_order_and_failures_are_told() {
    let server = Sshd::start("");
    let host = connect(&server.target()).await.expect("connected");
    assert_eq!(host.host_key().line(), server.host_key_line("ed25519"));
    assert_eq!(host.host_key().fingerprint(), server.fingerprint("ed25519"));
    assert_eq!(says(&host, "echo one; id -u; pwd; umask").await, "one\n0\n/\n0077");
    assert_eq!(says(&host, "a=left; echo $a").await, "left");
    assert_eq!(says(&host, "echo ${a:-gone}; cat").await, "gone");
    let output = host
        .run(&Script::new("failing").line("echo out; echo err >&2; exit 7"))
        .await
        .expect("it runs");
    assert_eq!(
        (output.exit_code, output.stdout.as_str(), output.stderr.as_str()),
        (7, "out\n", "err\n")
    );
    let error = host
        .run_checked(&Script::new("failing").line("echo no such thing >&2; false; echo not here"))
        .await
        .expect_err("it fails");
    assert!(
        error
            .to_string()
            .contains("\"failing\" failed with exit code 1:\n  no such thing"),
        "{error}"
    );
    // Much on both streams at once, and a large script.
    let big = "x".repeat(300_000);
    let script = Script::new("big")
        .set("big", &big)
        .line("seq 100000; seq 100000 >&2; echo ${#big}");
    let output = host.run_checked(&script).await.expect("it runs");
    assert!(output.stdout.ends_with("100000\n300000\n") && output.stderr.len() > 500_000);
    let at_once =
        futures::future::join_all((0..20).map(|number| says_owned(host.clone(), format!("echo {number}")))).await;
    assert_eq!(at_once, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_is_seen_in_the_process_list() {
    let server = Sshd::start("");
    let host = connect(&server.target()).await.expect("connected");
    let seen = Script::new("looking")
        .set("password", "hunter2hunter2")
        .line("cat /proc/*/cmdline /proc/*/environ 2>/dev/null | tr '\\0' ' ' | grep -c '[h]unter2' || :");
    assert_eq!(host.run_checked(&seen).await.expect("it runs").stdout.trim(), "0");
}

fn upload_of(server: &Sshd, name: &str, bytes: &[u8]) -> Upload {
    use sha2::Digest as _;
    let sha256 = format!("{:x}", sha2::Sha256::digest(bytes));
    Upload {
        from: server.path(name),
        to: format!("/tmp/etcd-test-{}-{}", std::process::id(), server.port),
        mode: 0o755,
        sha256,
        look_first: true,
    }
}

#[tokio::test]
async fn uploads() {
    let server = Sshd::start("");
    let host = connect(&server.target()).await.expect("connected");
    let bytes: Vec<u8> = (0..30_000_000u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(server.path("big"), &bytes).expect("written");
    let upload = upload_of(&server, "big", &bytes);
    let started = Instant::now();
    let script = Script::new("meanwhile").line("echo hello");
    let (sent, said) = tokio::join!(host.upload(&upload), host.run_checked(&script));
    eprintln!("30 MB in {:?}", started.elapsed());
    assert_eq!(sent.expect("sent"), UploadOutcome::Sent { bytes: 30_000_000 });
    assert_eq!(said.expect("it runs").stdout, "hello\n");
    assert!(std::fs::read(&upload.to).expect("there") == bytes);
    assert_eq!(host.upload(&upload).await.expect("seen"), UploadOutcome::AlreadyThere);
    let wrong = Upload {
        sha256: "00".repeat(32),
        ..upload.clone()
    };
    let error = host.upload(&wrong).await.expect_err("other bytes");
    assert!(
        matches!(&error, UploadError::Checksum { seen, .. } if *seen == upload.sha256),
        "{error}"
    );
    assert!(std::fs::read(&upload.to).expect("still there") == bytes);
    let nowhere = Upload {
        to: "/nowhere/at/all".to_owned(),
        look_first: false,
        ..upload.clone()
    };
    let error = host.upload(&nowhere).await.expect_err("no such directory").to_string();
    assert!(
        error.contains("/nowhere/at/all") && error.contains("exit code"),
        "{error}"
    );
    std::fs::remove_file(&upload.to).expect("there");
}

#[tokio::test]
async fn tunnels_and_scripts_at_once() {
    // Keys are exchanged anew every few megabytes.
    let server = Sshd::start("RekeyLimit 8M");
    let host = connect(&server.target()).await.expect("connected");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let echo = async |size: usize, seed: u8| {
        let (mut from, mut to) = host.tcp("127.0.0.1", port).await.expect("a tunnel").into_split();
        let bytes: Vec<u8> = (0..size)
            .map(|number| (number as u8).wrapping_mul(31).wrapping_add(seed))
            .collect();
        let sent = bytes.clone();
        let writing = tokio::spawn(async move {
            to.write_all(&sent).await.expect("written");
            to.shutdown().await.expect("shut down");
        });
        let mut back = Vec::new();
        from.read_to_end(&mut back).await.expect("read");
        writing.await.expect("written");
        assert!(back == bytes, "{} of {size} bytes came back", back.len());
    };
    let scripts = async {
        for number in 0..20 {
            assert_eq!(says(&host, &format!("echo {number}")).await, number.to_string());
        }
    };
    let started = Instant::now();
    tokio::join!(echo(20_000_000, 1), echo(20_000_000, 2), echo(3, 3), scripts);
    eprintln!("2 × 20 MB there and back in {:?}", started.elapsed());
    let error = host.tcp("127.0.0.1", free_port()).await.expect_err("nobody listens");
    assert!(matches!(error, TunnelError::Refused { .. }), "{error}");
    assert_eq!(says(&host, "echo alive").await, "alive");
}

#[tokio::test]
async fn over_bastions() {
    let server = Sshd::start("");
    let other = Sshd::start("");
    let bastion = other.target();
    let middle = Target {
        bastion: Some(Box::new(bastion.clone())),
        ..server.target()
    };
    let far = Target {
        bastion: Some(Box::new(middle.clone())),
        ..other.target()
    };
    let pool = hosts();
    let host = pool
        .connect(&far, ConnectOptions::default())
        .await
        .expect("connected over two");
    assert_eq!(says(&host, "echo far").await, "far");
    assert_eq!(
        host.facts().await.expect("facts").kernel,
        std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .expect("Linux")
            .trim()
    );
    let dead = Target {
        port: free_port(),
        ..middle.clone()
    };
    let error = connect(&dead).await.expect_err("nobody listens");
    assert!(matches!(error, ConnectError::BastionRefused { .. }), "{error}");
    let wrong = Target {
        host_keys: server.pinned(),
        ..bastion
    };
    let error = connect(&Target {
        bastion: Some(Box::new(wrong)),
        ..middle
    })
    .await
    .expect_err("wrong key");
    assert!(
        matches!(&error, ConnectError::Bastion { source, .. } if matches!(**source, ConnectError::HostKeyChanged { .. })),
        "{error}"
    );
}

/// Waits until a script has made the file; how long that takes is no verdict.
async fn is_there(file: &Path) {
    let begun = Instant::now();
    while !file.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "there is no {}",
            file.display()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_cut_connection() {
    let server = Sshd::start("");
    let host = connect(&server.target()).await.expect("connected");
    assert_eq!(says(&host, "echo before").await, "before");
    let (begun, mark) = (server.path("begun"), server.path("mark"));
    let script = Script::new("slow")
        .set("begun", begun.display().to_string())
        .set("mark", mark.display().to_string())
        .line("touch \"$begun\"; echo started; sleep 3; echo goes on; seq 100000; touch \"$mark\"");
    let cutting = async {
        is_there(&begun).await;
        server.cut_connections();
    };
    let (result, ()) = tokio::join!(host.run(&script), cutting);
    assert!(
        matches!(&result, Err(RunError::ConnectionLost { sent: true, .. })),
        "{result:?}"
    );
    assert!(!mark.exists());
    // The next call makes a new connection; the script ran to its end.
    assert_eq!(says(&host, "echo after").await, "after");
    is_there(&mark).await;
}

#[tokio::test]
async fn time_outs_and_stopping() {
    let server = Sshd::start("");
    let cancelled = CancellationToken::new();
    let pool = Hosts::new(cancelled.clone());
    let host = pool
        .connect(&server.target(), ConnectOptions::default())
        .await
        .expect("connected");
    let error = host
        .run(&Script::new("slow").timeout(Duration::from_millis(300)).line("sleep 2"))
        .await
        .expect_err("too slow");
    assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
    assert_eq!(says(&host, "echo a new shell").await, "a new shell");
    let begun = server.path("begun");
    let script = Script::new("running")
        .set("begun", begun.display().to_string())
        .line("touch \"$begun\"; sleep 1; echo done");
    let stopping = async {
        is_there(&begun).await;
        cancelled.cancel();
    };
    let (result, ()) = tokio::join!(host.run(&script), stopping);
    assert_eq!(result.expect("it is seen through").stdout, "done\n");
    assert!(matches!(host.run(&script).await, Err(RunError::Cancelled { .. })));
    assert!(matches!(
        pool.connect(&server.target(), ConnectOptions::default()).await,
        Err(ConnectError::Cancelled { .. })
    ));
}

#[tokio::test]
async fn files_are_written_whole() {
    let server = Sshd::start("");
    let host = connect(&server.target()).await.expect("connected");
    let path = server.path("written").display().to_string();
    let contents: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
    let file = FileSpec {
        path: path.clone(),
        mode: 0o640,
        owner: "root:root".to_owned(),
        contents: contents.clone().into(),
    };
    let script = Script::new("writing").write_file(&file);
    assert!(host.run_checked(&script).await.expect("it runs").file_changed(&path));
    assert!(!host.run_checked(&script).await.expect("it runs").any_file_changed());
    assert!(std::fs::read(&path).expect("there") == contents);
}

/// Processor time of this process in clock ticks (10 ms each).
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .collect();
    fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum()
}

/// In a process of its own, since it measures what the process costs.
#[test]
fn waiting_costs_nothing() {
    let this = std::env::current_exe().expect("this test");
    let ran = std::process::Command::new(this)
        .args(["--ignored", "--exact", "processor_time_of_waiting"])
        .output();
    let ran = ran.expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[tokio::test]
#[ignore = "waiting_costs_nothing runs it"]
async fn processor_time_of_waiting() {
    let server = Sshd::start("");
    let host = connect(&server.target()).await.expect("connected");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // A peer that sends without end, to somebody who doesn't read; one who is silent; and a script that takes its time.
    let flooding = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        while stream.write_all(&[0; 65536]).await.is_ok() {}
    });
    let flooded = host.tcp("127.0.0.1", port).await.expect("a tunnel");
    let silent = host.tcp("127.0.0.1", server.port).await.expect("a tunnel");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = processor_ticks();
    assert_eq!(says(&host, "sleep 2; echo slept").await, "slept");
    let spent = processor_ticks() - before;
    assert!(spent < 60, "{spent} ticks in 2 s");
    drop((flooded, silent));
    flooding.abort();
    assert_eq!(says(&host, "echo alive").await, "alive");
}

/// In a process of its own, since it takes all descriptors.
#[test]
fn a_channel_needs_no_more_descriptors_than_its_two_ends() {
    let this = std::env::current_exe().expect("this test");
    let ran = std::process::Command::new(this)
        .args(["--ignored", "--exact", "the_last_descriptors"])
        .output();
    let ran = ran.expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[tokio::test]
#[ignore = "a_channel_needs_no_more_descriptors_than_its_two_ends runs it"]
async fn the_last_descriptors() {
    let server = Sshd::start("");
    let host = connect(&server.target()).await.expect("connected");
    assert_eq!(says(&host, "echo before").await, "before");
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    let error = host
        .tcp("127.0.0.1", server.port)
        .await
        .expect_err("none is left")
        .to_string();
    assert!(error.contains("Too many open files"), "{error}");
    taken.truncate(taken.len() - 2);
    let mut tunnel = host.tcp("127.0.0.1", server.port).await.expect("two are left");
    let mut version = [0; 4];
    tunnel.read_exact(&mut version).await.expect("it greets");
    assert_eq!(&version, b"SSH-");
    drop((tunnel, taken));
    assert_eq!(says(&host, "echo after").await, "after");
}

#[tokio::test]
async fn a_quiet_peer_is_kept_however_often_it_is_asked() {
    let server = Sshd::start("");
    for keep_alive in [1, 400, 999, 1001, 2500, u64::MAX] {
        let target = Target {
            keep_alive: Duration::from_millis(keep_alive),
            ..server.target()
        };
        let host = connect(&target).await.expect("connected");
        assert_eq!(says(&host, "sleep 4; echo quiet").await, "quiet", "{keep_alive} ms");
        assert_eq!(server.connections().len(), 1, "{keep_alive} ms");
        drop(host);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_silent_peer_is_found() {
    let server = Sshd::start("");
    let target = Target {
        keep_alive: Duration::from_secs(2),
        ..server.target()
    };
    let host = connect(&target).await.expect("connected");
    assert_eq!(
        says(&host, "sleep 7; echo a long script is no silence").await,
        "a long script is no silence"
    );
    server.stop_connections();
    let started = Instant::now();
    let error = host
        .run(&Script::new("waiting").line("echo hello"))
        .await
        .expect_err("nobody answers");
    assert!(
        matches!(&error, RunError::ConnectionLost { detail, .. } if detail.contains("keep-alive")),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(says(&host, "echo a new connection").await, "a new connection");
}
