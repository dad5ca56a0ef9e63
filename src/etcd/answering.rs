//! Which member answers at an address: told by the certificate that it shows to peers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerified;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::verifier::{IsFor, Names, Verifier};
use crate::host::Host;

/// The stable name, one of `names`, that the member at this address has a certificate for, dialled from a server. `None` if nothing
/// answers, or if the certificate is for another name. The address has to be known to answer: a silent one would hold up the connection to
/// the server.
pub async fn member_at(
    from: &Host,
    place: SocketAddr,
    authority_pem: &str,
    names: &[String],
    within: Duration,
) -> Option<String> {
    let found: Arc<Mutex<Option<String>>> = Arc::default();
    let parsed = { names.iter() }.filter_map(|name| Some((name.clone(), ServerName::try_from(name.clone()).ok()?)));
    let naming = Naming {
        names: parsed.collect(),
        found: Arc::clone(&found),
    };
    let verifier = verifier(authority_pem, naming)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let configuration = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(configuration));
    let name = ServerName::try_from(names.first()?.clone()).ok()?;
    let handshake = async {
        let tunnel = from.tcp(&place.ip().to_string(), place.port()).await.ok()?;
        // The member refuses us, who show it none. That comes after its own certificate.
        connector.connect(name, tunnel).await.ok().map(drop)
    };
    let _ = timeout(within, handshake).await;
    found.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Notes for which of several names a certificate is, and takes none.
struct Naming {
    names: Vec<(String, ServerName<'static>)>,
    found: Arc<Mutex<Option<String>>>,
}

impl Names for Naming {
    fn decide(&self, _: &ServerName<'_>, is_for: &IsFor<'_>) -> Result<ServerCertVerified, rustls::Error> {
        let found = self.names.iter().find(|(_, name)| is_for(name).is_ok());
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found.map(|(name, _)| name.clone());
        // Nothing is ever sent there.
        Err(rustls::Error::General("seen".to_owned()))
    }
}

fn verifier(authority_pem: &str, names: Naming) -> Option<Verifier<Naming>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
        roots.add(certificate.ok()?).ok()?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let usual = usual.build().ok()?;
    Some(Verifier { usual, names })
}
