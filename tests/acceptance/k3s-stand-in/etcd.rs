//! A real etcd, with the configuration that k3s gives to its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::SERVER;

/// How etcd starts where there is no data.
pub enum Initial {
    New,
    /// With these members, or with its data where there are none.
    Existing(String),
}

/// A member, as a joining server is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub peer_url: String,
    pub client_url: Option<String>,
    pub learner: bool,
    pub id: String,
}

pub struct Etcd {
    name: String,
    address: String,
}

fn program(name: &str) -> Result<PathBuf> {
    let mut versions: Vec<PathBuf> = { fs::read_dir("/opt/etcd")?.flatten() }
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("3.6."))
        })
        .collect();
    versions.sort();
    Ok(versions.last().context("no etcd 3.6 in /opt/etcd")?.join(name))
}

/// Runs `etcdctl`; its words.
pub fn etcdctl(endpoint: &str, tls: &[Option<String>; 3], arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program("etcdctl")?);
    command
        .args(["--dial-timeout=3s", "--command-timeout=10s"])
        .arg(format!("--endpoints={endpoint}"));
    for (name, file) in ["--cacert", "--cert", "--key"].iter().zip(tls) {
        if let Some(file) = file {
            command.arg(format!("{name}={file}"));
        }
    }
    let output = command.args(arguments).output()?;
    ensure!(
        output.status.success(),
        "etcdctl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Etcd {
    /// The name is kept, with the eight characters that k3s appends.
    pub fn new(node: &str, address: &str) -> Result<Self> {
        let file = format!("{SERVER}/db/etcd/name");
        let name = match fs::read_to_string(&file) {
            Ok(name) => name,
            Err(_) => {
                let mut bytes = [0u8; 4];
                getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
                let name = format!("{node}-{:08x}", u32::from_be_bytes(bytes));
                fs::create_dir_all(format!("{SERVER}/db/etcd"))?;
                fs::write(&file, &name)?;
                name
            }
        };
        Ok(Self {
            name,
            address: address.to_owned(),
        })
    }

    fn peer_url(&self) -> String {
        format!("https://{}:2380", self.address)
    }

    fn ctl(&self, endpoint: &str, arguments: &[&str]) -> Result<String> {
        let file = |name| Some(format!("{SERVER}/tls/etcd/{name}"));
        etcdctl(
            endpoint,
            &[file("server-ca.crt"), file("client.crt"), file("client.key")],
            arguments,
        )
    }

    /// Adds itself as a learner through the first member's client URL, as often as it takes. Returns the initial cluster.
    pub fn add_itself(&self, members: impl Fn() -> Result<Vec<Member>>) -> Result<String> {
        loop {
            let mut all = members()?;
            for one in &mut all {
                if one.name.is_empty() && one.peer_url == self.peer_url() {
                    one.name.clone_from(&self.name);
                }
            }
            let listed = |name: &str| {
                name.rsplit_once('-')
                    .map_or(name.to_owned(), |(node, _)| node.to_owned())
            };
            if all
                .iter()
                .any(|one| one.name != self.name && listed(&one.name) == listed(&self.name))
            {
                let _ = fs::remove_file(format!("{SERVER}/db/etcd/name"));
                bail!("level=fatal duplicate node name found, please use a unique name for this node");
            }
            let mut initial: Vec<String> = all.iter().map(|one| format!("{}={}", one.name, one.peer_url)).collect();
            if all.iter().any(|one| one.name == self.name) {
                return Ok(initial.join(","));
            }
            let first = all
                .iter()
                .find(|one| !one.learner)
                .and_then(|one| one.client_url.clone());
            let first = first.context("no member to join through")?;
            let added = self.ctl(
                &first,
                &[
                    "member",
                    "add",
                    &self.name,
                    "--learner",
                    &format!("--peer-urls={}", self.peer_url()),
                ],
            );
            match added {
                Ok(_) => {
                    initial.push(format!("{}={}", self.name, self.peer_url()));
                    return Ok(initial.join(","));
                }
                Err(error) => eprintln!("level=info waiting to join: {error:#}"),
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Starts etcd; it ends with this program. What it is given becomes true when etcd says that its member was removed.
    pub fn start(&self, initial: &Initial, removed: &Arc<AtomicBool>) -> Result<Child> {
        let folder = format!("{SERVER}/db/etcd");
        let tls = format!("{SERVER}/tls/etcd");
        let (state, cluster) = match initial {
            Initial::New => ("new", format!("{}={}", self.name, self.peer_url())),
            Initial::Existing(members) => ("existing", members.clone()),
        };
        let loopback = "https://127.0.0.1";
        let client = format!("https://{}:2379", self.address);
        let trust = |certificate: &str, authority: &str| {
            format!(
                "  cert-file: {tls}/{certificate}.crt\n  key-file: {tls}/{certificate}.key\n  client-cert-auth: true\n  trusted-ca-file: {tls}/{authority}.crt\n"
            )
        };
        let text = format!(
            "name: {name}\ndata-dir: {folder}\nlisten-peer-urls: {loopback}:2380,{peer}\nlisten-client-urls: {loopback}:2379,{client}\n\
             listen-client-http-urls: {loopback}:2382\nlisten-metrics-urls: http://127.0.0.1:2381\n\
             initial-advertise-peer-urls: {peer}\nadvertise-client-urls: {client}\ninitial-cluster: {cluster}\ninitial-cluster-state: {state}\n\
             heartbeat-interval: 500\nelection-timeout: 5000\nsnapshot-count: 10000\nsocket-options:\n  reuse-address: true\n  reuse-port: true\n\
             client-transport-security:\n{clients}peer-transport-security:\n{peers}",
            name = self.name,
            peer = self.peer_url(),
            clients = trust("server-client", "server-ca"),
            peers = trust("peer-server-client", "peer-ca"),
        );
        fs::write(format!("{folder}/config"), text)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(program("etcd")?)
            .arg(format!("--config-file={folder}/config"));
        let mut child = command.stderr(Stdio::piped()).spawn().context("starting etcd")?;
        let (words, removed) = (child.stderr.take().context("no standard error")?, Arc::clone(removed));
        std::thread::spawn(move || {
            for line in BufReader::new(words).lines().map_while(Result::ok) {
                // As etcd's `ErrMemberRemoved` has it.
                if line.contains("the member has been permanently removed from the cluster") {
                    removed.store(true, Ordering::SeqCst);
                }
                eprintln!("{line}");
            }
        });
        Ok(child)
    }

    pub fn members(&self) -> Result<Vec<Member>> {
        let text = self.ctl("https://127.0.0.1:2379", &["member", "list", "-w", "json"])?;
        let listed: Value = serde_json::from_str(&text)?;
        let members = listed["members"].as_array().cloned().unwrap_or_default();
        let first = |value: &Value| value[0].as_str().map(str::to_owned);
        let members = members.iter().map(|one| Member {
            name: one["name"].as_str().unwrap_or_default().to_owned(),
            peer_url: first(&one["peerURLs"]).unwrap_or_default(),
            client_url: first(&one["clientURLs"]),
            learner: one["isLearner"].as_bool().unwrap_or(false),
            id: format!("{:x}", one["ID"].as_u64().unwrap_or_default()),
        });
        Ok(members.collect())
    }

    /// Whether it answers with a quorum behind it; learners don't.
    pub fn is_healthy(&self) -> bool {
        self.ctl("https://127.0.0.1:2379", &["get", "health"]).is_ok()
    }

    pub fn promote_learners(&self) {
        let leads = self
            .ctl("https://127.0.0.1:2379", &["endpoint", "status", "-w", "json"])
            .is_ok_and(|text| {
                let status: Value = serde_json::from_str(&text).unwrap_or_default();
                status[0]["Status"]["leader"] == status[0]["Status"]["header"]["member_id"]
            });
        for one in self.members().into_iter().flatten().filter(|one| leads && one.learner) {
            let _ = self.ctl("https://127.0.0.1:2379", &["member", "promote", &one.id]);
        }
    }
}
