//! Root shells that answer badly, behind a real sshd with a `ForceCommand`.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use futures::future::join_all;
use terraform_provider_etcd::host::{RunError, Script, Upload};

use super::{Cost, cost_of, cost_of_nine, how_many, memory_now, what};
use crate::connect;
use crate::sshd::Sshd;

/// How long a script may take in these tests.
const TIME: Duration = Duration::from_secs(4);
/// How much later its time-out may be.
const LATE: Duration = Duration::from_millis(800);

/// Reads the password's line and the frame's header as a shell of ours does, then misbehaves.
const HOSTILE: &str = r#"#!/bin/bash
read -r password
read -r magic length nonce mode
begin() { printf '%s<\n' "$nonce"; printf '%s<\n' "$nonce" >&2; }
zeros() { exec cat /dev/zero; }
lines() { exec yes 'a line that says nothing at all'; }
case $1 in
  flood) begin; lines;;
  flood-of-bytes) begin; zeros;;
  flood-without-marks) lines;;
  flood-of-errors) begin; zeros >&2;;
  flood-of-errors-without-marks) zeros >&2;;
  flood-on-both) begin; lines >&2 & lines;;
  flood-of-almost-marks) begin; exec yes "
${nonce:0:31}";;
  flood-after-the-end) begin; printf '\n%s>' "$nonce"; zeros;;
  flood-of-one-stream) begin; printf '\n%s>\n' "$nonce" >&2; lines;;
  silent) begin; exec sleep 60;;
  drip) begin; while :; do printf x; sleep 0.02; done;;
  drip-without-marks) while :; do echo x; echo x >&2; sleep 0.02; done;;
  banner) begin; printf '\n%s>' "$nonce"; sleep 60;;
  deaf) exec sleep 600;;
esac
"#;

fn server(kind: &str) -> Sshd {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let path = folder.join("hostile");
    std::fs::write(&path, HOSTILE).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    Sshd::start(&format!("ForceCommand {} {kind}", path.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "cost_of runs it"]
async fn a_script() {
    let server = server(&what());
    let hosts = join_all((0..how_many()).map(async |_| connect(&server.target()).await.expect("connected"))).await;
    let before = memory_now();
    let began = Instant::now();
    let script = Script::new("looking around").timeout(TIME).line("true");
    let errors = join_all(hosts.iter().map(|host| host.run(&script))).await;
    let error = errors
        .into_iter()
        .map(|outcome| outcome.expect_err("no answer"))
        .next_back();
    let error = error.expect("one at least");
    Cost::of(began, before, error.to_string()).tell();
    // After too much the connection is not kept.
    let closed = matches!(error, RunError::TooMuch { .. });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.connections().is_empty(), closed, "{error}");
}

fn script(kind: &str) -> Cost {
    cost_of("hostile::shell::a_script", kind)
}

#[test]
fn a_flood_is_cut_off_at_once() {
    for kind in [
        "flood",
        "flood-of-bytes",
        "flood-of-errors",
        "flood-on-both",
        "flood-of-almost-marks",
        "flood-of-one-stream",
        "flood-without-marks",
        "flood-of-errors-without-marks",
        "flood-after-the-end",
    ] {
        let cost = script(kind);
        assert!(cost.took < TIME / 2, "{kind}: {:?}", cost.took);
        let names = ["root@127.0.0.1", "looking around", "connection was closed"];
        assert!(
            names.iter().all(|name| cost.error.contains(name)),
            "{kind}: {}",
            cost.error
        );
    }
}

#[test]
fn nine_floods_are_no_more_than_there_is() {
    for kind in ["flood", "flood-on-both", "flood-without-marks"] {
        cost_of_nine("hostile::shell::a_script", kind);
    }
}

#[test]
fn time_outs_hold_to_the_second() {
    for kind in ["silent", "drip", "drip-without-marks", "banner", "deaf"] {
        let cost = script(kind);
        assert!(cost.took >= TIME && cost.took < TIME + LATE, "{kind}: {:?}", cost.took);
        assert!(cost.error.contains("did not end within 4s"), "{kind}: {}", cost.error);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "cost_of runs it"]
async fn an_upload() {
    let server = server(&what());
    let host = connect(&server.target()).await.expect("connected");
    let before = memory_now();
    let began = Instant::now();
    let upload = Upload {
        from: "zeros".into(),
        to: "/nowhere/at/all".to_owned(),
        mode: 0o600,
        sha256: "00".repeat(32),
        look_first: false,
    };
    let zeros = tokio::io::AsyncReadExt::take(tokio::io::repeat(0), 64 << 20);
    let uploading = tokio::time::timeout(Duration::from_secs(100), host.upload_from(zeros, &upload));
    let error = match uploading.await {
        Ok(ended) => ended.expect_err("no answer").to_string(),
        Err(_) => "never ended".to_owned(),
    };
    Cost::of(began, before, error).tell();
}

#[test]
fn an_upload_is_not_held_up_for_ever() {
    let kinds = ["deaf", "flood", "flood-without-marks"];
    let waited = kinds.map(|kind| std::thread::spawn(move || cost_of("hostile::shell::an_upload", kind)));
    for (kind, cost) in kinds.into_iter().zip(waited) {
        let cost = cost.join().expect("a cost");
        assert!(cost.took < Duration::from_secs(70), "{kind}: {:?}", cost.took);
        let names = ["root@127.0.0.1", "/nowhere/at/all", "took nothing for 60 s"];
        assert!(
            names.iter().all(|name| cost.error.contains(name)),
            "{kind}: {}",
            cost.error
        );
    }
}
