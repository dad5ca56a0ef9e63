//! What is to be on the server for a member: configuration, certificates, unit.

mod file;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use time::{Duration, OffsetDateTime};

pub use file::WantedFile;

use super::model::MemberModel;
use super::observe::Seen;
use super::revoked;
use super::survey::Survey;
use crate::etcd::api::TlsMaterial;
use crate::etcd::certificates::{
    Ca, CertificateError, Leaf, LeafRequest, OPERATOR_LIFETIME, PrivateKeyPem, ROOT, needs_renewal, parse,
};
use crate::etcd::config::{ConfigError, InitialClusterState, MemberConfig, render};
use crate::etcd::layout::Layout;
use crate::etcd::names;
use crate::etcd::version::Version;
use crate::host::Secret;
use crate::resource::cluster::model::{Authorities, Authority};
use crate::topology::{Domain, Server, ServerName, Topology, ViewError, timing};

/// Why it can't be said what is to be on the server.
#[derive(Debug, thiserror::Error)]
pub enum WantedError {
    /// The server is none of the cluster's.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The configuration would not do.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<ConfigError>),
    /// No certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A private key is needed and not there.
    #[error(
        "the private key of the authority for {0} is needed to issue a certificate, and nobody gave it. Give it to the \
         provider (certificate_authorities) or to the member ({1})"
    )]
    NoKey(&'static str, &'static str),
}

/// The two configuration files: the one that stands, and the one that founds.
pub struct Configurations {
    /// With the asymmetric `initial-cluster`, and `existing`.
    pub standing: String,
    /// With the names, and `new`.
    pub founding: String,
}

/// Renders the configuration of a member.
///
/// # Errors
/// If etcd would not start with it.
pub fn configurations(
    member: &MemberModel,
    topology: &Topology,
    layout: &Layout,
    version: &Version,
) -> Result<Configurations, WantedError> {
    let (name, server) = topology.find(&member.server)?;
    let standing = standing(member, topology, layout, name, server)?;
    let founding = MemberConfig {
        initial_cluster: topology.name_form(),
        initial_cluster_state: InitialClusterState::New,
        ..standing.clone()
    };
    Ok(Configurations {
        standing: render(&standing, version).map_err(WantedError::Config)?,
        founding: render(&founding, version).map_err(WantedError::Config)?,
    })
}

fn standing(
    member: &MemberModel,
    topology: &Topology,
    layout: &Layout,
    name: &ServerName,
    server: &Server,
) -> Result<MemberConfig, WantedError> {
    let tls = member.cluster.tls_enabled();
    Ok(MemberConfig {
        name: name.to_string(),
        data_dir: layout.data_dir().into(),
        listen_peer_urls: vec![url(topology, server.peer_listener().ip(), server.peer_port)],
        listen_client_urls: client_listeners(server, tls)
            .into_iter()
            .map(|address| url(topology, address, server.client_port))
            .collect(),
        initial_advertise_peer_urls: vec![topology.peer_url(name)?],
        advertise_client_urls: vec![topology.client_url(name)?],
        initial_cluster: topology.view(name)?.initial_cluster,
        initial_cluster_state: InitialClusterState::Existing,
        initial_cluster_token: member.cluster.token().to_owned(),
        revoked_file: revoked::is_wanted(member).then(|| PathBuf::from(&layout.revoked_file())),
        peer_tls: tls.then(|| layout.peer_tls()),
        client_tls: tls.then(|| layout.client_tls()),
        heartbeat_interval_ms: member
            .cluster
            .heartbeat_interval
            .unwrap_or(timing::DEFAULT.heartbeat_ms),
        election_timeout_ms: member.cluster.election_timeout.unwrap_or(timing::DEFAULT.election_ms),
        extra: member.config.clone().unwrap_or_default(),
    })
}

