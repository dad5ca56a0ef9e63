//! Real etcd of every minor version that is at hand, started from the files that are rendered for it.
//!
//! The binaries are looked for in `$ETCD_BINARIES` or `~/.cache/terraform-provider-etcd/etcd`, in folders named after
//! their versions. Versions that aren't there are not tried.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use terraform_provider_etcd::etcd::certificates::{Ca, CaPurpose, Leaf, LeafRequest, Serial, revocation_list};
use terraform_provider_etcd::etcd::config::{ClientTls, InitialClusterState, MemberConfig, PeerTls, render};
use terraform_provider_etcd::etcd::version::Version;
use terraform_provider_etcd::topology::{ClusterName, Domain, NetworkName, Scheme, Server, ServerName, Topology};
use time::OffsetDateTime;

fn binaries() -> Vec<(Version, PathBuf)> {
    let folder = std::env::var_os("ETCD_BINARIES").map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_default();
            Path::new(&home).join(".cache/terraform-provider-etcd/etcd")
        },
        PathBuf::from,
    );
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let version = Version::parse(&entry.file_name().to_string_lossy());
        if let Ok(version) = version
            && entry.path().join("etcd").is_file()
        {
            found.push((version, entry.path()));
        }
    }
    found.sort();
    found
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn write_leaf(folder: &Path, name: &str, leaf: &Leaf) -> (PathBuf, PathBuf) {
    let paths = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    std::fs::write(&paths.0, &leaf.cert_pem).unwrap();
    std::fs::write(&paths.1, leaf.key_pem.expose()).unwrap();
    paths
}

fn start(binaries: &Path, config: &Path, log: &Path) -> Running {
    let log = std::fs::File::create(log).unwrap();
    let child = Command::new(binaries.join("etcd"))
        .arg("--config-file")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Running(child)
}

fn etcdctl(binaries: &Path, folder: &Path, port: u16, args: &[&str]) -> Result<String, String> {
    etcdctl_as("operator", binaries, folder, port, args)
}

/// Whether a member lets a peer in that shows this certificate.
fn enters(folder: &Path, certificate: &str, port: u16) -> bool {
    let file = |ending: &str| folder.join(format!("{certificate}.{ending}"));
    let asked = Command::new("curl")
        .args([
            "-sk",
            "--noproxy",
            "*",
            "--http1.1",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ])
        .arg("--cert")
        .arg(file("crt"))
        .arg("--key")
        .arg(file("key"))
        .arg(format!("https://127.0.0.1:{port}/members"))
        .output()
        .unwrap();
    asked.stdout == b"200"
}

