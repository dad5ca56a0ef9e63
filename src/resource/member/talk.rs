//! Talking to members: through the tunnel to their loopback, with a certificate made for this run.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use time::OffsetDateTime;

use super::model::MemberModel;
use super::wanted::{Keys, WantedError, loopback, server};
use crate::etcd::api::{Api, ApiError, ApiTarget, Member, TlsMaterial};
use crate::etcd::certificates::LeafRequest;
use crate::etcd::metrics::Metrics;
use crate::host::Secret;
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
        })
    }

    /// A connection to the member on this server.
    ///
    /// # Errors
    /// If it does not answer within the time.
    pub async fn to(&self, name: &str, within: Duration) -> Result<Api, TalkError> {
        let (server, place) = self
            .topology
            .servers()
            .iter()
            .find(|(server, _)| server.as_str() == name)
            .ok_or_else(|| ViewError::UnknownServer {
                name: name.to_owned(),
                known: String::new(),
            })?;
        let Some(model) = self.member.cluster.servers.get(name) else {
            return Err(ViewError::UnknownServer {
                name: name.to_owned(),
                known: String::new(),
            }
            .into());
        };
        let host = self.road.connect(model, within, false).await?;
        let target = ApiTarget {
            address: loopback(place),
            port: place.client_port,
            tls: self.tls.clone(),
            server_name: self.topology.domain().stable_name(server),
        };
        Ok(Api::connect(&host, &target, within).await?)
    }

    /// Which members each member reaches, as its own metrics say; who does not answer is left out.
    pub async fn reached(&self, members: &[String], names: &BTreeMap<u64, String>) -> BTreeMap<String, Reached> {
        let asked = members.iter().map(|name| async move {
            let api = self.to(name, QUESTION).await.ok()?;
            let text = api.http_get("/metrics", QUESTION).await.ok()?;
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
