//! The authorities and certificates that k3s makes for its etcd and its own port.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::SERVER;

/// One authority, in PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct Authority {
    pub certificate: String,
    pub key: String,
}

/// All of them: what a joining server gets.
#[derive(Clone, Serialize, Deserialize)]
pub struct Authorities {
    pub server: Authority,
    pub etcd_server: Authority,
    pub etcd_peer: Authority,
}

const FILES: [&str; 3] = ["tls/server-ca", "tls/etcd/server-ca", "tls/etcd/peer-ca"];

impl Authorities {
    pub fn make() -> Result<Self> {
        let made = Self {
            server: Authority::make("k3s-server-ca")?,
            etcd_server: Authority::make("etcd-server-ca")?,
            etcd_peer: Authority::make("etcd-peer-ca")?,
        };
        made.store()?;
        Ok(made)
    }

    pub fn load() -> Result<Self> {
        let [server, etcd_server, etcd_peer] = FILES.map(Authority::load);
        Ok(Self {
            server: server?,
            etcd_server: etcd_server?,
            etcd_peer: etcd_peer?,
        })
    }

    pub fn store(&self) -> Result<()> {
        for (name, one) in FILES.iter().zip([&self.server, &self.etcd_server, &self.etcd_peer]) {
            write(&format!("{name}.crt"), &one.certificate)?;
            write(&format!("{name}.key"), &one.key)?;
        }
        Ok(())
    }

    /// The certificates of this server, made anew at every start.
    pub fn issue(&self, names: &[String]) -> Result<()> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        self.etcd_server.issue(
            "etcd-server",
            names,
            &[ServerAuth, ClientAuth],
            "tls/etcd/server-client",
        )?;
        self.etcd_peer.issue(
            "etcd-peer",
            names,
            &[ServerAuth, ClientAuth],
            "tls/etcd/peer-server-client",
        )?;
        self.etcd_server
            .issue("etcd-client", &[], &[ClientAuth], "tls/etcd/client")?;
        self.server.issue("k3s", names, &[ServerAuth], "tls/serving")
    }

    /// The token that also says whom to trust.
    pub fn token(&self, password: &str) -> String {
        format!("K10{}::server:{password}", sum(&self.server.certificate))
    }
}

/// What a token says of an authority.
pub fn sum(certificate: &str) -> String {
    format!("{:x}", Sha256::digest(certificate.as_bytes()))
}

fn write(name: &str, text: &str) -> Result<()> {
    let path = format!("{SERVER}/{name}");
    let folder = Path::new(&path).parent().context("no folder")?;
    fs::create_dir_all(folder)?;
    fs::write(&path, text).with_context(|| format!("writing {path}"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

impl Authority {
    fn make(name: &str) -> Result<Self> {
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name.push(DnType::CommonName, name);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        Ok(Self {
            certificate: wanted.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        })
    }

    fn load(name: &str) -> Result<Self> {
        let read = |ending: &str| {
            let path = format!("{SERVER}/{name}.{ending}");
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        Ok(Self {
            certificate: read("crt")?,
            key: read("key")?,
        })
    }

    fn issue(&self, name: &str, names: &[String], usages: &[ExtendedKeyUsagePurpose], file: &str) -> Result<()> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let mut wanted = CertificateParams::new(names.to_vec())?;
        wanted.distinguished_name.push(DnType::CommonName, name);
        wanted.extended_key_usages = usages.to_vec();
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let key = KeyPair::generate()?;
        write(&format!("{file}.crt"), &wanted.signed_by(&key, &issuer)?.pem())?;
        write(&format!("{file}.key"), &key.serialize_pem())
    }
}
