//! etcd's API through the SSH connection, against real members on loopback with TLS. Every etcd that is found is tried:
//! those under `~/.cache/terraform-provider-etcd/etcd`, and the one on the path.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use terraform_provider_etcd::etcd::api::{Api, ApiError, ApiTarget, Pages, TlsMaterial};
use terraform_provider_etcd::etcd::certificates::{Ca, CaPurpose, Leaf, LeafRequest};
use terraform_provider_etcd::etcd::metrics::Metrics;
use terraform_provider_etcd::host::{ConnectOptions, Host, Secret};
use terraform_provider_etcd::topology::ClusterName;
use time::OffsetDateTime;

use crate::hosts;
use crate::sshd::{Sshd, free_port};

const TIME: Duration = Duration::from_secs(5);

fn binaries() -> Vec<PathBuf> {
    let cache = std::env::home_dir()
        .unwrap_or_default()
        .join(".cache/terraform-provider-etcd/etcd");
    let cached = std::fs::read_dir(cache)
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("etcd"));
    let installed = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&installed)
        .map(|folder| folder.join("etcd"))
        .collect::<Vec<_>>();
    cached.chain(installed).filter(|path| path.is_file()).collect()
}

struct Authority {
    ca: Ca,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let cluster: ClusterName = name.parse().expect("a name");
        let ca = Ca::generate(&cluster, CaPurpose::Clients, OffsetDateTime::now_utc()).expect("an authority");
        Self {
            ca,
            folder: folder.to_owned(),
        }
    }

    fn issue(&self, request: &LeafRequest) -> Leaf {
        self.ca
            .issue(request, OffsetDateTime::now_utc())
            .expect("a certificate")
    }

    /// Writes what a member shows, and returns the flags for it.
    fn server_flags(&self) -> Vec<String> {
        let request = LeafRequest {
            dns_names: vec!["a1.main.test".to_owned(), "localhost".to_owned()],
            ip_addresses: vec![Ipv4Addr::LOCALHOST.into()],
            server_auth: true,
            ..LeafRequest::operator("a1")
        };
        let leaf = self.issue(&request);
        let files = [
            ("--trusted-ca-file", "ca.crt", self.ca.cert_pem()),
            ("--cert-file", "server.crt", &leaf.cert_pem),
            ("--key-file", "server.key", leaf.key_pem.expose()),
        ];
        let written = files.map(|(flag, name, text)| {
            let path = self.folder.join(name);
            std::fs::write(&path, text).expect("written");
            format!("{flag}={}", path.display())
        });
        [written.to_vec(), vec!["--client-cert-auth".to_owned()]].concat()
    }

    fn material(&self, trusted: &Self) -> TlsMaterial {
        let leaf = self.issue(&LeafRequest::operator("terraform"));
        TlsMaterial {
            ca_pem: trusted.ca.cert_pem().to_owned(),
            cert_pem: leaf.cert_pem,
            key_pem: Secret::new(leaf.key_pem.expose()),
        }
    }
}

struct Etcd {
    child: Child,
    client_port: u16,
    peer_port: u16,
}

impl Etcd {
    fn start(binary: &Path, folder: &Path, flags: &[String]) -> Self {
        let (client_port, peer_port) = (free_port(), free_port());
        let scheme = if flags.is_empty() { "http" } else { "https" };
        let client = format!("{scheme}://127.0.0.1:{client_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let child = Command::new(binary)
            .args(["--name=a1", "--logger=zap", "--log-outputs=stderr"])
            .arg(format!(
                "--data-dir={}",
                folder.join(format!("data-{client_port}")).display()
            ))
            .args([
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
            ])
            .args([
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
            ])
            .arg(format!("--initial-cluster=a1={peer}"))
            .args(flags)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(folder.join("etcd.log")).expect("written"))
            .spawn()
            .expect("etcd starts");
        Self {
            child,
            client_port,
            peer_port,
        }
    }

