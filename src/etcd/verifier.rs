//! Checks of a server's certificate that differ from rustls' own in the names alone.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// Whether the certificate that is shown is good for a name, by rustls' own check.
pub type IsFor<'a> = dyn Fn(&ServerName<'_>) -> Result<ServerCertVerified, Error> + 'a;

/// Which of several names a certificate has to be for. All else is rustls' own check.
pub trait Names: Send + Sync {
    /// Decides, where `name` is the one that was dialled.
    ///
    /// # Errors
    /// If the certificate is not taken.
    fn decide(&self, name: &ServerName<'_>, is_for: &IsFor<'_>) -> Result<ServerCertVerified, Error>;
}

/// The check, with names of its own.
pub struct Verifier<N> {
    /// rustls' own.
    pub usual: Arc<WebPkiServerVerifier>,
    /// The names.
    pub names: N,
}

impl<N> fmt::Debug for Verifier<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl<N: Names> ServerCertVerifier for Verifier<N> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.names.decide(name, &|name: &ServerName<'_>| {
            self.usual
                .verify_server_cert(certificate, intermediates, name, ocsp, now)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
