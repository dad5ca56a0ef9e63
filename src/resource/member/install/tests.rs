//! What a member's user puts into its data directory catches no root. As root alone: other users have to be there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::etcd::program;
use crate::etcd::restoring;
use crate::host::{ANSWERS, PRIVILEGE};

const NOBODY: Option<u32> = Some(65534);

/// A data directory of another user's, below a folder of root's that everybody may pass through.
struct Taken {
    folder: tempfile::TempDir,
}

impl Taken {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
        let taken = Self { folder };
        fs::create_dir_all(taken.data().join("member/wal")).expect("made");
        for below in ["", "member", "member/wal"] {
            chown(taken.data().join(below), NOBODY, NOBODY).expect("root may");
        }
        Some(taken)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str, body: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        path
    }

    fn run(&self, given: &str, script: &str) -> Output {
        let data = self.data();
        let text = format!(
            "LC_ALL=C; export LC_ALL; umask 077; user=nobody locks={} data={}\n{given}\n{ANSWERS}{PRIVILEGE}{}{script}",
            self.folder.path().display(),
            data.display(),
            program::SCRIPT
        );
        let ran = Command::new("sh").arg("-euc").arg(text).output();
        ran.expect("the shell runs")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_log_is_read_without_links_and_pipes() {
    let Some(taken) = Taken::new() else { return };
    let wal = taken.data().join("member/wal");
    symlink("/dev/zero", wal.join("x.wal")).expect("made");
    assert!(
        Command::new("mkfifo")
            .arg(wal.join("y.wal"))
            .status()
            .expect("it runs")
            .success()
    );
    // Only root may read it.
    let secret = taken.folder.path().join("secret");
    fs::write(&secret, "/0/members/").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
    symlink(&secret, wal.join("z.wal")).expect("made");
    fs::hard_link(&secret, wal.join("w.wal")).expect("made");
    let began = Instant::now();
    let script = include_str!("../old_entries.sh");
    let ran = taken.run("", script);
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(said(&ran), "");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    fs::write(wal.join("a.wal"), "..../0/members/8e9e05c52164694d").expect("written");
    chown(wal.join("a.wal"), NOBODY, NOBODY).expect("root may");
    assert_eq!(said(&taken.run("", script)), "old-entries=yes\n");
}

const GIVEN: &str = "name=a1 peer_url=https://a1:2380 initial_cluster=a1=https://a1:2380 token=the-token bump=";

/// The tool is the attacker's, or the folder is swapped while it works: the token goes where that user may write, and nowhere else.
#[test]
fn the_token_is_written_through_no_swapped_folder() {
    let Some(taken) = Taken::new() else { return };
    let roots = taken.folder.path().join("roots");
    fs::create_dir(&roots).expect("made");
    let snapshot = taken.folder.path().join("snapshot.db");
    fs::write(&snapshot, "").expect("written");
    let swap = format!(
        "mkdir -p {0}/restoring; ln -s {1} {0}/restoring/member; id -u >{0}/ran",
        taken.data().display(),
        roots.display()
    );
    let tool = taken.program("etcdutl", &swap);
    let given = format!("{GIVEN} tool={}", tool.display());
    let script = format!("{}restore_data {}", restoring::script(), snapshot.display());
    let ran = taken.run(&given, &script);
    assert!(!ran.status.success(), "{ran:?}");
    assert_eq!(
        fs::read_dir(&roots).expect("readable").count(),
        0,
        "root wrote through the link"
    );
    assert_eq!(fs::read_to_string(taken.data().join("ran")).expect("it ran"), "65534\n");
}

/// A folder, or a link to one, stands where the data is to go.
#[test]
fn data_is_put_in_its_place_or_nowhere() {
    let Some(taken) = Taken::new() else { return };
    let (data, roots) = (taken.data(), taken.folder.path().join("roots"));
    fs::create_dir(&roots).expect("made");
    fs::remove_dir_all(data.join("member")).expect("removed");
    fs::create_dir_all(data.join("restoring/member")).expect("made");
    let own = |path: &Path| lchown(path, NOBODY, NOBODY).expect("root may");
    own(&data.join("restoring"));
    own(&data.join("restoring/member"));
    symlink(&roots, data.join("member")).expect("made");
    let ran = taken.run(GIVEN, &format!("{}put_restored", restoring::script()));
    assert!(!ran.status.success(), "{ran:?}");
    assert_eq!(fs::read_dir(&roots).expect("readable").count(), 0);
    fs::remove_file(data.join("member")).expect("removed");
    let ran = taken.run(GIVEN, &format!("{}put_restored", restoring::script()));
    assert!(ran.status.success(), "{ran:?}");
    assert!(data.join("member").is_dir() && !data.join("restoring").exists());
}

#[test]
fn what_is_put_aside_is_roots_and_no_link_is_followed() {
    let Some(taken) = Taken::new() else { return };
    let data = taken.data();
    let others = taken.folder.path().join("others");
    fs::write(&others, "").expect("written");
    chown(&others, Some(1), Some(1)).expect("root may");
    symlink(&others, data.join("member/link")).expect("made");
    let aside = taken.folder.path().join("data.removed");
    let ran = taken.run("", &format!("put_aside \"$data\" nobody {}", aside.display()));
    assert!(ran.status.success(), "{ran:?}");
    use std::os::unix::fs::MetadataExt as _;
    let owner = |path: &Path| fs::symlink_metadata(path).expect("there").uid();
    assert_eq!(
        (owner(&aside), owner(&aside.join("member/link")), owner(&others)),
        (0, 0, 1)
    );
    assert_eq!(fs::metadata(&aside).expect("there").permissions().mode() & 0o777, 0o700);
}