/// The configuration that a joining member starts with once: etcd wants exactly the members that there are. It asks them
/// for the member list at these URLs, so they are by name: certificates for peers hold no addresses.
///
/// # Errors
/// If etcd would not start with it.
pub fn joining(
    member: &MemberModel,
    topology: &Topology,
    layout: &Layout,
    version: &Version,
    survey: &Survey,
) -> Result<WantedFile, WantedError> {
    let (name, viewer) = topology.find(&member.server)?;
    let peers = survey.members.iter().flat_map(|one| {
        let name = survey.names.get(&one.id).unwrap_or(&one.name);
        one.peer_urls.iter().map(move |url| format!("{name}={url}"))
    });
    let mut peers: Vec<String> = peers.collect();
    peers.sort();
    let config = MemberConfig {
        initial_cluster: peers.join(","),
        ..standing(member, topology, layout, name, viewer)?
    };
    let contents = render(&config, version).map_err(WantedError::Config)?;
    Ok(WantedFile {
        path: layout.joining_file().to_string(),
        mode: 0o640,
        contents: contents.into(),
    })
}

fn url(topology: &Topology, address: IpAddr, port: u16) -> String {
    let scheme = topology.scheme();
    match address {
        IpAddr::V4(address) => format!("{scheme}://{address}:{port}"),
        IpAddr::V6(address) => format!("{scheme}://[{address}]:{port}"),
    }
}

/// Where a member listens for clients: as for peers, and for itself. Without TLS never on a public address.
fn client_listeners(server: &Server, tls: bool) -> Vec<IpAddr> {
    if server.public_address.is_some() && tls {
        vec![server.any_address()]
    } else {
        vec![server.loopback(), server.private_address]
    }
}

/// The private keys of the authorities, as far as they are known.
#[derive(Clone, Default)]
pub struct Keys {
    /// Of the authority for peers.
    pub peer: Option<PrivateKeyPem>,
    /// Of the authority for clients.
    pub client: Option<PrivateKeyPem>,
}

impl Keys {
    fn client_ca(&self, certificate: &str) -> Result<Ca, WantedError> {
        let keys = self.client.as_ref();
        authority(
            certificate,
            keys.ok_or(WantedError::NoKey("clients", "client_ca_private_key_wo"))?,
        )
    }

    /// A certificate issued for this run, to talk to the members with.
    ///
    /// # Errors
    /// If the key is missing or not the certificate's.
    pub fn for_this_run(&self, authorities: &Authorities) -> Result<TlsMaterial, WantedError> {
        let request = LeafRequest::operator(ROOT).with_lifetime(Duration::hours(24));
        let leaf = self.issue(&authorities.client.certificate, &request)?;
        Ok(TlsMaterial {
            ca_pem: authorities.client.trusted().to_owned(),
            cert_pem: leaf.cert_pem,
            key_pem: Secret::new(leaf.key_pem.expose()),
        })
    }

    /// A certificate of the authority for clients.
    ///
    /// # Errors
    /// If the key is missing or not the certificate's.
    pub fn issue(&self, certificate: &str, request: &LeafRequest) -> Result<Leaf, WantedError> {
        Ok(self.client_ca(certificate)?.issue(request, OffsetDateTime::now_utc())?)
    }

    fn peer_ca(&self, certificate: &str) -> Result<Ca, WantedError> {
        let keys = self.peer.as_ref();
        authority(
            certificate,
            keys.ok_or(WantedError::NoKey("peers", "peer_ca_private_key_wo"))?,
        )
    }
}

