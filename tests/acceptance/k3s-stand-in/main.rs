//! Plays `k3s server` in the acceptance tests: reads k3s' configuration files, makes the certificates that k3s makes, starts a real etcd as
//! k3s starts its own (addresses as URLs, ports, mutual TLS, times, learners), and answers at 6443 what a joining server asks. There is no
//! Kubernetes in it.

// It is a program of its own, with words on standard output.
#![allow(clippy::print_stdout)]

mod certificates;
mod etcd;
mod supervisor;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use certificates::Authorities;
use etcd::{Etcd, Initial};
use terraform_provider_etcd::etcd::yaml;

const SERVER: &str = "/var/lib/rancher/k3s/server";
const VERSION: &str = "v1.36.3+stand-in";

/// k3s' options, from its files.
struct Options(BTreeMap<String, Vec<String>>);

impl Options {
    fn read() -> Result<Self> {
        let mut files = vec!["/etc/rancher/k3s/config.yaml".into()];
        let mut parts: Vec<_> = fs::read_dir("/etc/rancher/k3s/config.yaml.d")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|ending| ending == "yaml" || ending == "yml")
            })
            .collect();
        parts.sort();
        files.append(&mut parts);
        let mut all = BTreeMap::new();
        for file in files.iter().filter(|file| Path::new(file).exists()) {
            let text = fs::read_to_string(file)?;
            let parsed = yaml::options(&text).with_context(|| format!("reading {}", file.display()))?;
            for (name, value) in parsed {
                let text = |value: &serde_json::Value| match value {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let values = match &value {
                    serde_json::Value::Array(all) => all.iter().map(text).collect(),
                    one => vec![text(one)],
                };
                // The last one counts.
                all.insert(name, values);
            }
        }
        Ok(Self(all))
    }

    fn one(&self, name: &str) -> Option<&str> {
        Some(self.0.get(name)?.last()?.as_str())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    fn token(&self) -> Result<String> {
        if let Some(token) = self.one("token") {
            return Ok(token.to_owned());
        }
        let file = self.one("token-file").context("there is no token")?;
        Ok(fs::read_to_string(file)
            .with_context(|| format!("reading {file}"))?
            .trim()
            .to_owned())
    }
}

/// The options that k3s compares when a server joins, and whether `servicelb` is disabled.
type Critical = BTreeMap<String, String>;

fn critical(options: &Options) -> Critical {
    let names = [
        "cluster-cidr",
        "cluster-dns",
        "cluster-domain",
        "disable-cloud-controller",
        "disable-helm-controller",
        "disable-network-policy",
        "egress-selector-mode",
        "embedded-registry",
        "flannel-backend",
        "flannel-external-ip",
        "flannel-ipv6-masq",
        "secrets-encryption",
        "service-cidr",
    ];
    let mut all: Critical = { names.iter() }
        .filter_map(|name| Some(((*name).to_owned(), options.one(name)?.to_owned())))
        .collect();
    let disabled = options.all("disable").iter().any(|one| one == "servicelb");
    all.insert("disable=servicelb".to_owned(), disabled.to_string());
    all
}

/// `K10<sum of the authority>::server:<password>`, or the password alone.
fn password(token: &str) -> &str {
    token.rsplit(':').next().unwrap_or(token)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--version") => {
            // Another text in a file beside the program makes it another version.
            let beside = std::env::current_exe()?.with_extension("version");
            let version = fs::read_to_string(beside).unwrap_or_else(|_| VERSION.to_owned());
            println!("k3s version {} (none)\ngo version none", version.trim());
            Ok(())
        }
        Some("server") => serve(),
        Some("kubectl") => Ok(()),
        _ => bail!("this only plays `k3s server`"),
    }
}

