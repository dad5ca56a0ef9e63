use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};

use super::*;

const FIT: &str = r#"[{"Endpoint":"e","Status":{"header":{"cluster_id":7,"member_id":8,"revision":41,"raft_term":2},"version":"3.6.16","dbSize":1024,"leader":8,"raftIndex":5,"raftTerm":2,"raftAppliedIndex":5,"errors":["memberID:9 alarm:CORRUPT"]}}]"#;

/// A server below a temporary folder, with stand-ins for etcd's client, its reader of snapshots, and systemd.
struct Server {
    root: tempfile::TempDir,
}

impl Server {
    fn new(keep: u32) -> Self {
        let server = Self {
            root: tempfile::tempdir().unwrap(),
        };
        for folder in ["snapshots", "tools"] {
            fs::create_dir(server.path(folder)).unwrap();
        }
        server.says(FIT);
        let mut snapshot = vec![7; 1024];
        snapshot.extend_from_slice(&Sha256::digest(&snapshot));
        fs::write(server.path("sent"), snapshot).unwrap();
        let root = server.root.path().display();
        server.program(
            "etcdctl",
            &format!(
                "case \"$*\" in *operator*) [ ! -e {root}/ended ] || {{ echo 'Error: certificate has expired' >&2; exit 1; }} ;; esac
                case \"$*\" in
                *' endpoint status '*) cat {root}/status ;;
                *' get '*) [ ! -e {root}/no-quorum ] || {{ echo 'Error: context deadline exceeded' >&2; exit 1; }} ;;
                *' snapshot save '*) for last; do :; done; cp {root}/sent \"$last\"; [ ! -e {root}/cut-off ] || exit 1 ;;
                esac"
            ),
        );
        server.program(
            "etcdutl",
            "echo '{\"hash\":1,\"revision\":42,\"totalKey\":5,\"totalSize\":1024}'",
        );
        server.program("systemctl", &format!("[ ! -e {root}/stopped ]"));
        // Nobody waits in a test: each look at the clock is a minute later than the one before.
        server.program(
            "date",
            &format!(
                "case $* in +%s) n=$(cat {root}/now 2>/dev/null || echo 0); echo $((n + 60)) | tee {root}/now ;; *) cat {root}/stamp ;; esac"
            ),
        );
        server.at("20260101T000000Z");
        let layout = Layout::new(&ClusterName::parse("main").unwrap(), None).unwrap();
        let what = Scheduled {
            schedule: "hourly".into(),
            keep,
            directory: ServerPath::parse("/snapshots").unwrap(),
            binary: ServerPath::parse("/tools/etcd").unwrap(),
            version: Version::parse("3.6.16").unwrap(),
            endpoint: "https://127.0.0.1:2379".into(),
            tls: true,
        };
        let text = script(&layout, &what)
            .replace("directory=/", &format!("directory={root}/"))
            // The folders of the test are below one that is everybody's.
            .replace("loose=$(", "loose=$(: ")
            .replace("tools=/", &format!("tools={root}/"))
            .replace(&format!("reserve={RESERVE_MIB}"), "reserve=0");
        fs::write(server.path("script"), text).unwrap();
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.path("tools").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn says(&self, status: &str) {
        fs::write(self.path("status"), status).unwrap();
    }

    fn at(&self, stamp: &str) {
        fs::write(self.path("stamp"), stamp).unwrap();
    }

    fn mark(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }

    fn put(&self, name: &str) {
        fs::write(self.path("snapshots").join(name), "").unwrap();
    }

    fn run(&self) -> Output {
        let path = format!("{}:{}", self.path("tools").display(), std::env::var("PATH").unwrap());
        Command::new("sh")
            .arg(self.path("script"))
            .env("PATH", path)
            .output()
            .unwrap()
    }

    fn takes(&self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its exit status, and what it says in its last line, having left the folder as it was.
    fn refuses(&self) -> (i32, String) {
        let before = self.files();
        let output = self.run();
        assert_eq!(self.files(), before);
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said
            .lines()
            .last()
            .and_then(|line| line.strip_prefix("no snapshot was taken: "));
        (output.status.code().unwrap(), said.unwrap().to_owned())
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("snapshots")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_snapshot_has_its_name_its_mode_and_its_contents() {
    let server = Server::new(3);
    server.put(".main.scheduled.partial.part");
    let said = server.takes();
    assert_eq!(server.files(), ["main-20260101T000000Z-r42.db"]);
    let file = server.path("snapshots/main-20260101T000000Z-r42.db");
    assert!(
        said.contains(&format!("took {} of 1056 bytes", file.display())),
        "{said}"
    );
    assert_eq!(fs::read(&file).unwrap(), fs::read(server.path("sent")).unwrap());
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_oldest_of_this_cluster_go_when_another_one_is_there() {
    let server = Server::new(2);
    let others = [
        "main-2-20250101T000000Z-r5.db",
        "main-20250101T000000Z-r.db",
        "main-20250101T000000Z-r5x.db",
        "notes",
    ];
    others.iter().for_each(|name| server.put(name));
    for day in 1..=4 {
        server.at(&format!("2026010{day}T000000Z"));
        server.takes();
    }
    // A clock that was ahead does not have the new ones deleted.
    server.put("main-20990101T000000Z-r1.db");
    server.at("20260105T000000Z");
    let said = server.takes();
    assert!(
        said.contains("main-20260103T000000Z-r42.db") && said.matches("deleted").count() == 2,
        "{said}"
    );
    let mut left = server.files();
    left.retain(|name| !others.contains(&name.as_str()));
    assert_eq!(left, ["main-20260105T000000Z-r42.db", "main-20990101T000000Z-r1.db"]);
    assert_eq!(server.files().len(), 2 + others.len());
    let one = Server::new(1);
    one.takes();
    one.at("20260102T000000Z");
    one.takes();
    assert_eq!(one.files(), ["main-20260102T000000Z-r42.db"]);
}

#[test]
fn the_members_own_certificate_will_do_when_roots_has_ended() {
    let server = Server::new(1);
    server.mark("ended");
    let said = server.takes();
    assert!(said.contains("certificate has expired"), "{said}");
    assert_eq!(server.files(), ["main-20260101T000000Z-r42.db"]);
}

#[test]
fn what_may_be_old_is_not_taken() {
    let server = Server::new(1);
    server.put("main-20250101T000000Z-r5.db");
    let refused = |status: &str, words: &str| {
        server.says(status);
        let (code, said) = server.refuses();
        assert!(code == 75 && said.contains(words), "{code}: {said}");
    };
    refused(&FIT.replace("\"leader\":8,", ""), "knows no leader");
    refused(
        &FIT.replace("\"errors\"", "\"isLearner\":true,\"errors\""),
        "is a learner",
    );
    refused(
        &FIT.replace("memberID:9", "memberID:8"),
        "CORRUPT is raised for this member",
    );
    server.mark("no-quorum");
    refused(
        FIT,
        "no quorum confirms that the member has all that the others have (context deadline exceeded)",
    );
    server.mark("stopped");
    refused("", "the member does not run (etcd-main.service)");
}

#[test]
fn what_is_not_whole_leaves_nothing_and_deletes_nothing() {
    let server = Server::new(1);
    server.put("main-20250101T000000Z-r5.db");
    let failed = |words: &str| {
        let (code, said) = server.refuses();
        assert!(code == 1 && said.contains(words), "{code}: {said}");
    };
    let whole = fs::read(server.path("sent")).unwrap();
    fs::write(server.path("sent"), &whole[1..]).unwrap();
    failed("its checksum differs");
    fs::write(server.path("sent"), &whole).unwrap();
    server.program("etcdutl", "echo 'Error: not a database' >&2; exit 1");
    failed("is no snapshot (not a database)");
    server.mark("cut-off");
    failed("did not send all of it");
    fs::remove_file(server.path("tools/etcdutl")).unwrap();
    failed("has no etcdutl");
}

#[test]
fn the_disk_is_not_filled() {
    let server = Server::new(1);
    let text = fs::read_to_string(server.path("script")).unwrap();
    fs::write(server.path("script"), text.replace("reserve=0", "reserve=999999999999")).unwrap();
    let (code, said) = server.refuses();
    assert!(
        code == 75 && said.contains("999999999999 more have to stay free"),
        "{code}: {said}"
    );
    assert!(!server.path("snapshots/.main.scheduled.partial").exists());
}

#[test]
fn the_folder_is_not_one_that_goes_with_the_member() {
    let layout = Layout::new(&ClusterName::parse("main").unwrap(), Some("/data/etcd")).unwrap();
    let directory = |path: &str| super::directory(&layout, path).map_err(|error| error.to_string());
    for good in [
        "/var/lib/etcd-snapshots/main",
        "/data/snapshots",
        "/data/etcd-snapshots",
        "/mnt/backup",
    ] {
        assert!(directory(good).is_ok(), "{good}");
    }
    for (bad, words) in [
        ("/data/etcd", "is renamed as a whole"),
        ("/data/etcd/snapshots", "is renamed as a whole"),
        ("/data", "is renamed as a whole"),
        ("/etc/etcd/main", "goes with the member"),
        ("/var/lib", "need one of their own"),
        ("/home/admin", "doesn't see"),
        ("/a b", "only letters"),
    ] {
        assert!(
            directory(bad).unwrap_err().contains(words),
            "{bad}: {:?}",
            directory(bad)
        );
    }
}

/// What systemd says of the units, where it is installed.
#[test]
fn systemd_reads_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let main = ClusterName::parse("main").unwrap();
    let layout = Layout::new(&main, None).unwrap();
    let what = Scheduled {
        schedule: "*-*-* 03:30 UTC".into(),
        keep: 3,
        directory: ServerPath::parse("/var/lib/etcd-snapshots/main").unwrap(),
        binary: ServerPath::parse("/usr/local/lib/etcd/3.6.16/etcd").unwrap(),
        version: Version::parse("3.6.16").unwrap(),
        endpoint: "https://127.0.0.1:2379".into(),
        tls: true,
    };
    let write = |name: String, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let files = [
        write(service_name(&main), service(&layout, &what)),
        write(timer_name(&main), timer(&main, &what.schedule)),
    ];
    let verify = Command::new("systemd-analyze")
        .arg("verify")
        .args(files.each_ref().map(AsRef::<Path>::as_ref))
        .output();
    let Ok(output) = verify else { return };
    let said = String::from_utf8(output.stderr).unwrap();
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("etcd-snapshot@")).collect();
    // That the script is not there is said in other words.
    assert!(
        ours.iter()
            .all(|line| line.contains("not executable") || line.contains("No such file")),
        "{said}"
    );
}
