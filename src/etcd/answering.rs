//! Which member answers at an address: told by the certificate that it shows to peers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::host::Host;

/// The stable name, one of `names`, that the member at this address has a certificate for, dialled from a server. `None` if that can't be told:
/// nothing answers, or it is none of them. Only for an address that is known to answer: a silent one would hold up the connection to the
/// server.
pub async fn member_at(
    from: &Host,
    place: SocketAddr,
    authority_pem: &str,
    names: &[String],
    within: Duration,
) -> Option<String> {
    let verifier = Arc::new(Naming::new(authority_pem, names)?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let configuration = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(configuration));
    let name = ServerName::try_from(names.first()?.clone()).ok()?;
    let handshake = async {
        let tunnel = from.tcp(&place.ip().to_string(), place.port()).await.ok()?;
        // The member refuses us, who show it none. That comes after its own certificate.
        connector.connect(name, tunnel).await.ok().map(drop)
    };
    let _ = timeout(within, handshake).await;
    let found = verifier.found.lock().unwrap_or_else(PoisonError::into_inner);
    found.clone()
}

/// Notes for which of several names a certificate is.
#[derive(Debug)]
struct Naming {
    usual: Arc<WebPkiServerVerifier>,
    names: Vec<(String, ServerName<'static>)>,
    found: Mutex<Option<String>>,
}

impl Naming {
    fn new(authority_pem: &str, names: &[String]) -> Option<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
            roots.add(certificate.ok()?).ok()?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let parsed = { names.iter() }.filter_map(|name| Some((name.clone(), ServerName::try_from(name.clone()).ok()?)));
        Some(Self {
            usual: usual.build().ok()?,
            names: parsed.collect(),
            found: Mutex::default(),
        })
    }
}

impl ServerCertVerifier for Naming {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fits = |name: &ServerName<'_>| {
            let verified = self
                .usual
                .verify_server_cert(certificate, intermediates, name, ocsp, now);
            verified.is_ok()
        };
        let found = self.names.iter().find(|(_, name)| fits(name));
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found.map(|(name, _)| name.clone());
        // Nothing is ever sent there.
        Err(rustls::Error::General("seen".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
