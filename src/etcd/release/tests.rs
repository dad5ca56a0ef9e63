use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
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
    let official = |sha256| fetch_arguments(&BinarySource::Official { sha256 }, &v("3.6.14"), Arch::Amd64).unwrap();
    assert_eq!(official(None)[0], "/usr/local/lib/etcd/3.6.14");
    assert_eq!(official(None)[2..], ["", "etcd", "etcdctl", "etcdutl"]);
    let sum = carried_sum(&v("3.6.14"), Arch::Amd64).unwrap();
    assert_eq!(official(Some(sum.clone()))[2], sum.as_str());
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

#[test]
fn the_carried_sums_are_a_list_of_known_releases() {
    let mut before: Option<(Version, String)> = None;
    for line in CARRIED.lines().filter(|line| !line.starts_with('#')) {
        let [version, arch, sum, lists] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        assert_eq!(Sha256Sum::parse(sum).unwrap().as_str(), sum, "{line}");
        assert!((1..=9).contains(&lists.parse::<u8>().unwrap()), "{line}");
        let this = (v(version), arch.to_owned());
        if let Some(before) = before {
            assert!(before < this, "{line}: in order, and once each");
        }
        let arch = [Arch::Amd64, Arch::Arm64]
            .into_iter()
            .find(|known| known.to_string() == arch);
        assert_eq!(carried_sum(&this.0, arch.unwrap()).unwrap().as_str(), sum);
        before = Some(this);
    }
    assert!(before.is_some_and(|(newest, _)| newest >= v("3.7.1")));
    assert_eq!(carried_sum(&v("3.7.1"), Arch::S390x), None);
    assert_eq!(carried_sum(&v("3.6.14-rc.0"), Arch::Amd64), None);
    assert_eq!(carried_sum(&v("3.99.0"), Arch::Amd64), None);
}

/// What a file server answers.
enum Answer {
    Body(Vec<u8>),
    Redirect(String),
    /// It does not end before so much was sent.
    Long(usize),
}

/// A file server on loopback that counts what it was asked for.
struct Files {
    address: SocketAddr,
    /// Its certificate, where it has TLS.
    certificate: Option<String>,
    files: Arc<Mutex<BTreeMap<String, Answer>>>,
    requests: Arc<AtomicUsize>,
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

impl Files {
    fn start() -> Self {
        Self::serve(None, None)
    }

    fn with_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self::serve(Some(Arc::new(config)), Some(made.cert.pem()))
    }

