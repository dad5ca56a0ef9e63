//! How long the provider takes from its start to the answered schema, as Terraform asks for it (handshake line, mutual TLS with a
//! P-521 certificate, `GetProviderSchema`), and how much memory it has taken by then. See `benches/README.md`.
//!
//!     cargo bench --bench start

use std::io::{self, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use clap::Parser;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P521_SHA512};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use terraform_provider_etcd::plugin::proto::tfplugin6::get_provider_schema;
use terraform_provider_etcd::plugin::proto::tfplugin6::provider_client::ProviderClient;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-etcd");
/// go-plugin's sign that Terraform is the one who starts it.
const COOKIE: (&str, &str) = (
    "TF_PLUGIN_MAGIC_COOKIE",
    "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
);

/// Measures the provider's start and its memory.
#[derive(Parser)]
struct Arguments {
    /// How often it is started; one more start, the first, is not counted.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Another provider to measure, such as one in Go.
    #[arg(long, default_value = PROVIDER)]
    provider: String,
    /// Fail when the median time is more than this many milliseconds.
    #[arg(long)]
    at_most_ms: Option<f64>,
    /// Fail when the memory is more than this many MB (10^6 bytes).
    #[arg(long)]
    at_most_mb: Option<f64>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "--rounds: at least one is needed");
    let client = Client::new()?;
    client.start(&arguments.provider).await?;
    let (mut times, mut most_memory) = (Vec::new(), 0.0_f64);
    for _ in 0..arguments.rounds {
        let seen = client.start(&arguments.provider).await?;
        times.push(seen.took.as_secs_f64() * 1000.0);
        most_memory = most_memory.max(seen.memory_mb);
    }
    times.sort_by(f64::total_cmp);
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    let profile = if cfg!(debug_assertions) {
        " (UNOPTIMIZED BUILD)"
    } else {
        ""
    };
    writeln!(
        io::stdout(),
        "start to answered schema{profile}: {least:.1} ms least, {median:.1} ms median, {most:.1} ms most, of {}\n\
         memory at its highest (VmHWM): {most_memory:.1} MB",
        times.len()
    )?;
    if arguments.at_most_ms.is_some_and(|limit| median > limit) {
        bail!("the start takes too long: {median:.1} ms");
    }
    if arguments.at_most_mb.is_some_and(|limit| most_memory > limit) {
        bail!("the start takes too much memory: {most_memory:.1} MB");
    }
    Ok(())
}

/// What one start took.
struct Seen {
    took: Duration,
    memory_mb: f64,
}

/// A client with a certificate like Terraform's: self-signed, P-521, CA:true.
struct Client {
    pem: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Client {
    fn new() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key,
        })
    }

    /// Starts the provider, asks for its schema, and ends it.
    async fn start(&self, provider: &str) -> Result<Seen> {
        let directory = tempfile::tempdir()?;
        let begun = Instant::now();
        let mut process = Command::new(provider)
            .env(COOKIE.0, COOKIE.1)
            .env("PLUGIN_CLIENT_CERT", &self.pem)
            .env("PLUGIN_PROTOCOL_VERSIONS", "6")
            .env("PLUGIN_UNIX_SOCKET_DIR", directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {provider}"))?;
        let stdout = process.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let fields: Vec<&str> = line.trim_end().split('|').collect();
        let [_, "6", "unix", socket, "grpc", certificate, ..] = fields[..] else {
            bail!("not the handshake of a provider of protocol 6: {line:?}");
        };
        let connector = self.connector(STANDARD_NO_PAD.decode(certificate)?.into())?;
        let socket = socket.to_owned();
        let connect = tower::service_fn(move |_| {
            let (connector, socket) = (connector.clone(), socket.clone());
            async move {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let stream = connector.connect(name, UnixStream::connect(socket).await?).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connect)
            .await
            .context("connecting to the provider")?;
        ProviderClient::new(channel)
            .max_decoding_message_size(256 << 20)
            .get_provider_schema(get_provider_schema::Request {})
            .await
            .context("asking for the schema")?;
        let took = begun.elapsed();
        let id = process.id().context("the provider has ended")?;
        let memory_mb = memory_mb(id)?;
        process.kill().await?;
        Ok(Seen { took, memory_mb })
    }

    fn connector(&self, server: CertificateDer<'static>) -> Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        roots.add(server)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.certificate.clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// The most memory that the process has had, in MB (10^6 bytes).
fn memory_mb(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .context("no VmHWM in the process's status")?
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}
