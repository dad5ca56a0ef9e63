//! k3s with embedded etcd across networks. The program is the stand-in of the lab, unless `K3S_BIN` names a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Hairpin, Lab};
use serde_json::Value;

use crate::configuration::{Configuration, quoted};
use crate::fingerprint::Fingerprint;
use crate::outside::eventually;
use crate::prefix;
use crate::terraform::Terraform;

mod datastore;
mod names;
mod objects;
mod removed;
mod servers;
mod silence;
mod translation;
mod volumes;

const ETCD: &str = "3.6.16";
/// Where the tests put the program on hosts, and a later version of it.
const PROGRAM: &str = "/opt/k3s-bin/k3s";
const NEXT: &str = "/opt/k3s-bin/next/k3s";
const NEXT_VERSION: &str = "v1.36.4+stand-in";

/// The real program, where there is one.
fn real() -> Option<PathBuf> {
    std::env::var_os("K3S_BIN")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// The program that the tests run.
fn program() -> PathBuf {
    real().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_k3s-stand-in")))
}

/// A lab with the program on every host, its sites 50 ms apart and their routers without hairpin.
fn lab(test: &str, hosts: &[&str]) -> Result<Lab> {
    let builder = Builder::standard(&prefix(test)).hairpin(Hairpin::Dropped);
    let lab = builder.only(hosts).up()?;
    lab.wan_everywhere(Delay::ms(25.0))?;
    for host in hosts {
        give_program(&lab, host)?;
    }
    Ok(lab)
}

fn give_program(lab: &Lab, host: &str) -> Result<()> {
    let program = program();
    let bytes = std::fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
    lab.write_file(host, PROGRAM, &bytes)?;
    let script = format!(
        "chmod 755 {PROGRAM}; mkdir -p $(dirname {NEXT}); ln {PROGRAM} {NEXT}; echo {NEXT_VERSION} >{NEXT}.version"
    );
    lab.exec(host, &script)?.ok().map(drop)
}

/// How long each step of a test took.
struct Steps(std::time::Instant);

impl Steps {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn done(&mut self, what: &str) {
        eprintln!("{:6.1} s  {what}", self.0.elapsed().as_secs_f64());
        self.0 = std::time::Instant::now();
    }
}

/// A k3s cluster `main` of these hosts as a user writes it, with places where a test can put something else.
#[derive(Clone)]
struct K3s {
    base: Configuration,
    cluster: BTreeMap<String, String>,
    server: BTreeMap<String, String>,
    /// The servers that run k3s, if not all of them.
    running: Option<Vec<String>>,
    more: String,
}

impl K3s {
    fn new(lab: &Lab, hosts: &[&str]) -> Result<Self> {
        Ok(Self {
            base: Configuration::new(lab, hosts, ETCD)?.only_servers(),
            cluster: BTreeMap::new(),
            server: BTreeMap::from([
                ("install".to_owned(), format!("{{ host_path = {} }}", quoted(PROGRAM))),
                (
                    "config".to_owned(),
                    "{ \"disable-agent\" = \"true\", \"flannel-backend\" = \"none\", \"disable\" = jsonencode([\"traefik\", \"servicelb\"]) }"
                        .to_owned(),
                ),
                ("on_destroy".to_owned(), quoted("delete_data")),
            ]),
            running: None,
            more: String::new(),
        })
    }

    fn running(mut self, hosts: &[&str]) -> Self {
        self.running = Some(hosts.iter().map(|host| (*host).to_owned()).collect());
        self
    }

    fn server(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.server.insert(name.to_owned(), expression.into());
        self
    }

    fn cluster(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.cluster.insert(name.to_owned(), expression.into());
        self
    }

    fn render(&self) -> String {
        let mut text = self.base.render();
        let names: Vec<&String> = self.base.servers.keys().collect();
        let servers: Vec<String> = names
            .iter()
            .map(|name| format!("{name} = etcd_server.{name}"))
            .collect();
        let arguments = |all: &BTreeMap<String, String>| {
            all.iter().fold(String::new(), |text, (name, value)| {
                format!("{text}  {name} = {value}\n")
            })
        };
        let _ = writeln!(
            text,
            "resource \"etcd_k3s_cluster\" \"main\" {{\n  name = \"main\"\n  servers = {{ {} }}\n{}}}",
            servers.join(", "),
            arguments(&self.cluster)
        );
        let all = || names.iter().map(|name| (*name).clone()).collect();
        let running: Vec<String> = self.running.clone().unwrap_or_else(all);
        let running: Vec<String> = running.iter().map(|name| quoted(name)).collect();
        let _ = writeln!(
            text,
            "resource \"etcd_k3s_server\" \"this\" {{\n  for_each = toset([{}])\n  cluster = etcd_k3s_cluster.main\n  server = each.key\n{}}}",
            running.join(", "),
            arguments(&self.server)
        );
        text + &self.more
    }
}

/// `etcdctl` as a client of the etcd at this address, with the certificate that k3s has for that.
fn etcdctl(address: &str) -> String {
    let tls = "/var/lib/rancher/k3s/server/tls/etcd";
    format!(
        "env ETCDCTL_API=3 /opt/etcd/{ETCD}/etcdctl --endpoints=https://{address}:2379 --cacert={tls}/server-ca.crt --cert={tls}/client.crt \
         --key={tls}/client.key"
    )
}

/// Runs `etcdctl` on the host as a client of the etcd in its k3s.
fn ctl(lab: &Lab, host: &str, arguments: &str) -> Result<String> {
    let command = etcdctl("127.0.0.1");
    lab.exec(
        host,
        // k3s has an election timeout of five seconds.
        &format!("{command} --dial-timeout=5s --command-timeout=20s {arguments}"),
    )?
    .ok()
    .with_context(|| format!("etcdctl {arguments} on {host}"))
}

/// The voters' names of servers and addresses in their peer URLs, as the host's member has them.
fn voters(lab: &Lab, host: &str) -> Result<BTreeMap<String, String>> {
    let listed: Value = serde_json::from_str(&ctl(lab, host, "member list -w json")?)?;
    let members = listed["members"].as_array().cloned().unwrap_or_default();
    let voters = members
        .iter()
        .filter(|one| !one["isLearner"].as_bool().unwrap_or(false));
    let voters = voters.map(|one| {
        let name = one["name"].as_str().unwrap_or_default();
        // k3s appends eight characters of its own.
        let server = name.rsplit_once('-').map_or(name, |(server, _)| server).to_owned();
        let url = one["peerURLs"][0].as_str().unwrap_or_default();
        (
            server,
            url.trim_start_matches("https://").trim_end_matches(":2380").to_owned(),
        )
    });
    Ok(voters.collect())
}

/// All these hosts vote, and nobody else; what is written at each is read at every other.
fn one_cluster(lab: &Lab, hosts: &[&str]) -> Result<BTreeMap<String, String>> {
    let all = voters(lab, hosts.first().context("no hosts")?)?;
    let names: BTreeSet<&str> = all.keys().map(String::as_str).collect();
    ensure!(
        names == hosts.iter().copied().collect(),
        "{all:?} vote, and not {hosts:?}"
    );
    let stamp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_nanos();
    for writer in hosts {
        ctl(lab, writer, &format!("put /seen/{stamp}/{writer} {writer}"))?;
    }
    for reader in hosts {
        let read = ctl(lab, reader, &format!("get --prefix --print-value-only /seen/{stamp}/"))?;
        let read: BTreeSet<&str> = read.lines().collect();
        ensure!(read == hosts.iter().copied().collect(), "{reader} reads {read:?}");
    }
    Ok(all)
}

/// The same, once that is so.
fn becomes_one_cluster(lab: &Lab, hosts: &[&str]) -> Result<()> {
    eventually("one cluster", || one_cluster(lab, hosts).map(|_| true))
}

/// The addresses to which packets of the host's connections with port 2380 really go, as its connection tracking has them or else `ss`.
fn reached(lab: &Lab, host: &str) -> Result<BTreeSet<String>> {
    let text = lab.exec(host, "ss -Htn state established dport = :2380")?.ok()?;
    let peers = text.lines().filter_map(|line| {
        line.split_whitespace()
            .nth(3)?
            .rsplit_once(':')
            .map(|(address, _)| address.to_owned())
    });
    Ok(peers.collect())
}

/// What a destroy must not leave. Nothing is an empty text.
fn leftovers(lab: &Lab, host: &str) -> Result<String> {
    let script = "systemctl --no-legend list-unit-files '*k3s*'; systemctl --no-legend --all list-units '*k3s*'
        nft list tables | grep etcd_k3s; ip -4 -o address show dev lo | grep -v 127.0.0.1; ls -d /etc/etcd-k3s /run/etcd-k3s /etc/rancher /var/lib/rancher* 2>/dev/null
        ss -Hltn 'sport = :2379 or sport = :2380 or sport = :6443'; pgrep -a k3s; pgrep -a etcd";
    lab.exec(host, script).map(|output| output.stdout)
}
