//! A cluster's two certificate authorities, the certificates that they issue, and when these must be renewed.
//!
//! Peers trust an authority of their own, which signs nothing else. From 3.5 on a member shows one certificate to peers
//! that dial it (its stable name) and another one to peers that it dials, which has no subject alternative name at all:
//! etcd compares the source address of a connection with the names of the certificate that it shows, and behind NAT
//! these don't match. A certificate without names is not compared.
//!
//! Nothing here reads a clock: the time is an argument.

mod parse;
mod revocation;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::Pem;

use super::version::Minor;
use crate::topology::{ClusterName, Domain, Server, ServerName};
pub use parse::{CertificateInfo, count, parse, parse_all};
pub use revocation::{Serial, revocation_list};

/// How long an authority lives.
const CA_LIFETIME: Duration = Duration::days(3650);
/// How long a member's certificate lives unless something else is asked for.
pub const LEAF_LIFETIME: Duration = Duration::days(365);
/// How long root's certificate on a server lives. It is renewed after half of that, as members' certificates are 60 days before their end: an
/// apply in every two months is enough for all of them.
pub const OPERATOR_LIFETIME: Duration = Duration::days(120);
/// etcd's user that may do everything, where access control is on. It takes a client for the user of its certificate's common name, so this
/// is the name by which the provider talks to members.
pub const ROOT: &str = "root";
/// How long before its issue a certificate is valid, for servers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text isn't a certificate in PEM form.
    #[error("this is not a certificate in PEM form: {0}")]
    NotACertificate(String),
    /// The certificate can't sign others.
    #[error("the certificate of {subject} is no certificate authority: its basic constraints don't say so")]
    NotACa {
        /// Its subject.
        subject: String,
    },
    /// The key can't be read.
    #[error(
        "the private key of the certificate authority {subject} can't be read: it must be an unencrypted key in PEM form ({why})"
    )]
    UnreadableKey {
        /// The authority's subject.
        subject: String,
        /// What the parser says; nothing of the key.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error("the private key is not that of the certificate authority {subject}")]
    OtherKey {
        /// The authority's subject.
        subject: String,
    },
    /// The authority is no longer valid.
    #[error("the certificate authority {subject} expired at {not_after}: what it signs would be trusted by nobody")]
    ExpiredCa {
        /// Its subject.
        subject: String,
        /// When.
        not_after: OffsetDateTime,
    },
    /// Something that ought to work didn't.
    #[error("the certificate of {subject} can't be made: {why}")]
    Generate {
        /// Its common name.
        subject: String,
        /// What the library says.
        why: String,
    },
}

/// A private key in PEM form. It isn't shown when it is printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(String);

impl PrivateKeyPem {
    /// Takes a text as a private key, as it is.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that writes it to where it belongs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Each block of PEM in the text; none if it has none.
    #[must_use]
    pub fn each(&self) -> Vec<Self> {
        Pem::iter_from_buffer(self.0.as_bytes())
            .filter_map(Result::ok)
            .map(|block| Self(pem::encode(&pem::Pem::new(block.label, block.contents))))
            .collect()
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(…)")
    }
}

/// What an authority is for. Each cluster has one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaPurpose {
    /// Members among themselves.
    Peers,
    /// Members and their clients.
    Clients,
}

/// A certificate authority that can sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    cert_pem: String,
    key_pem: PrivateKeyPem,
    info: CertificateInfo,
}

impl Ca {
    /// Makes a new authority (P-256, ten years).
    ///
    /// # Errors
    /// [`CertificateError::Generate`].
    pub fn generate(cluster: &ClusterName, purpose: CaPurpose, now: OffsetDateTime) -> Result<Self, CertificateError> {
        // A common name has 64 characters at most.
        let cluster: String = cluster.as_str().chars().take(48).collect();
        let common_name = match purpose {
            CaPurpose::Peers => format!("etcd {cluster} peer CA"),
            CaPurpose::Clients => format!("etcd {cluster} client CA"),
        };
        let failed = |why: rcgen::Error| generate_error(&common_name, &why);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = params(&common_name, now, now + CA_LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key).map_err(failed)?.pem();
        let info = parse(&cert_pem)?;
        Ok(Self {
            cert_pem,
            key_pem: PrivateKeyPem(key.serialize_pem()),
            info,
        })
    }

