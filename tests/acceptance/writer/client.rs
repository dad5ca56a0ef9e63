//! A client of one member, from the machine that runs Terraform: by the member's public address, with mutual TLS.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use etcd_client::GetOptions;
use etcd_lab::Lab;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long to wait before a member is dialled again that did not let itself be dialled.
const AGAIN: Duration = Duration::from_millis(100);
/// How many keys are read at once.
const PAGE: i64 = 5000;

/// A client of the member on one host of the cluster `main`.
pub struct Client {
    prefix: String,
    host: String,
    way: Option<Way>,
    connected: Option<etcd_client::Client>,
}

/// The name of the member, and what to trust and to show.
type Tls = (ServerName<'static>, Arc<rustls::ClientConfig>);

/// Where the member is, and what to trust and to show: those that lie on its host.
#[derive(Clone)]
struct Way {
    address: String,
    tls: Option<Tls>,
}

impl Client {
    /// A client that looks up where the member is when it first needs it.
    pub fn new(prefix: &str, host: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            host: host.to_owned(),
            way: None,
            connected: None,
        }
    }

    /// The member's host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Writes a key. A connection on which something failed is not used again.
    pub async fn put(&mut self, key: &str, patience: Duration) -> Result<()> {
        let mut client = self.client(patience).await?;
        let Ok(put) = timeout(patience, client.put(key, key, None)).await else {
            self.connected = None;
            bail!("no answer in {patience:?}");
        };
        self.connected = put.is_ok().then_some(client);
        if put.is_err() {
            // The certificates may be others by now.
            self.way = None;
        }
        Ok(put.map(drop)?)
    }

    /// The numbers of all keys that begin with `keys`, read from a quorum.
    pub async fn numbers(&mut self, keys: &str, patience: Duration) -> Result<BTreeSet<u64>> {
        let mut client = self.client(patience).await?;
        let mut numbers = BTreeSet::new();
        let mut from = keys.to_owned();
        loop {
            let options = GetOptions::new().with_range(format!("{keys}:")).with_keys_only();
            let page = client.get(from.clone(), Some(options.with_limit(PAGE)));
            let page = timeout(patience, page).await.context("no answer")??;
            for pair in page.kvs() {
                let key = pair.key_str()?;
                numbers.insert(key.trim_start_matches(keys).parse().with_context(|| key.to_owned())?);
                from = format!("{key}\0");
            }
            if !page.more() {
                return Ok(numbers);
            }
        }
    }

    async fn client(&mut self, patience: Duration) -> Result<etcd_client::Client> {
        if let Some(client) = &self.connected {
            return Ok(client.clone());
        }
        let connecting = async {
            let way = match &self.way {
                Some(way) => way.clone(),
                None => look_up(&self.prefix, &self.host).await?,
            };
            self.way = Some(way.clone());
            etcd_client::Client::from_channel(etcd_client::Channel::Tonic(dial(way).await?), None)
                .await
                .context("no client")
        };
        let client = match timeout(patience, connecting).await {
            Ok(client) => client,
            Err(_) => {
                self.way = None;
                bail!("no connection in {patience:?}")
            }
        };
        if client.is_err() {
            self.way = None;
            tokio::time::sleep(AGAIN).await;
        }
        client
    }
}

/// The look takes processes of their own, and a thread where it may take its time.
async fn look_up(prefix: &str, host: &str) -> Result<Way> {
    let (prefix, host) = (prefix.to_owned(), host.to_owned());
    tokio::task::spawn_blocking(move || {
        let lab = Lab::attach(&prefix)?;
        let public = lab.public_address(&host)?.context("no public address")?;
        let port = client_port(&lab, &host)?;
        let address = format!("{public}:{}", lab.public_port(&host, port)?);
        if lab.exec(&host, "test -e /etc/plain-client")?.success() {
            let tls = plain_client(&lab, &host, public.to_string())?;
            return Ok(Way { address, tls });
        }
        let script = "cd /etc/etcd/main && test -e etcd.yaml && cd pki 2>/dev/null || exit 0; cat client-ca.crt; echo; echo =; \
                      cat server.crt; echo; echo =; cat server.key; test -s server.key";
        let installed = lab.exec(&host, "test -e /etc/etcd/main/etcd.yaml")?.success();
        ensure!(installed, "no member on {host} yet");
        let files = lab.exec(&host, script)?.ok()?;
        let tls = match files.split("\n=\n").collect::<Vec<_>>()[..] {
            [authority, certificate, key] => {
                let name = ServerName::try_from(format!("{host}.main.etcd.internal"))?;
                Some((name, Arc::new(configuration(authority, certificate, key)?)))
            }
            _ => None,
        };
        Ok(Way { address, tls })
    })
    .await?
}

/// The port for clients in the member's configuration; etcd's own before there is one.
fn client_port(lab: &Lab, host: &str) -> Result<u16> {
    let script = "sed -n 's/^listen-client-urls: .*:\\([0-9]*\\)[^0-9]*$/\\1/p' /etc/etcd/main/etcd.yaml";
    Ok(lab.exec(host, script)?.stdout.trim().parse().unwrap_or(2379))
}

/// What a client of a cluster that was made by other means was given: it knows members by their addresses, before and after.
fn plain_client(lab: &Lab, host: &str, address: String) -> Result<Option<Tls>> {
    let files = lab.exec(
        host,
        "cd /etc/plain-client; cat ca.crt; echo; echo =; cat client.crt; echo; echo =; cat client.key",
    )?;
    match files.stdout.split("\n=\n").collect::<Vec<_>>()[..] {
        [authority, certificate, key] if files.success() => {
            let name = ServerName::try_from(address)?;
            Ok(Some((name, Arc::new(configuration(authority, certificate, key)?))))
        }
        _ => Ok(None),
    }
}

fn configuration(authority: &str, certificate: &str, key: &str) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(root?)?;
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut configuration = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain?, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?;
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    Ok(configuration)
}

async fn dial(way: Way) -> Result<Channel> {
    let connector = tower::service_fn(move |_: Uri| {
        let way = way.clone();
        async move {
            let stream = TcpStream::connect(&way.address).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Both> = match way.tls {
                None => Box::new(stream),
                Some((name, configuration)) => Box::new(TlsConnector::from(configuration).connect(name, stream).await?),
            };
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The name only fills a header: the connector knows where to go.
    let endpoint = Endpoint::from_static("http://member");
    endpoint
        .connect_with_connector(connector)
        .await
        .context("no connection")
}

trait Both: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Both for T {}
