//! The list of certificates that members refuse. etcd reads it at every handshake and compares serial numbers. etcd does not check the list's
//! signature or its end (`checkCRL` in `client/pkg/transport`, 3.4 to 3.7). So a key made from the cluster's token signs it, and the same
//! serial numbers always make the same file.

use std::collections::BTreeSet;
use std::fmt;

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256};
use time::macros::datetime;

use super::{CertificateError, generate_error, params, parse};

/// The first bytes of an Ed25519 key in PKCS #8; the 32 bytes of the key follow (RFC 8410).
const ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The serial number of a certificate: hexadecimal digits in lower case, without zeros in front.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(String);

impl Serial {
    /// Takes the number's bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(HEXLOWER.encode(bytes).trim_start_matches('0').to_owned())
    }

    /// Takes a certificate in PEM, or a number as `openssl x509 -serial` or a browser shows it.
    ///
    /// # Errors
    /// The reason, if the text is neither.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.contains("-----BEGIN") {
            return parse(text).map(|info| info.serial).map_err(|error| error.to_string());
        }
        let digits = text
            .trim()
            .trim_start_matches("serial=")
            .replace(':', "")
            .to_lowercase();
        let digits = digits.trim_start_matches('0');
        // Certificates have 20 bytes at most.
        if digits.is_empty() || digits.len() > 40 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(
                "it is neither a certificate in PEM form nor a serial number of up to 40 hexadecimal digits".into(),
            );
        }
        Ok(Self(digits.to_owned()))
    }

    fn bytes(&self) -> Vec<u8> {
        let even = if self.0.len().is_multiple_of(2) { "" } else { "0" };
        HEXLOWER
            .decode(format!("{even}{}", self.0).as_bytes())
            .unwrap_or_default()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The list in DER form: etcd 3.6 and later read no other.
///
/// # Errors
/// [`CertificateError::Generate`].
pub fn revocation_list(token: &str, serials: &BTreeSet<Serial>) -> Result<Vec<u8>, CertificateError> {
    const NAME: &str = "etcd revoked certificates";
    let failed = |why: rcgen::Error| generate_error(NAME, &why);
    let began = datetime!(2020-01-01 0:00 UTC);
    let seed = Sha256::digest(format!("terraform-provider-etcd revoked {token}"));
    let key = PrivatePkcs8KeyDer::from([&ED25519[..], &seed].concat());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).map_err(failed)?;
    let mut issuer = params(NAME, began, datetime!(2049-01-01 0:00 UTC));
    issuer.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    issuer.key_usages = vec![KeyUsagePurpose::CrlSign];
    let issuer = Issuer::new(issuer, key);
    let revoked_certs = { serials.iter() }.map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(serial.bytes()),
        revocation_time: began,
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: began,
        next_update: datetime!(2049-01-01 0:00 UTC),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(list.signed_by(&issuer).map_err(failed)?.der().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_read_as_tools_show_them() {
        for text in ["0A:0b:1C", "serial=0A0B1C", "a0b1c", " 0a0b1c\n"] {
            assert_eq!(Serial::read(text).unwrap().to_string(), "a0b1c", "{text}");
        }
        assert_eq!(Serial::of(&[0, 10, 11, 28]).to_string(), "a0b1c");
        for text in ["", "0", "xyz", "a b", &"a".repeat(41), "-----BEGIN CERTIFICATE-----"] {
            assert!(Serial::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_same_numbers_make_the_same_list() {
        let serials: BTreeSet<Serial> = ["a0b1c", "ff00", "1"].map(|text| Serial::read(text).unwrap()).into();
        let list = revocation_list("token", &serials).unwrap();
        assert_eq!(list, revocation_list("token", &serials).unwrap());
        let (_, parsed) = x509_parser::parse_x509_crl(&list).unwrap();
        let listed = parsed
            .iter_revoked_certificates()
            .map(|one| Serial::of(one.raw_serial()));
        assert_eq!(listed.collect::<BTreeSet<_>>(), serials);
    }
}