    /// Takes an authority that was made before, or by the user. Of several certificates in `cert_pem` the first is the
    /// one that signs.
    ///
    /// # Errors
    /// [`CertificateError`] if one of the two can't be read, or they don't belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &PrivateKeyPem) -> Result<Self, CertificateError> {
        let info = parse(cert_pem)?;
        let subject = info.subject.clone();
        if !info.is_ca {
            return Err(CertificateError::NotACa { subject });
        }
        let key = KeyPair::from_pem(key_pem.expose()).map_err(|why| CertificateError::UnreadableKey {
            subject: subject.clone(),
            why: why.to_string(),
        })?;
        if rcgen::PublicKeyData::subject_public_key_info(&key) != info.public_key {
            return Err(CertificateError::OtherKey { subject });
        }
        Ok(Self {
            cert_pem: cert_pem.to_owned(),
            key_pem: key_pem.clone(),
            info,
        })
    }

    /// The certificate, for everybody who is to trust it.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The key.
    #[must_use]
    pub fn key_pem(&self) -> &PrivateKeyPem {
        &self.key_pem
    }

    /// What the certificate says.
    #[must_use]
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// Signs a new certificate with a new key (P-256). It doesn't outlive the authority.
    ///
    /// # Errors
    /// [`CertificateError::ExpiredCa`] or [`CertificateError::Generate`].
    pub fn issue(&self, request: &LeafRequest, now: OffsetDateTime) -> Result<Leaf, CertificateError> {
        if self.info.not_after <= now {
            return Err(CertificateError::ExpiredCa {
                subject: self.info.subject.clone(),
                not_after: self.info.not_after,
            });
        }
        let failed = |why: rcgen::Error| generate_error(&request.common_name, &why);
        let signing_key = KeyPair::from_pem(self.key_pem.expose()).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, signing_key).map_err(failed)?;
        let not_after = (now + request.lifetime).min(self.info.not_after);
        let mut params = params(&request.common_name, now, not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if request.server_auth {
            params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if request.client_auth {
            params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        }
        for name in &request.dns_names {
            let name = name.as_str().try_into().map_err(failed)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        for address in &request.ip_addresses {
            params.subject_alt_names.push(SanType::IpAddress(*address));
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Leaf {
            cert_pem: certificate.pem(),
            key_pem: PrivateKeyPem(key.serialize_pem()),
        })
    }
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The certificate.
    pub cert_pem: String,
    /// Its key.
    pub key_pem: PrivateKeyPem,
}

/// What a certificate is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRequest {
    /// The subject's common name.
    pub common_name: String,
    /// Names that it is valid for; sorted.
    pub dns_names: Vec<String>,
    /// Addresses that it is valid for; sorted.
    pub ip_addresses: Vec<IpAddr>,
    /// Whether it may be shown by who is dialled.
    pub server_auth: bool,
    /// Whether it may be shown by who dials.
    pub client_auth: bool,
    /// How long it is valid from its issue.
    pub lifetime: Duration,
}

impl LeafRequest {
    /// What a member shows to peers that dial it: its stable name. On 3.4 it also shows this to peers that it dials,
    /// so there it names every address that its connections may come from.
    #[must_use]
    pub fn peer_server(server: &Server, domain: &Domain, minor: Minor) -> Self {
        let both = minor < Minor::V3_5;
        let mut ip_addresses = Vec::new();
        if both {
            ip_addresses.push(server.private_address);
            ip_addresses.extend(server.public_address);
            ip_addresses.extend(&server.egress_addresses);
        }
        Self {
            common_name: server.name.to_string(),
            dns_names: vec![domain.stable_name(&server.name)],
            ip_addresses,
            server_auth: true,
            client_auth: both,
            lifetime: LEAF_LIFETIME,
        }
        .sorted()
    }