fn serve() -> Result<()> {
    let options = Options::read()?;
    fs::create_dir_all(format!("{SERVER}/db"))?;
    if let Some(endpoint) = options.one("datastore-endpoint") {
        return with_datastore(&options, endpoint);
    }
    let own = options.one("node-ip").context("no node-ip")?.to_owned();
    let token = options.token()?;
    let node = options.one("node-name").context("no node-name")?;
    let was_removed = put_away_what_was_removed()?;
    let has_log = fs::read_dir(format!("{SERVER}/db/etcd/member/wal")).is_ok_and(|mut files| files.next().is_some());
    let critical = critical(&options);
    let mut initial = Initial::Existing(String::new());
    let (authorities, join) = match options.one("server") {
        _ if has_log => (Authorities::load()?, None),
        Some(url) => {
            supervisor::compare(url, &token, &critical)?;
            (supervisor::bootstrap(url, &token)?, Some(url))
        }
        // As older releases do, without a word of it.
        None if options.one("cluster-init") == Some("true") || was_removed => {
            initial = Initial::New;
            (Authorities::load().or_else(|_| Authorities::make())?, None)
        }
        None => {
            fs::write(format!("{SERVER}/db/state.db"), "")?;
            bail!("without etcd's data, server and cluster-init this would be a cluster of its own, in SQLite");
        }
    };
    let mut names = vec![
        "127.0.0.1".to_owned(),
        "localhost".to_owned(),
        own.clone(),
        node.to_owned(),
    ];
    names.extend(options.all("tls-san"));
    names.extend(options.all("node-external-ip"));
    authorities.issue(&names)?;
    let etcd = Etcd::new(node, &own)?;
    if let Some(url) = join {
        initial = Initial::Existing(etcd.add_itself(|| supervisor::members(url, &token))?);
    }
    let removed = Arc::new(AtomicBool::new(false));
    let mut child = etcd.start(&initial, &removed)?;
    let etcd = Arc::new(etcd);
    {
        let (etcd, password) = (Arc::clone(&etcd), password(&token).to_owned());
        std::thread::spawn(move || {
            if let Err(error) = supervisor::listen(&etcd, &password, &critical) {
                eprintln!("level=fatal {error:#}");
                std::process::exit(1);
            }
        });
    }
    fs::write(
        format!("{SERVER}/token"),
        format!("{}\n", authorities.token(password(&token))),
    )?;
    fs::write(
        "/etc/rancher/k3s/k3s.yaml",
        "apiVersion: v1\nclusters:\n- cluster:\n    server: https://127.0.0.1:6443\n",
    )?;
    let mut ready = false;
    let mut rounds = 0u32;
    loop {
        if let Some(status) = child.try_wait()? {
            // What it said last is read by another thread.
            std::thread::sleep(Duration::from_millis(200));
            if removed.load(Ordering::SeqCst) {
                fs::write(format!("{SERVER}/db/etcd/tombstone"), "")?;
                eprintln!(
                    "level=info this node has been removed from the cluster please restart k3s to rejoin the cluster"
                );
                // What needs etcd ends k3s some seconds later.
                std::thread::sleep(Duration::from_secs(2));
            }
            bail!("level=fatal etcd ended: {status}");
        }
        if !ready && etcd.is_healthy() {
            ready = true;
            say_ready()?;
        }
        rounds += 1;
        // k3s looks after learners every 15 seconds, on the leader.
        if ready && rounds.is_multiple_of(60) {
            etcd.promote_learners();
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Puts away the data of a member that was removed, as k3s does wherever it finds its note of that.
fn put_away_what_was_removed() -> Result<bool> {
    let etcd = format!("{SERVER}/db/etcd");
    if !Path::new(&etcd).join("tombstone").exists() {
        return Ok(false);
    }
    eprintln!("level=info tombstone file has been detected, removing data dir to rejoin the cluster");
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    fs::rename(&etcd, format!("{etcd}-old-{seconds}"))?;
    Ok(true)
}

/// k3s on an etcd outside: writes what it would share with other servers, and goes on as long as that answers.
fn with_datastore(options: &Options, endpoint: &str) -> Result<()> {
    let file = |name| options.one(name).map(str::to_owned);
    let tls = [
        file("datastore-cafile"),
        file("datastore-certfile"),
        file("datastore-keyfile"),
    ];
    let put = || etcd::etcdctl(endpoint, &tls, &["put", "/bootstrap/stand-in", "x"]);
    let mut last = put();
    for _ in 0..30 {
        if last.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
        last = put();
    }
    last.context("level=fatal the datastore does not answer")?;
    fs::write(format!("{SERVER}/token"), format!("{}\n", options.token()?))?;
    fs::write(
        "/etc/rancher/k3s/k3s.yaml",
        "apiVersion: v1\nclusters:\n- cluster:\n    server: https://127.0.0.1:6443\n",
    )?;
    say_ready()?;
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// As `sd_notify` does.
fn say_ready() -> Result<()> {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else {
        return Ok(());
    };
    ensure!(path.starts_with('/'), "the socket of systemd's is elsewhere: {path}");
    let socket = UnixDatagram::unbound()?;
    socket.send_to(b"READY=1", path)?;
    Ok(())
}
