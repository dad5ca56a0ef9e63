//! What a certificate says.

use std::net::IpAddr;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;

use super::{CertificateError, Serial};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Its serial number.
    pub serial: Serial,
    /// The subject as text, like "CN=a1".
    pub subject: String,
    /// The subject's common name; empty if there is none.
    pub common_name: String,
    /// The issuer's subject as text.
    pub issuer: String,
    /// DNS names that it is valid for; sorted.
    pub dns_names: Vec<String>,
    /// Addresses that it is valid for; sorted.
    pub ip_addresses: Vec<IpAddr>,
    /// Whether it may be shown by who is dialled.
    pub server_auth: bool,
    /// Whether it may be shown by who dials.
    pub client_auth: bool,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// From when it is valid.
    pub not_before: OffsetDateTime,
    /// Until when it is valid.
    pub not_after: OffsetDateTime,
    /// The identifier of its own key, if it tells.
    pub subject_key_id: Option<Vec<u8>>,
    /// The identifier of its issuer's key, if it tells.
    pub authority_key_id: Option<Vec<u8>>,
    /// Its public key (DER, `SubjectPublicKeyInfo`).
    pub public_key: Vec<u8>,
    /// SHA-256 over the certificate's DER form, in hexadecimal.
    pub fingerprint: String,
}

impl CertificateInfo {
    /// Whether this certificate names `ca` as its issuer, by name and, where both tell, by key identifier. The
    /// signature isn't computed: it is checked by whoever is shown the certificate.
    #[must_use]
    pub fn was_signed_by(&self, ca: &Self) -> bool {
        let same_key = match (&self.authority_key_id, &ca.subject_key_id) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.issuer == ca.subject && same_key
    }
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// [`CertificateError::NotACertificate`].
pub fn parse(pem: &str) -> Result<CertificateInfo, CertificateError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| unreadable(e.to_string()))?;
    read(&block)
}

/// Reads all certificates of a PEM text.
///
/// # Errors
/// [`CertificateError::NotACertificate`] if one of them is none, or if there is none.
pub fn parse_all(pem: &str) -> Result<Vec<CertificateInfo>, CertificateError> {
    let blocks =
        Pem::iter_from_buffer(pem.as_bytes()).map(|block| read(&block.map_err(|e| unreadable(e.to_string()))?));
    let all: Vec<CertificateInfo> = blocks.collect::<Result<_, _>>()?;
    if all.is_empty() {
        return Err(unreadable("it is empty".to_owned()));
    }
    Ok(all)
}

/// How many certificates a PEM text has. What can't be read counts as one.
#[must_use]
pub fn count(pem: &str) -> usize {
    let blocks = Pem::iter_from_buffer(pem.as_bytes());
    let certificates = blocks.filter(|block| block.as_ref().map_or(true, |block| block.label == "CERTIFICATE"));
    certificates.count()
}

fn unreadable(why: String) -> CertificateError {
    CertificateError::NotACertificate(why)
}

fn read(block: &Pem) -> Result<CertificateInfo, CertificateError> {
    if block.label != "CERTIFICATE" {
        return Err(unreadable(format!("it is a {:?}", block.label)));
    }
    let certificate = block.parse_x509().map_err(|e| unreadable(e.to_string()))?;
    let time = |t: x509_parser::time::ASN1Time| {
        OffsetDateTime::from_unix_timestamp(t.timestamp()).map_err(|e| unreadable(e.to_string()))
    };
    let (dns_names, ip_addresses) = alternative_names(&certificate);
    let usage = certificate.extended_key_usage().ok().flatten().map(|u| u.value);
    let common_name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|cn| cn.as_str().ok())
        .unwrap_or_default()
        .to_owned();
    let (mut subject_key_id, mut authority_key_id) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    Ok(CertificateInfo {
        serial: Serial::of(certificate.raw_serial()),
        subject: certificate.subject().to_string(),
        common_name,
        issuer: certificate.issuer().to_string(),
        dns_names,
        ip_addresses,
        server_auth: usage.is_some_and(|u| u.server_auth),
        client_auth: usage.is_some_and(|u| u.client_auth),
        is_ca: certificate.is_ca(),
        not_before: time(certificate.validity().not_before)?,
        not_after: time(certificate.validity().not_after)?,
        subject_key_id,
        authority_key_id,
        public_key: certificate.public_key().raw.to_vec(),
        fingerprint: HEXLOWER.encode(&Sha256::digest(&block.contents)),
    })
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let extension = certificate.subject_alternative_name().ok().flatten();
    for name in extension.iter().flat_map(|e| &e.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)));
            }
            _ => {}
        }
    }
    names.sort();
    addresses.sort();
    (names, addresses)
}