    /// What a member shows to peers that it dials, from 3.5 on: no names, so that its source address doesn't matter.
    #[must_use]
    pub fn peer_client(member: &ServerName) -> Self {
        Self::operator(member.as_str())
    }

    /// What a member shows to its clients. It dials itself too (etcd's gateway from HTTP to gRPC), so it is for both
    /// directions.
    #[must_use]
    pub fn client_server(server: &Server, domain: &Domain) -> Self {
        let mut ip_addresses = vec![
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
            server.private_address,
        ];
        ip_addresses.extend(server.public_address);
        Self {
            common_name: server.name.to_string(),
            dns_names: vec![domain.stable_name(&server.name), "localhost".to_owned()],
            ip_addresses,
            server_auth: true,
            client_auth: true,
            lifetime: LEAF_LIFETIME,
        }
        .sorted()
    }

    /// What a client of etcd shows: a common name (etcd's user, where authentication is on) and nothing else.
    #[must_use]
    pub fn operator(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            server_auth: false,
            client_auth: true,
            lifetime: LEAF_LIFETIME,
        }
    }

    /// The same, valid for these hosts too, names or addresses.
    #[must_use]
    pub fn valid_for(mut self, hosts: &[String]) -> Self {
        for host in hosts {
            match host.parse() {
                Ok(address) => self.ip_addresses.push(address),
                Err(_) => self.dns_names.push(host.clone()),
            }
        }
        self.sorted()
    }

    /// The same with another lifetime.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    fn sorted(mut self) -> Self {
        self.dns_names.sort();
        self.dns_names.dedup();
        for address in &mut self.ip_addresses {
            *address = address.to_canonical();
        }
        self.ip_addresses.sort();
        self.ip_addresses.dedup();
        self
    }
}

/// Why a certificate must be issued anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenewalReason {
    /// It isn't valid any more.
    Expired {
        /// Since when.
        not_after: OffsetDateTime,
    },
    /// It soon won't be.
    Expiring {
        /// From when.
        not_after: OffsetDateTime,
    },
    /// It was signed by somebody else.
    OtherCa {
        /// By whom.
        issuer: String,
    },
    /// It names something else than it should, or is for another use.
    OtherContent,
}

impl fmt::Display for RenewalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { not_after } => write!(f, "it expired at {not_after}"),
            Self::Expiring { not_after } => write!(f, "it expires at {not_after}"),
            Self::OtherCa { issuer } => write!(f, "it was signed by another certificate authority, {issuer}"),
            Self::OtherContent => f.write_str("its names or uses are no longer the right ones"),
        }
    }
}

/// Whether a certificate must be issued anew, and why: it isn't what `request` asks for, `ca` didn't sign it, or it
/// ends within `window` from `now`. One that lives as long as its authority is not renewed early: that would win
/// nothing.
#[must_use]
pub fn needs_renewal(
    info: &CertificateInfo,
    request: &LeafRequest,
    ca: &CertificateInfo,
    now: OffsetDateTime,
    window: Duration,
) -> Option<RenewalReason> {
    let not_after = info.not_after;
    if not_after <= now {
        return Some(RenewalReason::Expired { not_after });
    }
    if !info.was_signed_by(ca) {
        let issuer = info.issuer.clone();
        return Some(RenewalReason::OtherCa { issuer });
    }
    let same = info.common_name == request.common_name
        && info.dns_names == request.dns_names
        && info.ip_addresses == request.ip_addresses
        && info.server_auth == request.server_auth
        && info.client_auth == request.client_auth;
    if !same {
        return Some(RenewalReason::OtherContent);
    }
    // A lifetime shorter than the window must not mean a new certificate at every look.
    let window = window.min(request.lifetime / 2);
    if not_after - now < window && not_after < ca.not_after {
        return Some(RenewalReason::Expiring { not_after });
    }
    None
}

fn params(common_name: &str, now: OffsetDateTime, not_after: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now - CLOCK_SKEW;
    params.not_after = not_after;
    params
}

fn generate_error(subject: &str, why: &rcgen::Error) -> CertificateError {
    CertificateError::Generate {
        subject: subject.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests;
