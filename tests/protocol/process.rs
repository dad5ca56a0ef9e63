//! The real binary, started as Terraform starts it.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P521_SHA512};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use terraform_provider_etcd::plugin::proto::go_plugin::Empty;
use terraform_provider_etcd::plugin::proto::go_plugin::grpc_controller_client::GrpcControllerClient;
use terraform_provider_etcd::plugin::proto::go_plugin::grpc_stdio_client::GrpcStdioClient;
use terraform_provider_etcd::plugin::proto::health::HealthCheckRequest;
use terraform_provider_etcd::plugin::proto::health::health_client::HealthClient;
use terraform_provider_etcd::plugin::proto::tfplugin6::get_provider_schema;
use terraform_provider_etcd::plugin::proto::tfplugin6::provider_client::ProviderClient;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

const BINARY: &str = env!("CARGO_BIN_EXE_terraform-provider-etcd");
const COOKIE: (&str, &str) = (
    "TF_PLUGIN_MAGIC_COOKIE",
    "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
);

/// A client certificate like Terraform's: self-signed, P-521, CA:true.
struct Client {
    pem: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Client {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key,
        }
    }

    fn connector(&self, server: CertificateDer<'static>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(server).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.certificate.clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

struct Started {
    process: Child,
    socket: String,
    certificate: CertificateDer<'static>,
    _directory: tempfile::TempDir,
}

async fn start(client: &Client) -> Started {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Command::new(BINARY)
        .env(COOKIE.0, COOKIE.1)
        .env("PLUGIN_CLIENT_CERT", &client.pem)
        .env("PLUGIN_PROTOCOL_VERSIONS", "5,6")
        .env("PLUGIN_UNIX_SOCKET_DIR", directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut line)
        .await
        .unwrap();
    let fields: Vec<&str> = line.trim_end().split('|').collect();
    assert_eq!(fields[..3], ["1", "6", "unix"], "{line}");
    assert_eq!(fields[4], "grpc");
    assert_eq!(fields.len(), 6);
    let certificate = CertificateDer::from(STANDARD_NO_PAD.decode(fields[5]).unwrap());
    Started {
        process,
        socket: fields[3].to_owned(),
        certificate,
        _directory: directory,
    }
}

async fn connect(started: &Started, client: &Client) -> Result<Channel, tonic::transport::Error> {
    let connector = client.connector(started.certificate.clone());
    let socket = started.socket.clone();
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let (connector, socket) = (connector.clone(), socket.clone());
            async move {
                let plain = UnixStream::connect(socket).await?;
                let stream = connector
                    .connect(ServerName::try_from("localhost").unwrap(), plain)
                    .await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        }))
        .await
}

#[tokio::test]
async fn terraform_is_answered_over_mutual_tls_and_can_end_the_process() {
    let client = Client::new();
    let begun = Instant::now();
    let mut started = start(&client).await;
    let channel = connect(&started, &client).await.unwrap();

    let schema = ProviderClient::new(channel.clone())
        .get_provider_schema(get_provider_schema::Request {})
        .await
        .unwrap()
        .into_inner();
    eprintln!("start to schema: {:?}", begun.elapsed());
    assert_eq!(schema.diagnostics, []);

    let health = HealthCheckRequest {
        service: "plugin".into(),
    };
    let health = HealthClient::new(channel.clone()).check(health).await.unwrap();
    assert_eq!(health.into_inner().status, 1);

    // Terraform holds this stream open all the time; it must not delay the end.
    let mut stdio = GrpcStdioClient::new(channel.clone())
        .stream_stdio(Empty {})
        .await
        .unwrap()
        .into_inner();
    GrpcControllerClient::new(channel).shutdown(Empty {}).await.unwrap();
    assert_eq!(stdio.message().await.ok().flatten(), None);
    let ended = tokio::time::timeout(Duration::from_secs(2), started.process.wait()).await;
    assert!(ended.expect("ends in time").unwrap().success());
    assert!(!std::path::Path::new(&started.socket).exists());
}

#[tokio::test]
async fn another_certificate_is_refused() {
    let client = Client::new();
    let started = start(&client).await;
    let stranger = Client::new();
    let refused = match connect(&started, &stranger).await {
        Err(_) => true,
        // TLS 1.3 lets the client believe that it is through until it hears otherwise.
        Ok(channel) => {
            let schema = ProviderClient::new(channel)
                .get_provider_schema(get_provider_schema::Request {})
                .await;
            schema.is_err()
        }
    };
    assert!(refused);
    connect(&started, &client).await.expect("the right one still comes in");
}

#[tokio::test]
async fn an_interrupt_is_left_to_terraform() {
    let client = Client::new();
    let mut started = start(&client).await;
    let pid = started.process.id().unwrap().to_string();
    // Signals are handled as soon as the line is out; give the task its turn.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(started.process.try_wait().unwrap().is_none());
    connect(&started, &client).await.unwrap();
}

#[tokio::test]
async fn started_by_hand_it_says_what_it_is() {
    let output = Command::new(BINARY).env_remove(COOKIE.0).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("This is a Terraform provider"), "{message}");
}

#[tokio::test]
async fn the_version_is_told() {
    let output = Command::new(BINARY).arg("--version").output().await.unwrap();
    assert!(output.status.success());
    let line = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        line.trim_end(),
        format!("terraform-provider-etcd {}", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn for_a_debugger_it_runs_until_interrupted() {
    let mut process = Command::new(BINARY)
        .arg("--debug")
        .env_remove(COOKIE.0)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = loop {
        let line = lines.next_line().await.unwrap().expect("the variable is shown");
        if let Some(value) = line.trim().strip_prefix("export TF_REATTACH_PROVIDERS='") {
            break value.trim_end_matches('\'').to_owned();
        }
    };
    let reattach: serde_json::Value = serde_json::from_str(&line).unwrap();
    let socket = reattach["crossnet/etcd"]["Addr"]["String"].as_str().unwrap().to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap();
    let schema = ProviderClient::new(channel)
        .get_provider_schema(get_provider_schema::Request {})
        .await;
    assert!(schema.is_ok());
    let pid = process.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let ended = tokio::time::timeout(Duration::from_secs(3), process.wait()).await;
    assert!(ended.expect("ends in time").unwrap().success());
}

#[tokio::test]
async fn it_does_not_outlive_terraform() {
    let directory = tempfile::tempdir().unwrap();
    // The shell stands for a Terraform that dies without a farewell: it waits for a line, and ends.
    let mut shell = Command::new("sh")
        .args(["-c", "\"$0\" & read -r line; echo $!", BINARY])
        .env(COOKIE.0, COOKIE.1)
        .env("PLUGIN_UNIX_SOCKET_DIR", directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
    let handshake = lines.next_line().await.unwrap().unwrap();
    assert!(handshake.starts_with("1|6|unix|"));
    let sockets = || std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(sockets(), 1);
    drop(shell.stdin.take());
    let pid = lines.next_line().await.unwrap().unwrap();
    let ended = async {
        while sockets() == 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
    if ended.is_err() {
        let _ = Command::new("kill").args(["-KILL", &pid]).status().await;
    }
    assert!(ended.is_ok(), "it ends by itself");
}