fn etcdctl_as(user: &str, binaries: &Path, folder: &Path, port: u16, args: &[&str]) -> Result<String, String> {
    let output = Command::new(binaries.join("etcdctl"))
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints=https://localhost:{port}"))
        .arg(format!("--cacert={}", folder.join("client-ca.crt").display()))
        .arg(format!("--cert={}", folder.join(format!("{user}.crt")).display()))
        .arg(format!("--key={}", folder.join(format!("{user}.key")).display()))
        .arg("--command-timeout=2s")
        .args(args)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn until_healthy(binaries: &Path, folder: &Path, port: u16, log: &Path, member: &mut Running) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let answer = etcdctl(binaries, folder, port, &["endpoint", "health"]);
        if answer.is_ok() {
            return;
        }
        let ended = member.0.try_wait().unwrap();
        if ended.is_some() || Instant::now() > deadline {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            panic!("{answer:?} {ended:?}\n{log}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn etcd_starts_from_the_rendered_files() {
    let binaries = binaries();
    if binaries.is_empty() {
        eprintln!("no etcd binaries were found; nothing was tried");
    }
    for (version, path) in binaries {
        found_and_restart(&version, &path);
        eprintln!("etcd {version}: founded from the name form, restarted from the asymmetric form");
    }
}

fn found_and_restart(version: &Version, binaries: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let cluster = ClusterName::parse("main").unwrap();
    let domain = Domain::of_cluster(&cluster);
    // Documentation addresses: the topology takes no loopback address, and the real listeners stand below.
    let server = Server {
        name: ServerName::parse("no").unwrap(),
        network: NetworkName::parse("a").unwrap(),
        private_address: "192.0.2.1".parse().unwrap(),
        public_address: None,
        egress_addresses: Vec::new(),
        peer_port: free_port(),
        client_port: free_port(),
    };
    let topology = Topology::new(cluster.clone(), domain.clone(), Scheme::Https, vec![server.clone()]).unwrap();
    let now = OffsetDateTime::now_utc();
    let peers = Ca::generate(&cluster, CaPurpose::Peers, now).unwrap();
    let clients = Ca::generate(&cluster, CaPurpose::Clients, now).unwrap();
    std::fs::write(folder.join("peer-ca.crt"), peers.cert_pem()).unwrap();
    std::fs::write(folder.join("client-ca.crt"), clients.cert_pem()).unwrap();
    let issue = |ca: &Ca, name: &str, request: &LeafRequest| write_leaf(folder, name, &ca.issue(request, now).unwrap());
    let peer = issue(
        &peers,
        "peer",
        &LeafRequest::peer_server(&server, &domain, version.minor()),
    );
    let peer_client = issue(&peers, "peer-client", &LeafRequest::peer_client(&server.name));
    let client_facing = issue(&clients, "server", &LeafRequest::client_server(&server, &domain));
    issue(&clients, "operator", &LeafRequest::operator("terraform"));
    // What was on another server, which was stolen.
    issue(&clients, "stolen", &LeafRequest::operator("root"));
    issue(&peers, "stolen-peer", &LeafRequest::operator("stolen"));
    let serials = ["stolen", "stolen-peer"].map(|name| {
        let pem = std::fs::read_to_string(folder.join(format!("{name}.crt"))).unwrap();
        Serial::read(&pem).unwrap()
    });
    let revoked = folder.join("revoked.crl");
    std::fs::write(&revoked, revocation_list("main-1", &serials.into()).unwrap()).unwrap();

    let standing = MemberConfig {
        name: server.name.to_string(),
        data_dir: folder.join("data"),
        listen_peer_urls: vec![format!("https://127.0.0.1:{}", server.peer_port)],
        listen_client_urls: vec![format!("https://127.0.0.1:{}", server.client_port)],
        initial_advertise_peer_urls: vec![topology.peer_url(&server.name).unwrap()],
        advertise_client_urls: vec![topology.client_url(&server.name).unwrap()],
        initial_cluster: topology.view(&server.name).unwrap().initial_cluster,
        initial_cluster_state: InitialClusterState::Existing,
        initial_cluster_token: "main-1".into(),
        peer_tls: Some(PeerTls {
            cert_file: peer.0,
            key_file: peer.1,
            client_cert_file: peer_client.0,
            client_key_file: peer_client.1,
            trusted_ca_file: folder.join("peer-ca.crt"),
        }),
        client_tls: Some(ClientTls {
            cert_file: client_facing.0,
            key_file: client_facing.1,
            trusted_ca_file: folder.join("client-ca.crt"),
        }),
        revoked_file: Some(revoked),
        heartbeat_interval_ms: 150,
        election_timeout_ms: 1500,
        extra: BTreeMap::from(
            [
                ("quota-backend-bytes", "4294967296"),
                ("auto-compaction-retention", "1"),
                ("grpc-keepalive-min-time", "5s"),
                ("max-txn-ops", "256"),
                ("log-level", "debug"),
                ("enable-pprof", "true"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        ),
    };
    let mut founding = standing.clone();
    founding.initial_cluster = topology.name_form();
    founding.initial_cluster_state = InitialClusterState::New;
    founding.revoked_file = None;

    for (step, config) in [("founding", &founding), ("standing", &standing)] {
        let path = folder.join(format!("{step}.yaml"));
        std::fs::write(&path, render(config, version).unwrap()).unwrap();
        let log = folder.join(format!("{step}.log"));
        let mut member = start(binaries, &path, &log);
        until_healthy(binaries, folder, server.client_port, &log, &mut member);
        if step == "founding" {
            etcdctl(binaries, folder, server.client_port, &["put", "k", "v"]).unwrap();
        } else {
            let got = etcdctl(
                binaries,
                folder,
                server.client_port,
                &["get", "k", "--print-value-only"],
            );
            assert_eq!(got.as_deref().map(str::trim), Ok("v"));
        }
        let accepts = step == "founding";
        let client = etcdctl_as("stolen", binaries, folder, server.client_port, &["get", "k"]);
        assert_eq!(client.is_ok(), accepts, "{version}, {step}: {client:?}");
        assert_eq!(
            enters(folder, "stolen-peer", server.peer_port),
            accepts,
            "{version}, {step}"
        );
        assert!(enters(folder, "peer-client", server.peer_port), "{version}, {step}");
        let members = etcdctl(binaries, folder, server.client_port, &["member", "list"]).unwrap();
        assert!(
            members.contains(&format!("started, no, {}", topology.peer_url(&server.name).unwrap())),
            "{members}"
        );
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(
            said.contains("\"level\":\"debug\""),
            "the log is JSON at the level that was asked for: {said}"
        );
    }
}