    fn serve(tls: Option<Arc<rustls::ServerConfig>>, certificate: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files: Arc<Mutex<BTreeMap<String, Answer>>> = Arc::default();
        let requests: Arc<AtomicUsize> = Arc::default();
        let (served, counted) = (files.clone(), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream: Box<dyn ReadWrite> = match &tls {
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
                        Box::new(rustls::StreamOwned::new(connection, stream))
                    }
                    None => Box::new(stream),
                };
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
                let _ = Self::answer(&mut *stream, served.lock().unwrap().get(&path));
            }
        });
        Self {
            address,
            certificate,
            files,
            requests,
        }
    }

    fn answer(stream: &mut dyn ReadWrite, answer: Option<&Answer>) -> std::io::Result<()> {
        let (status, header, body) = match answer {
            Some(Answer::Body(body)) => ("200 OK", format!("Content-Length: {}", body.len()), &body[..]),
            Some(Answer::Redirect(to)) => ("302 Found", format!("Content-Length: 0\r\nLocation: {to}"), &[][..]),
            Some(Answer::Long(_)) => ("200 OK", "X-Length: none".to_owned(), &[][..]),
            None => ("404 Not Found", "Content-Length: 0".to_owned(), &[][..]),
        };
        let head = format!("HTTP/1.1 {status}\r\n{header}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        if let Some(Answer::Long(length)) = answer {
            for _ in 0..length >> 20 {
                stream.write_all(&[b'x'; 1 << 20])?;
            }
        }
        stream.flush()
    }

    fn answers(&self, path: &str, answer: Answer) {
        self.files.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn put(&self, path: &str, body: &[u8]) {
        self.answers(path, Answer::Body(body.to_vec()));
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// A folder with what curl and wget trust this server by.
    fn trust(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.crt");
        fs::write(&ca, self.certificate.as_deref().unwrap_or_default()).unwrap();
        fs::write(
            folder.path().join("wgetrc"),
            format!("ca_certificate = {}\n", ca.display()),
        )
        .unwrap();
        folder
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
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

fn fetch(path: Option<&Path>, folder: &Path, url: &str, sum: &str, programs: &[&str]) -> Output {
    fetch_trusting(None, path, folder, url, sum, programs)
}

fn fetch_trusting(
    trust: Option<&Path>,
    path: Option<&Path>,
    folder: &Path,
    url: &str,
    sum: &str,
    programs: &[&str],
) -> Output {
    let mut command = Command::new("/bin/sh");
    if let Some(trust) = trust {
        command.env("CURL_CA_BUNDLE", trust.join("ca.crt"));
        command.env("WGETRC", trust.join("wgetrc"));
    }
    command.args(["-s", "--"]).arg(folder).args([url, sum]).args(programs);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    for proxy in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
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
    let files = Files::with_tls();
    let trust = files.trust();
    let fetch = |path, folder: &Path, url: &str, sum: &str, programs: &[&str]| {
        fetch_trusting(Some(trust.path()), path, folder, url, sum, programs)
    };
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
    tools_without_fetchers(&bin);
    let folder = dir.path().join("3.6.14");
    let url = files.url("/etcd.tar.gz");
    assert!(refusal(&fetch(Some(&bin), &folder, &url, &sum(&good), THREE), 72).contains("neither curl nor wget"));
    if Path::new("/usr/bin/wget").exists() {
        symlink("/usr/bin/wget", bin.join("wget")).unwrap();
        assert_eq!(word(&fetch(Some(&bin), &folder, &url, &sum(&good), THREE)), "changed");
    }
}

/// What fetches files, each in a folder for `PATH` without the others.
fn fetchers(dir: &Path) -> Vec<PathBuf> {
    let of = |name: &str| {
        let (program, bin) = (Path::new("/usr/bin").join(name), dir.join(name));
        tools_without_fetchers(&bin);
        symlink(&program, bin.join(name)).unwrap();
        program.exists().then_some(bin)
    };
    ["curl", "wget"].into_iter().filter_map(of).collect()
}

#[test]
fn what_was_asked_for_over_tls_never_comes_without_it() {
    let (plain, secure) = (Files::start(), Files::with_tls());
    let trust = secure.trust();
    let good = archive(THREE);
    let sums = format!("{}  etcd.tar.gz\n", sum(&good));
    for files in [&plain, &secure] {
        files.put("/v/etcd.tar.gz", &good);
        files.put("/v/SHA256SUMS", sums.as_bytes());
    }
    secure.answers("/down/etcd.tar.gz", Answer::Redirect(plain.url("/v/etcd.tar.gz")));
    secure.answers("/sums/etcd.tar.gz", Answer::Redirect(secure.url("/v/etcd.tar.gz")));
    secure.answers("/sums/SHA256SUMS", Answer::Redirect(plain.url("/v/SHA256SUMS")));
    secure.answers("/moved/etcd.tar.gz", Answer::Redirect(secure.url("/v/etcd.tar.gz")));
    secure.put("/moved/SHA256SUMS", sums.as_bytes());
    plain.answers("/up/etcd.tar.gz", Answer::Redirect(secure.url("/v/etcd.tar.gz")));
    let dir = tempfile::tempdir().unwrap();
    for bin in fetchers(dir.path()) {
        let folder = bin.join("3.6.14");
        let fetch = |url: &str, sum: &str| fetch_trusting(Some(trust.path()), Some(&bin), &folder, url, sum, THREE);
        let asked = plain.requests.load(Ordering::SeqCst);
        let said = refusal(&fetch(&secure.url("/down/etcd.tar.gz"), &sum(&good)), 69);
        assert!(said.contains("/down/etcd.tar.gz can't be fetched"), "{said}");
        let said = refusal(&fetch(&secure.url("/sums/etcd.tar.gz"), ""), 69);
        assert!(said.contains("/sums/SHA256SUMS can't be fetched"), "{said}");
        if bin.ends_with("curl") {
            assert_eq!(plain.requests.load(Ordering::SeqCst), asked, "it was asked without TLS");
        }
        // Without TLS only a sum that is known before says what it is.
        let said = refusal(&fetch(&plain.url("/v/etcd.tar.gz"), ""), 65);
        assert!(said.contains("set binary.sha256"), "{said}");
        assert!(!folder.exists());
        assert!(refusal(&fetch("ftp://127.0.0.1/etcd.tar.gz", &sum(&good)), 69).contains("does not begin with"));
        assert_eq!(word(&fetch(&plain.url("/up/etcd.tar.gz"), &sum(&good))), "changed");
        assert_eq!(word(&fetch(&secure.url("/moved/etcd.tar.gz"), "")), "changed");
    }
}

#[test]
fn no_more_is_read_than_a_release_has() {
    let files = Files::with_tls();
    let trust = files.trust();
    files.answers("/long/etcd.tar.gz", Answer::Long(300 << 20));
    files.put("/v/etcd.tar.gz", &archive(THREE));
    files.answers("/v/SHA256SUMS", Answer::Long(4 << 20));
    let dir = tempfile::tempdir().unwrap();
    for bin in fetchers(dir.path()) {
        let folder = bin.join("3.6.14");
        let fetch = |url: &str, sum: &str| fetch_trusting(Some(trust.path()), Some(&bin), &folder, url, sum, THREE);
        let said = refusal(&fetch(&files.url("/long/etcd.tar.gz"), &"0".repeat(64)), 69);
        assert!(said.contains("is longer than 256 MiB"), "{said}");
        let said = refusal(&fetch(&files.url("/v/etcd.tar.gz"), ""), 69);
        assert!(said.contains("SHA256SUMS is longer than 1 MiB"), "{said}");
        assert!(!folder.exists());
    }
}

/// What the script needs, without what it fetches with.
fn tools_without_fetchers(bin: &Path) {
    fs::create_dir(bin).unwrap();
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
        "grep",
        "wc",
    ];
    for tool in tools {
        let place = ["/usr/bin", "/bin"]
            .iter()
            .map(|b| Path::new(b).join(tool))
            .find(|p| p.exists())
            .unwrap();
        symlink(place, bin.join(tool)).unwrap();
    }
}
