use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::*;

fn v(text: &str) -> Version {
    Version::parse(text).unwrap()
}

#[test]
fn official_releases_have_their_places() {
    let release = Release::official(&v("3.6.14"), Arch::Arm64);
    assert_eq!(
        release.archive_url(),
        "https://github.com/etcd-io/etcd/releases/download/v3.6.14/etcd-v3.6.14-linux-arm64.tar.gz"
    );
    assert_eq!(
        release.sums_url(),
        "https://github.com/etcd-io/etcd/releases/download/v3.6.14/SHA256SUMS"
    );
    assert_eq!(programs(&v("3.4.23")), ["etcd", "etcdctl"]);
    let arguments = fetch_arguments(&BinarySource::Official, &v("3.6.14"), Arch::Amd64).unwrap();
    assert_eq!(arguments[0], "/usr/local/lib/etcd/3.6.14");
    assert_eq!(arguments[2..], ["", "etcd", "etcdctl", "etcdutl"]);
    assert_eq!(Arch::from_uname("aarch64"), Some(Arch::Arm64));
    assert_eq!(Arch::from_uname("riscv64"), None);
}

#[test]
fn the_archives_sum_is_found_in_the_list() {
    let release = Release::official(&v("3.6.14"), Arch::Amd64);
    let (one, two) = ("A".repeat(64), "b".repeat(64));
    let sums = format!("{two}  etcd-v3.6.14-linux-arm64.tar.gz\n{one} *etcd-v3.6.14-linux-amd64.tar.gz\n");
    assert_eq!(release.sum_in(&sums).unwrap().as_str(), "a".repeat(64));
    assert!(matches!(release.sum_in(""), Err(ReleaseError::NotListed { .. })));
    assert!(matches!(Sha256Sum::parse("abc"), Err(ReleaseError::BadSum(_))));
}

/// A file server on loopback that counts what it was asked for.
struct Files {
    address: SocketAddr,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    requests: Arc<AtomicUsize>,
}