    fn target(&self, tls: Option<TlsMaterial>) -> ApiTarget {
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        ApiTarget {
            address,
            port: self.client_port,
            elsewhere: None,
            tls,
            server_name: "a1.main.test".to_owned(),
            other_addresses: Vec::new(),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn when_up(host: &Host, target: &ApiTarget) -> Api {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let error = match Api::connect(host, target, TIME).await {
            Ok(api) => match api.confirm_quorum(TIME).await {
                Ok(()) => return api,
                Err(error) => error,
            },
            Err(error) => error,
        };
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_answers_through_the_tunnel() {
    let binaries = binaries();
    if binaries.is_empty() {
        eprintln!("skipped: no etcd found");
        return;
    }
    let server = Sshd::start("");
    let host = hosts()
        .connect(&server.target(), ConnectOptions::default())
        .await
        .expect("connected");
    for binary in binaries {
        with_tls(&binary, &server, &host).await;
    }
}

async fn with_tls(binary: &Path, server: &Sshd, host: &Host) {
    let folder = server.folder.path();
    let authority = Authority::new(folder, "main");
    let stranger = Authority::new(folder, "other");
    let mut etcd = Etcd::start(binary, folder, &authority.server_flags());
    let api = when_up(host, &etcd.target(Some(authority.material(&authority)))).await;

    let status = api.status(TIME).await.expect("a status");
    assert!(
        status.has_leader() && status.is_leader() && !status.is_learner,
        "{status:?}"
    );
    let members = api.members(TIME).await.expect("members");
    assert_eq!(
        (members.len(), members[0].id, members[0].name.as_str()),
        (1, status.member_id, "a1")
    );
    assert!(members[0].has_started());
    assert_eq!(members[0].peer_urls, [format!("http://127.0.0.1:{}", etcd.peer_port)]);
    api.put("key", b"value", TIME).await.expect("written");
    assert_eq!(
        api.get("key", TIME).await.expect("read").as_deref(),
        Some(b"value".as_slice())
    );
    api.delete("key", TIME).await.expect("deleted");
    assert_eq!(api.get("key", TIME).await.expect("read"), None);
    assert!(api.alarms(TIME).await.expect("alarms").is_empty());
    let error = api.member_promote(42, TIME).await.expect_err("no such member");
    assert!(
        matches!(&error, ApiError::Rejected { message, .. } if message.contains("member not found")),
        "{error}"
    );

    let pages = Pages::new(host, &etcd.target(Some(authority.material(&authority)))).expect("pages");
    pages.connect(TIME).await.expect("connected");
    let metrics = Metrics::parse(&pages.get("/metrics", TIME).await.expect("metrics"));
    assert!(
        metrics.has_leader
            && metrics.is_leader
            && metrics.quota.is_some_and(|quota| quota > 0)
            && metrics.version.as_deref() == Some(&status.version)
    );
    assert!(pages.get("/health", TIME).await.expect("health").contains("true"));
    assert!(
        pages
            .get("/version", TIME)
            .await
            .expect("version")
            .contains(&status.version)
    );
    assert!(matches!(pages.get("/nothing", TIME).await, Err(ApiError::Rejected { code, .. }) if code == "404"));

    // Trust, each way round.
    let ours_unknown = etcd.target(Some(stranger.material(&authority)));
    let error = match Api::connect(host, &ours_unknown, TIME).await {
        Ok(api) => api.status(TIME).await.expect_err("refused"),
        Err(error) => error,
    };
    assert!(matches!(error, ApiError::Tls { .. }), "{error:?}");
    let theirs_unknown = etcd.target(Some(authority.material(&stranger)));
    let error = Api::connect(host, &theirs_unknown, TIME)
        .await
        .expect_err("unknown authority");
    assert!(matches!(error, ApiError::Tls { .. }), "{error:?}");
    let named = ApiTarget {
        server_name: "b1.main.test".to_owned(),
        ..etcd.target(Some(authority.material(&authority)))
    };
    let error = Api::connect(host, &named, TIME).await.expect_err("another name");
    assert!(
        matches!(&error, ApiError::Tls { why, .. } if why.contains("b1.main.test") || why.contains("name")),
        "{error:?}"
    );

    // A learner that never starts; then the member is gone.
    let url = vec![format!("http://127.0.0.1:{}", free_port())];
    let learner = api.member_add_learner(&url, TIME).await.expect("added");
    assert!(learner.is_learner && !learner.has_started() && learner.peer_urls == url);
    api.member_remove(learner.id, TIME).await.expect("removed");
    let _ = etcd.child.kill();
    let _ = etcd.child.wait();
    let error = api.status(Duration::from_secs(2)).await.expect_err("it is gone");
    assert!(matches!(error, ApiError::Unreachable { .. }), "{error:?}");
    let error = Api::connect(host, &etcd.target(None), TIME)
        .await
        .expect_err("it is gone");
    assert!(matches!(error, ApiError::Unreachable { .. }), "{error:?}");

    // Without TLS, and in two members of which one never comes: no leader.
    let plain = Etcd::start(binary, folder, &[]);
    when_up(host, &plain.target(None))
        .await
        .status(TIME)
        .await
        .expect("a status");
    drop(plain);
    eprintln!("{}: {}", binary.display(), status.version);
}