/// The authority of this certificate. Of several keys, as they are given while one authority takes the place of another, it is
/// the one that fits.
fn authority(certificate: &str, keys: &PrivateKeyPem) -> Result<Ca, WantedError> {
    let each = keys.each();
    if each.len() < 2 {
        return Ok(Ca::from_pem(certificate, keys)?);
    }
    let mut last = None;
    for key in each {
        match Ca::from_pem(certificate, &key) {
            Ok(ca) => return Ok(ca),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(
        WantedError::NoKey("this certificate", "*_ca_private_key_wo"),
        WantedError::from,
    ))
}

/// The certificate files of a member: those that are good stay, the others are issued.
#[derive(Default)]
pub struct Certificates {
    /// Files to write.
    pub files: Vec<WantedFile>,
    /// When each of them ends.
    pub expiry: BTreeMap<&'static str, OffsetDateTime>,
    /// All of them in PEM, by file.
    pub leaves: BTreeMap<String, String>,
    /// Whether an authority's certificate changes, which etcd reads only when it starts.
    pub restart_needed: bool,
    /// The files of those that have ended.
    pub expired: Vec<WantedFile>,
}

/// Decides which certificates a member needs, and issues them. Peers dial it at its name, and at `hosts`.
///
/// # Errors
/// If one has to be issued and the authority's key is not there.
pub fn certificates(
    member: &MemberModel,
    topology: &Topology,
    layout: &Layout,
    version: &Version,
    keys: &Keys,
    seen: &Seen,
    hosts: &[String],
) -> Result<Certificates, WantedError> {
    let Some(authorities) = &member.cluster.certificate_authorities else {
        return Ok(Certificates::default());
    };
    let now = OffsetDateTime::now_utc();
    let mut certificates = Certificates::default();
    for (file, certificate) in authority_files(authorities) {
        let before = seen.certificates.get(file);
        certificates.restart_needed |= before.is_some_and(|before| before != certificate);
        certificates
            .files
            .push(secret(layout, &format!("{file}.crt"), certificate));
    }
    for leaf in leaves(member, topology, version, hosts)? {
        let (kind, file, authority) = (leaf.kind, leaf.file, leaf.authority(authorities));
        if let Ok(end) = leaf.good(layout, authority, seen, now, member.renew_before())? {
            certificates.expiry.insert(kind, end);
            let there = seen.certificates.get(file).cloned();
            certificates.leaves.extend(there.map(|pem| (file.to_owned(), pem)));
            continue;
        }
        let ca = if leaf.is_for_clients() {
            keys.client_ca(&authority.certificate)?
        } else {
            keys.peer_ca(&authority.certificate)?
        };
        let issued = ca.issue(&leaf.request, now)?;
        let ended = seen.certificates.get(file).and_then(|pem| parse(pem).ok());
        let ended = ended.is_some_and(|there| there.not_after <= now);
        certificates.expiry.insert(kind, parse(&issued.cert_pem)?.not_after);
        certificates.leaves.insert(file.to_owned(), issued.cert_pem.clone());
        // The key first: between the two renames etcd would show a certificate with another's key, and a handshake
        // in that moment is tried again.
        for (ending, contents) in [("key", issued.key_pem.expose()), ("crt", &issued.cert_pem)] {
            let file = WantedFile {
                mode: leaf.mode,
                ..secret(layout, &format!("{file}.{ending}"), contents)
            };
            certificates.expired.extend(ended.then(|| file.clone()));
            certificates.files.push(file);
        }
    }
    Ok(certificates)
}

/// What is wrong with the certificate files on the server, by path: needs no keys, issues nothing.
pub fn certificate_drift(
    member: &MemberModel,
    topology: &Topology,
    layout: &Layout,
    version: &Version,
    seen: &Seen,
) -> BTreeMap<String, String> {
    let (Some(authorities), Ok(leaves)) = (
        &member.cluster.certificate_authorities,
        leaves(member, topology, version, &[]),
    ) else {
        return BTreeMap::new();
    };
    let now = OffsetDateTime::now_utc();
    let mut found = BTreeMap::new();
    for (file, certificate) in authority_files(authorities) {
        let what = match seen.certificates.get(file) {
            None => "is missing",
            Some(before) if before.as_str() != certificate => "differs",
            Some(_) => continue,
        };
        found.insert(pki(layout, &format!("{file}.crt")), what.to_owned());
    }
    for leaf in leaves {
        if let Ok(Err((path, what))) = leaf.good(layout, leaf.authority(authorities), seen, now, member.renew_before())
        {
            found.insert(path, what);
        }
    }
    found
}

fn authority_files(authorities: &Authorities) -> [(&'static str, &str); 2] {
    [
        ("peer-ca", authorities.peer.trusted()),
        ("client-ca", authorities.client.trusted()),
    ]
}

/// One of a member's certificates.
struct WantedLeaf {
    /// Its name in `certificate_expiry`.
    kind: &'static str,
    /// Its file, without ending.
    file: &'static str,
    mode: u32,
    request: LeafRequest,
}

fn leaves(
    member: &MemberModel,
    topology: &Topology,
    version: &Version,
    hosts: &[String],
) -> Result<[WantedLeaf; 4], ViewError> {
    let (name, server) = topology.find(&member.server)?;
    let domain: &Domain = topology.domain();
    let leaf = |kind, file, request| WantedLeaf {
        kind,
        file,
        mode: 0o640,
        request,
    };
    Ok([
        leaf(
            "peer",
            "peer",
            LeafRequest::peer_server(server, domain, version.minor()).valid_for(hosts),
        ),
        leaf("peer_client", "peer-client", LeafRequest::peer_client(name)),
        leaf("client", "server", LeafRequest::client_server(server, domain)),
        // Lent to whoever is root on the server, and to nobody else: a refresh and a delete have no keys of authorities.
        WantedLeaf {
            mode: 0o600,
            ..leaf(
                "operator",
                "operator",
                LeafRequest::operator(ROOT).with_lifetime(OPERATOR_LIFETIME),
            )
        },
    ])
}

/// What the certificates of a member say, and who issues them.
///
/// # Errors
/// If its server is not one of the cluster's.
pub fn issued(
    member: &MemberModel,
    topology: &Topology,
    version: &Version,
) -> Result<Vec<(LeafRequest, Option<String>)>, ViewError> {
    let authorities = member.cluster.certificate_authorities.as_ref();
    let leaves = leaves(member, topology, version, &[])?.into_iter();
    let certificate = |leaf: &WantedLeaf| authorities.map(|all| leaf.authority(all).certificate.clone());
    Ok(leaves.map(|leaf| (leaf.request.clone(), certificate(&leaf))).collect())
}

impl WantedLeaf {
    fn is_for_clients(&self) -> bool {
        ["client", "operator"].contains(&self.kind)
    }

    fn authority<'a>(&self, authorities: &'a Authorities) -> &'a Authority {
        if self.is_for_clients() {
            &authorities.client
        } else {
            &authorities.peer
        }
    }

    /// When the certificate on the server ends; or, if it has to be issued, its file and why.
    fn good(
        &self,
        layout: &Layout,
        authority: &Authority,
        seen: &Seen,
        now: OffsetDateTime,
        window: Duration,
    ) -> Result<Result<OffsetDateTime, (String, String)>, CertificateError> {
        let trusted = parse(&authority.certificate)?;
        let (key, certificate) = (
            pki(layout, &format!("{}.key", self.file)),
            pki(layout, &format!("{}.crt", self.file)),
        );
        let Some(pem) = seen.certificates.get(self.file) else {
            return Ok(Err((certificate, "is missing".to_owned())));
        };
        if !seen.files.contains_key(&key) {
            return Ok(Err((key, "is missing".to_owned())));
        }
        let Ok(info) = parse(pem) else {
            return Ok(Err((certificate, "is no certificate".to_owned())));
        };
        Ok(match needs_renewal(&info, &self.request, &trusted, now, window) {
            None => Ok(info.not_after),
            Some(reason) => Err((certificate, reason.to_string())),
        })
    }
}

fn secret(layout: &Layout, name: &str, contents: &str) -> WantedFile {
    WantedFile {
        path: pki(layout, name),
        mode: 0o640,
        contents: contents.into(),
    }
}

fn pki(layout: &Layout, name: &str) -> String {
    format!("{}/{name}", layout.pki_dir())
}

/// The files of a member that are compared by checksum.
pub fn compared_files(layout: &Layout) -> Vec<String> {
    let mut files = vec![
        layout.config_file().to_string(),
        layout.guard_file().to_string(),
        layout.unit_file().to_string(),
    ];
    files.extend(names::paths(layout));
    files.push(layout.founding_file().to_string());
    files.push(layout.revoked_file().to_string());
    files.extend(super::scheduled::paths(layout));
    let certificates = ["peer", "peer-client", "server", "operator", "peer-ca", "client-ca"];
    files.extend(certificates.iter().map(|name| pki(layout, &format!("{name}.crt"))));
    files.extend(
        certificates
            .iter()
            .take(4)
            .map(|name| pki(layout, &format!("{name}.key"))),
    );
    files
}
