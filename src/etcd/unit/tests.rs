use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::*;
use crate::topology::ClusterName;

/// A server's files below a temporary folder, with a stand-in for etcd that tells which file it was started with.
struct Machine {
    root: tempfile::TempDir,
    layout: Layout,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(&ClusterName::parse("main").unwrap(), None)
            .unwrap()
            .below(root.path());
        for folder in [layout.etc_dir(), layout.run_dir(), layout.data_dir()] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(layout.config_file(), "existing\n").unwrap();
        fs::write(layout.founding_file(), "new\n").unwrap();
        fs::write(layout.joining_file(), "joining\n").unwrap();
        // The member's user is one that there is, and may go where its data is.
        let text = guard(&layout).replace("\nuser=etcd-main\n", "\nuser=nobody\n");
        let hosts = format!(
            "\nhosts_file={}\nrest=0.1\nlocks={}\n",
            root.path().join("hosts").display(),
            root.path().display()
        );
        let text = text.replace("\nhosts_file=/etc/hosts\nrest=5\n", &hosts);
        fs::write(layout.guard_file(), text).unwrap();
        if rustix::process::geteuid().is_root() {
            for folder in [root.path(), layout.data_dir().as_ref()] {
                fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
            }
            std::os::unix::fs::chown(layout.data_dir(), Some(65534), Some(65534)).unwrap();
        }
        let machine = Self { root, layout };
        fs::write(machine.binary(), "#!/bin/sh\ncat \"${1#--config-file=}\"\n").unwrap();
        fs::set_permissions(machine.binary(), fs::Permissions::from_mode(0o755)).unwrap();
        machine
    }

    fn binary(&self) -> PathBuf {
        self.root.path().join("etcd")
    }

    fn guard(&self, args: &[&str]) -> Output {
        Command::new("sh")
            .arg(AsRef::<Path>::as_ref(&self.layout.guard_file()))
            .args(args)
            .output()
            .unwrap()
    }

    /// One start of the unit: what etcd was started with, or the refusal.
    fn start(&self) -> Result<String, String> {
        let prepared = self.guard(&["prepare"]);
        assert!(prepared.status.success(), "{prepared:?}");
        let ran = self.guard(&["run", self.binary().to_str().unwrap()]);
        if ran.status.code() == Some(REFUSED_STATUS.into()) {
            return Err(String::from_utf8(ran.stderr).unwrap());
        }
        assert!(ran.status.success(), "{ran:?}");
        Ok(String::from_utf8(ran.stdout).unwrap().trim().to_owned())
    }

    fn write_log(&self) {
        let wal = AsRef::<Path>::as_ref(self.layout.data_dir()).join("member/wal");
        fs::create_dir_all(&wal).unwrap();
        fs::write(wal.join("0000000000000000-0000000000000000.wal"), "x").unwrap();
    }

    fn permit(&self, path: &ServerPath) {
        fs::write(path, "main-1\n").unwrap();
    }

    fn has_permit(&self) -> bool {
        [self.layout.founding_permit(), self.layout.joining_permit()]
            .iter()
            .any(|p| AsRef::<Path>::as_ref(p).exists())
    }
}

#[test]
fn a_start_for_a_snapshot_happens_once() {
    let machine = Machine::new();
    machine.write_log();
    fs::write(machine.layout.snapshot_file(), "snapshot\n").unwrap();
    assert_eq!(machine.start().as_deref(), Ok("snapshot"));
    assert_eq!(machine.start().as_deref(), Ok("existing"));
}

#[test]
fn a_member_founds_once() {
    let machine = Machine::new();
    machine.permit(&machine.layout.founding_permit());
    assert_eq!(machine.start().as_deref(), Ok("new"));
    assert!(!machine.has_permit());
    // Killed before it had a log: no second founding.
    let refusal = machine.start().unwrap_err();
    assert!(
        refusal.contains("holds no data of a member") && refusal.contains("terraform apply"),
        "{refusal}"
    );
    machine.write_log();
    assert_eq!(machine.start().as_deref(), Ok("existing"));
    assert_eq!(machine.start().as_deref(), Ok("existing"));
}

#[test]
fn a_lost_data_directory_is_not_started() {
    let machine = Machine::new();
    machine.write_log();
    assert_eq!(machine.start().as_deref(), Ok("existing"));
    fs::remove_dir_all(machine.layout.data_dir()).unwrap();
    assert!(machine.start().is_err());
    // A database alone is no member: etcd would come back under its old identity with an empty log.
    let snap = AsRef::<Path>::as_ref(machine.layout.data_dir()).join("member/snap");
    fs::create_dir_all(&snap).unwrap();
    fs::write(snap.join("db"), "x").unwrap();
    fs::create_dir_all(snap.join("../wal")).unwrap();
    assert!(machine.start().unwrap_err().contains("holds no write-ahead log"));
}

#[test]
fn a_joining_permit_lets_one_start_join() {
    let machine = Machine::new();
    machine.permit(&machine.layout.joining_permit());
    assert_eq!(machine.start().as_deref(), Ok("joining"));
    assert!(!machine.has_permit());
    assert!(machine.start().is_err());
}

