//! The way to a member's client port: through the SSH connection to its server, and TLS inside. No port is opened on this machine.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerified;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ApiError, Elsewhere};
use crate::etcd::verifier::{IsFor, Names, Verifier};
use crate::host::{Host, Secret, Tunnel, TunnelError};

/// Where a member listens for clients, as seen from its own server.
#[derive(Clone, Debug)]
pub struct ApiTarget {
    /// Address on the server, its loopback as a rule.
    pub address: IpAddr,
    /// Port of the client URL.
    pub port: u16,
    /// Where it may listen while that port is still to become its own.
    pub elsewhere: Option<Elsewhere>,
    /// What to trust and to show; `None`: no TLS.
    pub tls: Option<TlsMaterial>,
    /// The name that the member's certificate must carry. Messages call the member by it.
    pub server_name: String,
    /// Other addresses of the server's own, for a member that was set up by other means: where it may listen instead, and what its
    /// certificate may carry in place of the name.
    pub other_addresses: Vec<IpAddr>,
}

/// What to trust and to show, in PEM.
#[derive(Clone, Debug)]
pub struct TlsMaterial {
    /// Authorities that the member's certificate must come from: one, or a bundle.
    pub ca_pem: String,
    /// Our certificate, with intermediates if any.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: Secret,
}

/// A stream to a member, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The protocols of the client port (RFC 7301).
#[derive(Clone, Copy)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// The last thing that TLS objected to on any connection to one member. With TLS 1.3 a member refuses our certificate only after the handshake,
/// and what HTTP makes of that error no longer says why.
#[derive(Clone, Default)]
pub(super) struct Objection(Arc<Mutex<Option<String>>>);

impl Objection {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, why: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// A TLS stream whose errors are remembered.
struct Watched {
    stream: TlsStream<Tunnel>,
    objection: Objection,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &result
            && let Some(why) = tls_reason(error)
        {
            self.objection.keep(why);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Dials one member, as often as needed.
#[derive(Clone)]
pub(super) struct Dialler {
    host: Host,
    addresses: Vec<String>,
    port: u16,
    elsewhere: Option<Elsewhere>,
    member: String,
    tls: Option<Tls>,
    pub(super) objection: Objection,
}

#[derive(Clone)]
struct Tls {
    name: ServerName<'static>,
    grpc: Arc<rustls::ClientConfig>,
    http: Arc<rustls::ClientConfig>,
}

impl Dialler {
    pub(super) fn new(host: &Host, target: &ApiTarget) -> Result<Self, ApiError> {
        let unusable = |why: String| ApiError::Tls {
            member: target.server_name.clone(),
            why,
        };
        let tls = match &target.tls {
            None => None,
            Some(material) => {
                let name =
                    ServerName::try_from(target.server_name.clone()).map_err(|error| unusable(error.to_string()))?;
                let grpc = configuration(material, b"h2", &target.other_names()).map_err(unusable)?;
                let http = configuration(material, b"http/1.1", &target.other_names()).map_err(unusable)?;
                Some(Tls {
                    name,
                    grpc: Arc::new(grpc),
                    http: Arc::new(http),
                })
            }
        };
        Ok(Self {
            host: host.clone(),
            addresses: [target.address]
                .iter()
                .chain(&target.other_addresses)
                .map(IpAddr::to_string)
                .collect(),
            port: target.port,
            elsewhere: target.elsewhere.clone(),
            member: target.server_name.clone(),
            tls,
            objection: Objection::default(),
        })
    }

    async fn tunnel(&self) -> Result<Tunnel, TunnelError> {
        let outcome = self.tunnel_to(self.port).await;
        if let (Err(TunnelError::Refused { .. }), Some(elsewhere)) = (&outcome, &self.elsewhere)
            && let Some(port) = elsewhere.port(&self.host, self.port).await
        {
            return self.tunnel_to(port).await.or(outcome);
        }
        outcome
    }

    /// To the first of its addresses that is listened at.
    async fn tunnel_to(&self, port: u16) -> Result<Tunnel, TunnelError> {
        let (first, others) = self
            .addresses
            .split_first()
            .map_or(("", &[][..]), |(one, all)| (one.as_str(), all));
        let mut outcome = self.host.tcp(first, port).await;
        for address in others {
            if outcome.is_ok() {
                break;
            }
            outcome = self.host.tcp(address, port).await.or(outcome);
        }
        outcome
    }

    pub(super) async fn dial(&self, protocol: Protocol) -> Result<Box<dyn Stream>, ApiError> {
        let member = || self.member.clone();
        let tunnel = self.tunnel().await.map_err(|error| ApiError::Unreachable {
            member: member(),
            detail: error.to_string(),
        })?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(tunnel));
        };
        let configuration = match protocol {
            Protocol::Grpc => &tls.grpc,
            Protocol::Http => &tls.http,
        };
        let connector = TlsConnector::from(Arc::clone(configuration));
        match connector.connect(tls.name.clone(), tunnel).await {
            Ok(stream) => Ok(Box::new(Watched {
                stream,
                objection: self.objection.clone(),
            })),
            Err(error) => Err(match tls_reason(&error) {
                Some(why) => ApiError::Tls { member: member(), why },
                // Something that speaks no TLS, or an etcd that is only just starting or stopping.
                None => ApiError::Unreachable {
                    member: member(),
                    detail: format!("the connection ended in the TLS handshake: {error}"),
                },
            }),
        }
    }
}

impl ApiTarget {
    fn other_names(&self) -> Vec<ServerName<'static>> {
        if self.other_addresses.is_empty() {
            return Vec::new();
        }
        let addresses = [self.address].into_iter().chain(self.other_addresses.iter().copied());
        let localhost = ServerName::try_from("localhost").ok();
        addresses
            .map(|address| ServerName::IpAddress(address.into()))
            .chain(localhost)
            .collect()
    }
}