impl Files {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let requests: Arc<AtomicUsize> = Arc::default();
        let (served, counted) = (files.clone(), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let mut request = Vec::new();
                let mut chunk = [0; 1024];
                while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read(&mut chunk) {
                        Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
                        _ => break,
                    }
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let request = String::from_utf8_lossy(&request).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let body = served.lock().unwrap().get(&path).cloned();
                let (status, body) = match body {
                    Some(body) => ("200 OK", body),
                    None => ("404 Not Found", Vec::new()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Self {
            address,
            files,
            requests,
        }
    }

    fn put(&self, path: &str, body: &[u8]) {
        self.files.lock().unwrap().insert(path.to_owned(), body.to_vec());
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// An archive with these files, each of which says its own name when it is run.
fn archive(names: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\necho {name}\n")).unwrap();
    }
    let tar = Command::new("tar")
        .arg("-C")
        .arg(dir.path())
        .args(["-czf", "-", "."])
        .output()
        .unwrap();
    assert!(tar.status.success());
    tar.stdout
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn fetch(path: Option<&Path>, folder: &Path, url: &str, sum: &str, programs: &[&str]) -> Output {
    let mut command = Command::new("/bin/sh");
    command.args(["-s", "--"]).arg(folder).args([url, sum]).args(programs);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let script = format!("{}\nfetch_etcd \"$@\"\n", fetch_script());
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn word(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

fn refusal(output: &Output, status: u8) -> String {
    assert_eq!(output.status.code(), Some(status.into()), "{output:?}");
    assert!(FETCH_FAILURES.iter().any(|(known, _)| *known == status));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const THREE: &[&str] = &["etcd", "etcdctl", "etcdutl"];

#[test]
fn a_server_fetches_checks_and_unpacks() {
    let files = Files::start();
    let good = archive(&[
        "etcd-v3/etcd",
        "etcd-v3/etcdctl",
        "etcd-v3/etcdutl",
        "etcd-v3/README.md",
    ]);
    files.put("/v/etcd.tar.gz", &good);
    files.put(
        "/v/SHA256SUMS",
        format!("{}  other.tar.gz\n{}  etcd.tar.gz\n", "0".repeat(64), sum(&good)).as_bytes(),
    );
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("lib/etcd/3.6.14");
    let url = files.url("/v/etcd.tar.gz");

    assert_eq!(word(&fetch(None, &folder, &url, "", THREE)), "changed");
    let etcd = folder.join("etcd");
    assert_eq!(fs::metadata(&etcd).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(Command::new(&etcd).output().unwrap().stdout, b"etcd-v3/etcd\n");
    let asked = files.requests.load(Ordering::SeqCst);
    assert_eq!(word(&fetch(None, &folder, &url, "", THREE)), "unchanged");
    assert_eq!(word(&fetch(None, &folder, &url, &sum(&good), THREE)), "unchanged");
    assert_eq!(files.requests.load(Ordering::SeqCst), asked, "nothing is fetched twice");
    fs::remove_file(&etcd).unwrap();
    assert_eq!(word(&fetch(None, &folder, &url, "", THREE)), "changed");

    // Another archive, laid flat, takes its place.
    let flat = archive(THREE);
    files.put("/flat.tar.gz", &flat);
    assert_eq!(
        word(&fetch(None, &folder, &files.url("/flat.tar.gz"), &sum(&flat), THREE)),
        "changed"
    );
    assert_eq!(Command::new(&etcd).output().unwrap().stdout, b"etcd\n");

    // What is wrong is said, and leaves what is there.
    let said = refusal(&fetch(None, &folder, &url, &"0".repeat(64), THREE), 65);
    assert!(
        said.contains(&sum(&good)) && said.contains("nothing was unpacked"),
        "{said}"
    );
    assert!(
        refusal(&fetch(None, &folder, &files.url("/none"), &sum(&good), THREE), 69).contains("/none can't be fetched")
    );
    let two = archive(&["etcd", "etcdctl"]);
    files.put("/two", &two);
    assert!(refusal(&fetch(None, &folder, &files.url("/two"), &sum(&two), THREE), 66).contains("holds no etcdutl"));
    files.put("/junk", b"junk");
    assert!(
        refusal(&fetch(None, &folder, &files.url("/junk"), &sum(b"junk"), THREE), 66).contains("can't be unpacked")
    );
    files.put("/v/SHA256SUMS", b"");
    let elsewhere = dir.path().join("lib/etcd/new");
    assert!(refusal(&fetch(None, &elsewhere, &url, "", THREE), 65).contains("doesn't list etcd.tar.gz"));
    assert_eq!(Command::new(&etcd).output().unwrap().stdout, b"etcd\n");
    let left: Vec<_> = fs::read_dir(dir.path().join("lib/etcd")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn wget_does_as_well_and_neither_is_said() {
    let files = Files::start();
    let good = archive(THREE);
    files.put("/etcd.tar.gz", &good);
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let tools = [
        "sh",
        "tar",
        "gzip",
        "sha256sum",
        "mktemp",
        "mkdir",
        "mv",
        "rm",
        "chmod",
        "chown",
        "id",
        "cat",
        "tail",
        "awk",
    ];
    for tool in tools {
        let place = ["/usr/bin", "/bin"]
            .iter()
            .map(|b| Path::new(b).join(tool))
            .find(|p| p.exists())
            .unwrap();
        symlink(place, bin.join(tool)).unwrap();
    }
    let folder = dir.path().join("3.6.14");
    let url = files.url("/etcd.tar.gz");
    assert!(refusal(&fetch(Some(&bin), &folder, &url, &sum(&good), THREE), 72).contains("neither curl nor wget"));
    if Path::new("/usr/bin/wget").exists() {
        symlink("/usr/bin/wget", bin.join("wget")).unwrap();
        assert_eq!(word(&fetch(Some(&bin), &folder, &url, &sum(&good), THREE)), "changed");
    }
}