#[test]
fn who_may_join_does_not_found() {
    let machine = Machine::new();
    machine.permit(&machine.layout.joining_permit());
    machine.permit(&machine.layout.founding_permit());
    assert_eq!(machine.start().as_deref(), Ok("joining"));
    assert!(!machine.has_permit());
}

#[test]
fn a_log_makes_permits_void() {
    let machine = Machine::new();
    machine.write_log();
    machine.permit(&machine.layout.founding_permit());
    assert_eq!(machine.start().as_deref(), Ok("existing"));
    assert!(!machine.has_permit());
}

#[test]
fn who_is_to_have_a_snapshots_data_does_not_found_without() {
    let machine = Machine::new();
    machine.permit(&machine.layout.founding_permit());
    machine.permit(&machine.layout.restore_file());
    assert!(machine.start().is_err());
    assert!(machine.has_permit(), "it may still be restored");
    machine.write_log();
    assert_eq!(machine.start().as_deref(), Ok("existing"));
    assert!(!machine.has_permit() && !AsRef::<Path>::as_ref(&machine.layout.restore_file()).exists());
}

#[test]
fn leftovers_of_an_interrupted_start_are_set_aside() {
    let machine = Machine::new();
    let data = AsRef::<Path>::as_ref(machine.layout.data_dir());
    fs::create_dir_all(data.join("member/snap")).unwrap();
    fs::write(data.join("member/snap/db"), "x").unwrap();
    machine.permit(&machine.layout.founding_permit());
    assert_eq!(machine.start().as_deref(), Ok("new"));
    let left: Vec<String> = fs::read_dir(data)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].starts_with("member.incomplete."), "{left:?}");
}

#[test]
fn a_permit_that_cannot_be_removed_founds_nothing() {
    let machine = Machine::new();
    // A folder can't be removed by rm -f, not even by root.
    fs::create_dir(machine.layout.founding_permit()).unwrap();
    assert_eq!(machine.guard(&["prepare"]).status.code(), Some(1));
    assert!(
        !AsRef::<Path>::as_ref(machine.layout.run_dir())
            .join("config.yaml")
            .is_symlink()
    );
}

#[test]
fn the_names_are_there_before_each_start_whatever_wrote_the_file() {
    let machine = Machine::new();
    let (hosts, copy) = (
        machine.root.path().join("hosts"),
        machine.layout.etc_dir().as_str().to_owned() + "/hosts",
    );
    let read = || fs::read_to_string(&hosts).unwrap();
    machine.write_log();
    // A member of an earlier version has no copy: nothing is changed.
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    machine.start().unwrap();
    assert_eq!(read(), "127.0.0.1 localhost\n");

    let cluster = ClusterName::parse("main").unwrap();
    let other = hosts_block::render(
        &ClusterName::parse("other").unwrap(),
        &["10.0.0.9 x.other.etcd.internal".to_owned()],
    );
    let block = hosts_block::render(&cluster, &["10.0.0.1 a1.main.etcd.internal".to_owned()]);
    fs::write(&copy, &block).unwrap();
    for before in [
        "127.0.0.1 localhost\n".to_owned(),
        format!("{other}127.0.0.1 localhost\n"),
    ] {
        fs::write(&hosts, &before).unwrap();
        machine.start().unwrap();
        assert_eq!(read(), format!("{before}{block}"));
    }
    // Other lines in the block are not the cluster's; what is right is not written.
    fs::write(&hosts, block.replace("10.0.0.1", "10.9.9.9") + &other).unwrap();
    machine.start().unwrap();
    assert_eq!(read(), format!("{block}{other}"));
    let written = || fs::metadata(&hosts).unwrap().modified().unwrap();
    let before = written();
    machine.start().unwrap();
    assert_eq!(written(), before);

    // What can't be edited is said, and no reason not to start.
    fs::write(&hosts, block.repeat(2)).unwrap();
    let said = String::from_utf8(machine.guard(&["prepare"]).stderr).unwrap();
    assert!(
        said.contains("someone edited them") && said.contains("are not in"),
        "{said}"
    );
    assert_eq!(machine.start().unwrap(), "existing");

    // Run for a change it looks until nothing changes any more, and says nothing then.
    fs::write(&hosts, "").unwrap();
    let kept = machine.guard(&["keep-names"]);
    assert!(kept.status.success() && read() == block, "{kept:?}");
    assert!(machine.guard(&["keep-names"]).stderr.is_empty());
}

#[test]
fn the_unit_reads() {
    let layout = Layout::new(&ClusterName::parse("main").unwrap(), None).unwrap();
    let mut spec = UnitSpec {
        binary: ServerPath::parse("/usr/local/lib/etcd/3.6.14/etcd").unwrap(),
        version: Version::parse("3.6.14").unwrap(),
        arch: Arch::Arm64,
        lowest_port: 2379,
    };
    insta::assert_snapshot!(render(&layout, &spec));
    spec.lowest_port = 443;
    spec.version = Version::parse("3.4.23").unwrap();
    let unit = render(&layout, &spec);
    assert!(unit.contains("\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"));
    assert!(unit.contains("\nEnvironment=ETCD_UNSUPPORTED_ARCH=arm64\n"));
}