/// Takes a certificate for any of several names of one server.
struct AnyName(Vec<ServerName<'static>>);

impl Names for AnyName {
    fn decide(&self, name: &ServerName<'_>, is_for: &IsFor<'_>) -> Result<ServerCertVerified, rustls::Error> {
        let usual = is_for(name);
        if usual.is_err() && self.0.iter().any(|other| is_for(other).is_ok()) {
            return Ok(ServerCertVerified::assertion());
        }
        usual
    }
}

fn configuration(
    material: &TlsMaterial,
    protocol: &[u8],
    other_names: &[ServerName<'static>],
) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&material.ca_pem, "authority")? {
        roots
            .add(certificate)
            .map_err(|error| format!("authority certificate: {error}"))?;
    }
    let key = PrivateKeyDer::from_pem_slice(material.key_pem.expose().as_bytes())
        .map_err(|_| "our private key is not in PEM".to_owned())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| error.to_string())?;
    let names = AnyName(other_names.to_vec());
    let verifier = Verifier { usual, names };
    let mut configuration = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(certificates(&material.cert_pem, "client")?, key)
        .map_err(|error| format!("our certificate and its key: {error}"))?;
    configuration.alpn_protocols = vec![protocol.to_vec()];
    Ok(configuration)
}

fn certificates(pem: &str, whose: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates.map_err(|error| format!("{whose} certificate: {error}"))?;
    if certificates.is_empty() {
        Err(format!("{whose} certificate: no certificate in PEM"))
    } else {
        Ok(certificates)
    }
}

/// What rustls objects to, when it is rustls. A refusal of our own certificate comes as an alert, and with TLS 1.3 only after the handshake.
pub(super) fn tls_reason(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(reason) = error.downcast_ref::<rustls::Error>() {
            return Some(explained(reason));
        }
        // An I/O error hides what it holds from `source`.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(reason) = held.and_then(|held| held.downcast_ref::<rustls::Error>()) {
            return Some(explained(reason));
        }
        next = error.source();
    }
    None
}

fn explained(reason: &rustls::Error) -> String {
    match reason {
        rustls::Error::AlertReceived(alert) => {
            format!("the member refused our client certificate or connection: {alert:?}")
        }
        other => other.to_string(),
    }
}
