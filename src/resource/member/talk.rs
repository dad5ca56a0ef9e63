//! Talking to members: through the tunnel to their loopback, with a certificate made for this run.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use time::OffsetDateTime;

use super::model::MemberModel;
use super::wanted::{Keys, WantedError, loopback, server};
use crate::etcd::api::{Api, ApiError, ApiTarget, Member, TlsMaterial, http_get};
use crate::etcd::certificates::LeafRequest;
use crate::etcd::metrics::Metrics;
use crate::host::{Host, Secret};
use crate::membership::links::Reached;
use crate::resource::road::{Road, RoadError};
use crate::topology::{ServerName, Topology, ViewError};

/// How long one question to a member may take.
const QUESTION: Duration = Duration::from_secs(5);

/// Why a member did not answer.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// Its server was not reached.
    #[error(transparent)]
    Road(#[from] RoadError),
    /// It did not answer, or refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No certificate to show to it.
    #[error(transparent)]
    Certificate(#[from] WantedError),
    /// There is no such server.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// Who talks to the members of one cluster.
pub struct Talk<'a> {
    road: &'a Road,
    member: &'a MemberModel,
    topology: &'a Topology,
    tls: Option<TlsMaterial>,
    open: Mutex<BTreeMap<String, Api>>,
}

impl<'a> Talk<'a> {
    /// With a certificate issued for this run.
    ///
    /// # Errors
    /// If the authority's key is missing.
    pub fn issue(
        road: &'a Road,
        member: &'a MemberModel,
        topology: &'a Topology,
        keys: &Keys,
    ) -> Result<Self, TalkError> {
        let tls = match &member.cluster.certificate_authorities {
            None => None,
            Some(authorities) => {
                let ca = keys.client_ca(&authorities.client.certificate)?;
                let request = LeafRequest::operator("terraform").with_lifetime(time::Duration::hours(24));
                let leaf = ca
                    .issue(&request, OffsetDateTime::now_utc())
                    .map_err(WantedError::from)?;
                Some(TlsMaterial {
                    ca_pem: authorities.client.certificate.clone(),
                    cert_pem: leaf.cert_pem,
                    key_pem: Secret::new(leaf.key_pem.expose()),
                })
            }
        };
        Ok(Self {
            road,
            member,
            topology,
            tls,
            open: Mutex::default(),
        })
    }

    /// With the certificate that a member has on its server, as root may read it there.
    pub fn borrow(
        road: &'a Road,
        member: &'a MemberModel,
        topology: &'a Topology,
        certificate: Option<&String>,
        key: Option<Secret>,
    ) -> Option<Self> {
        let tls = match &member.cluster.certificate_authorities {
            None => None,
            Some(authorities) => Some(TlsMaterial {
                ca_pem: authorities.client.certificate.clone(),
                cert_pem: certificate?.clone(),
                key_pem: key?,
            }),
        };
        Some(Self {
            road,
            member,
            topology,
            tls,
            open: Mutex::default(),
        })
    }

    /// A connection to the member on this server; the one that there is, if there is one.
    ///
    /// # Errors
    /// If it does not answer within the time.
    pub async fn to(&self, name: &str, within: Duration) -> Result<Api, TalkError> {
        let kept = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        if let Some(api) = kept {
            return Ok(api);
        }
        let (host, target) = self.way(name, within).await?;
        let api = Api::connect(&host, &target, within).await?;
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), api.clone());
        Ok(api)
    }

    async fn way(&self, name: &str, within: Duration) -> Result<(Host, ApiTarget), TalkError> {
        let unknown = || ViewError::UnknownServer {
            name: name.to_owned(),
            known: String::new(),
        };
        let mut places = self.topology.servers().iter();
        let (server, place) = places.find(|(server, _)| server.as_str() == name).ok_or_else(unknown)?;
        let model = self.member.cluster.servers.get(name).ok_or_else(unknown)?;
        let host = self.road.connect(model, within, false).await?;
        let target = ApiTarget {
            address: loopback(place),
            port: place.client_port,
            tls: self.tls.clone(),
            server_name: self.topology.domain().stable_name(server),
        };
        Ok((host, target))
    }

    /// Which members each member reaches, as its own metrics say; who does not answer is left out.
    pub async fn reached(&self, members: &[String], names: &BTreeMap<u64, String>) -> BTreeMap<String, Reached> {
        let asked = members.iter().map(|name| async move {
            let (host, target) = self.way(name, QUESTION).await.ok()?;
            let text = http_get(&host, &target, "/metrics", QUESTION).await.ok()?;
            let metrics = Metrics::parse(&text);
            let peers = metrics.active_peers.iter().filter(|(_, active)| **active);
            let peers = peers.filter_map(|((_, remote), _)| names.get(&u64::from_str_radix(remote, 16).ok()?).cloned());
            Some((name.clone(), peers.collect()))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The names of the servers by the IDs of their members.
    pub fn names_of(&self, members: &[Member]) -> BTreeMap<u64, String> {
        let urls: BTreeMap<String, &ServerName> = self
            .topology
            .servers()
            .keys()
            .filter_map(|server| Some((self.topology.peer_url(server).ok()?, server)))
            .collect();
        let names = members.iter().filter_map(|member| {
            let server = member.peer_urls.iter().find_map(|url| urls.get(url))?;
            Some((member.id, server.to_string()))
        });
        names.collect()
    }

    /// The client URL port's owner: where this run's own member is.
    ///
    /// # Errors
    /// If the member's server is none of the cluster's.
    pub fn own(&self) -> Result<&ServerName, ViewError> {
        Ok(server(self.member, self.topology)?.0)
    }
}
