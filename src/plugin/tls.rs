//! The mutual TLS between Terraform and the provider process.
//!
//! Each side makes a self-signed certificate per run and is told the other's beforehand, so trust means "exactly
//! this certificate". Terraform's is a P-521 CA certificate, which an ordinary chain verifier refuses as an
//! end entity; hence the verifier here, and aws-lc-rs, which knows the curve.

use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

/// The name in the server certificate that go-plugin's client insists on.
const SERVER_NAME: &str = "localhost";

/// Why no TLS could be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `PLUGIN_CLIENT_CERT` is not what it should be.
    #[error("PLUGIN_CLIENT_CERT holds no certificate in PEM")]
    ClientCertificate(#[source] rustls::pki_types::pem::Error),
    /// The certificate of this run.
    #[error("making this run's server certificate")]
    ServerCertificate(#[from] rcgen::Error),
    /// rustls refused the pieces.
    #[error("setting up TLS with Terraform")]
    Setup(#[from] rustls::Error),
}

/// What the server needs to speak TLS.
#[derive(Debug)]
pub struct ServerTls {
    /// Configuration for the acceptor.
    pub config: Arc<ServerConfig>,
    /// The server certificate in DER, for the handshake line.
    pub certificate: Vec<u8>,
}

impl ServerTls {
    /// Makes this run's certificate and a configuration that lets in the holder of `client_certificate` (PEM) and
    /// nobody else.
    ///
    /// # Errors
    /// When the PEM holds no certificate, or a certificate can't be made.
    pub fn new(client_certificate: &str) -> Result<Self, TlsError> {
        let client =
            CertificateDer::from_pem_slice(client_certificate.as_bytes()).map_err(TlsError::ClientCertificate)?;
        let (certificate, key) = self_signed()?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(Arc::new(OnlyThisClient { client, provider }))
            .with_single_cert(vec![certificate.clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            certificate: certificate.to_vec(),
        })
    }
}

fn self_signed() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, SERVER_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?.der().clone();
    Ok((
        certificate,
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
    ))
}

/// Accepts one certificate, whatever is in it, and only from who holds its key.
#[derive(Debug)]
struct OnlyThisClient {
    client: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for OnlyThisClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if *end_entity == self.client {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_none_is_refused_in_words() {
        let error = ServerTls::new("nothing").unwrap_err();
        assert_eq!(error.to_string(), "PLUGIN_CLIENT_CERT holds no certificate in PEM");
    }

    #[test]
    fn every_run_has_its_own_certificate() {
        let (client, _) = self_signed().unwrap();
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", client.to_vec()));
        let (one, two) = (ServerTls::new(&pem).unwrap(), ServerTls::new(&pem).unwrap());
        assert_ne!(one.certificate, two.certificate);
    }
}
