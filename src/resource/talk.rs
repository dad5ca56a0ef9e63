//! Talking to the members of a cluster: through the tunnel to each one's loopback.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

use crate::etcd::api::{Api, ApiError, ApiTarget, Elsewhere, Member, Pages, TlsMaterial};
use crate::etcd::certificates::parse;
use crate::etcd::metrics::Metrics;
use crate::host::{Host, Output, Secret};
use crate::resource::cluster::model::ClusterModel;
use crate::resource::road::{Road, RoadError};
use crate::topology::{Topology, ViewError};

/// How long a member may take from listening to serving before it is dialled again.
const EARLY: Duration = Duration::from_secs(30);
/// From one dial to the next where nothing listens yet.
const REDIAL: Duration = Duration::from_millis(50);

/// Why a member did not answer.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// Its server was not reached.
    #[error(transparent)]
    Road(#[from] RoadError),
    /// It did not answer, or refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no such server.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// A certificate that a server lends to whoever is root there: `operator.crt`, whose user may do everything, or the member's own
/// where that one has ended or an earlier version of this provider left no other. That one does as long as nobody has to be a user.
#[derive(Clone, Debug)]
pub struct Lent {
    /// The certificate in PEM.
    pub certificate: String,
    /// Its key.
    pub key: Secret,
}

impl Lent {
    /// What a script with `lend.sh` answered.
    pub fn of(output: &Output) -> Option<Self> {
        let lent = |whose: &str| {
            let decoded = |what: &str| output.text(&format!("lent-{whose}-{what}")).map(str::to_owned);
            Some(Self {
                certificate: decoded("certificate")?,
                key: Secret::new(decoded("key")?),
            })
        };
        let (root, member) = (lent("operator"), lent("server"));
        let now = OffsetDateTime::now_utc();
        let ended = |lent: &Self| parse(&lent.certificate).is_ok_and(|certificate| certificate.not_after <= now);
        match (root, member) {
            (Some(root), Some(member)) if ended(&root) => Some(member),
            (root, member) => root.or(member),
        }
    }
}

/// Who talks to the members of one cluster.
pub struct Talk<'a> {
    road: &'a Road,
    cluster: &'a ClusterModel,
    topology: &'a Topology,
    tls: Option<TlsMaterial>,
    open: Mutex<BTreeMap<String, Arc<Connections>>>,
    /// The names of the servers by the peer URLs of their members.
    peer_urls: BTreeMap<String, String>,
    /// The names of the servers by the IDs that their members gave themselves.
    known: Mutex<BTreeMap<u64, String>>,
}

/// What there is to one member. Whoever wants what another is just connecting waits for that.
struct Connections {
    elsewhere: Elsewhere,
    api: tokio::sync::Mutex<Option<Api>>,
    pages: tokio::sync::OnceCell<Pages>,
}

impl<'a> Talk<'a> {
    /// With this certificate; none without TLS.
    pub fn new(road: &'a Road, cluster: &'a ClusterModel, topology: &'a Topology, tls: Option<TlsMaterial>) -> Self {
        Self {
            road,
            cluster,
            topology,
            tls,
            peer_urls: peer_urls(topology),
            open: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The same for members with other peer URLs than the topology's: the names of the servers by them.
    #[must_use]
    pub fn with_peer_urls(mut self, peer_urls: BTreeMap<String, String>) -> Self {
        self.peer_urls = peer_urls;
        self
    }

    /// With the certificate that lies on a server for this. `None` if the cluster has TLS and the server no certificate.
    pub fn borrow(
        road: &'a Road,
        cluster: &'a ClusterModel,
        topology: &'a Topology,
        lent: Option<Lent>,
    ) -> Option<Self> {
        let tls = match &cluster.certificate_authorities {
            None => None,
            Some(authorities) => {
                let Lent { certificate, key } = lent?;
                Some(TlsMaterial {
                    ca_pem: authorities.client.trusted().to_owned(),
                    cert_pem: certificate,
                    key_pem: key,
                })
            }
        };
        Some(Self::new(road, cluster, topology, tls))
    }

    /// A connection to the member on this server; the one that there is, if there is one.
    ///
    /// # Errors
    /// If it does not answer within the time.
    pub async fn to(&self, name: &str, within: Duration) -> Result<Api, TalkError> {
        self.connections(name).elsewhere.ask_from_now();
        self.connect(name, within).await
    }

    async fn connect(&self, name: &str, within: Duration) -> Result<Api, TalkError> {
        let late = |_| ApiError::Timeout {
            member: name.to_owned(),
            call: "connect".to_owned(),
            waited: within,
        };
        let began = Instant::now();
        let connections = self.connections(name);
        let mut kept = timeout(within, connections.api.lock()).await.map_err(late)?;
        if let Some(api) = &*kept {
            return Ok(api.clone());
        }
        let within = within.saturating_sub(began.elapsed());
        let (host, target) = self.way(name, within, connections.elsewhere.clone()).await?;
        let api = Api::connect(&host, &target, within).await?;
        *kept = Some(api.clone());
        Ok(api)
    }

    fn connections(&self, name: &str) -> Arc<Connections> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            Arc::new(Connections {
                elsewhere: Elsewhere::of(&self.cluster.name),
                api: tokio::sync::Mutex::default(),
                pages: tokio::sync::OnceCell::default(),
            })
        };
        Arc::clone(open.entry(name.to_owned()).or_insert_with(fresh))
    }

    /// Connects to a member as soon as something listens where its clients come in, and goes on trying as long as nobody
    /// stops it. The handshake ends when the member serves, and the first question is answered a round trip later.
    pub async fn connect_early(&self, name: &str, api: bool) {
        loop {
            let connected = async {
                if api {
                    self.connect(name, EARLY).await?;
                } else {
                    let connections = self.connections(name);
                    self.pages(&connections, name, EARLY).await?.connect(EARLY).await?;
                }
                Ok::<_, TalkError>(())
            };
            if connected.await.is_ok() {
                return;
            }
            sleep(REDIAL).await;
        }
    }

    /// The server of this name.
    ///
    /// # Errors
    /// If it is not reached within the time.
    pub async fn host(&self, name: &str, within: Duration) -> Result<Host, TalkError> {
        Ok(self.road.connect(self.cluster.server(name)?, within, false).await?)
    }

    async fn way(&self, name: &str, within: Duration, elsewhere: Elsewhere) -> Result<(Host, ApiTarget), TalkError> {
        let (server, place) = self.topology.find(name)?;
        let host = self.host(name, within).await?;
        let target = ApiTarget {
            address: place.loopback(),
            port: place.client_port,
            elsewhere: Some(elsewhere),
            tls: self.tls.clone(),
            server_name: self.topology.domain().stable_name(server),
            // A member that was not taken over yet listens where it was told to, and shows the certificate that it was given.
            other_addresses: match &self.cluster.adopted_from {
                Some(_) => vec![place.private_address],
                None => Vec::new(),
            },
        };
        Ok((host, target))
    }

    async fn pages<'c>(
        &self,
        connections: &'c Connections,
        name: &str,
        within: Duration,
    ) -> Result<&'c Pages, TalkError> {
        let making = async {
            let (host, target) = self.way(name, within, connections.elsewhere.clone()).await?;
            Ok(Pages::new(&host, &target)?)
        };
        connections.pages.get_or_try_init(|| making).await
    }

    /// What the member on this server measures. Not over the API's connection: it answers where the API does not.
    ///
    /// # Errors
    /// If it does not answer within the time.
    pub async fn metrics(&self, name: &str, within: Duration) -> Result<Metrics, TalkError> {
        let began = Instant::now();
        let connections = self.connections(name);
        connections.elsewhere.ask_from_now();
        let pages = self.pages(&connections, name, within).await?;
        let left = within.saturating_sub(began.elapsed());
        Ok(Metrics::parse(&pages.get("/metrics", left).await?))
    }

    /// What each of these members measures; who does not answer within the time is left out.
    pub async fn metrics_of(&self, members: &[String], within: Duration) -> BTreeMap<String, Metrics> {
        let asked =
            { members.iter() }.map(|name| async move { Some((name.clone(), self.metrics(name, within).await.ok()?)) });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The names of the servers by the IDs of their members.
    pub fn names_of(&self, members: &[Member]) -> BTreeMap<u64, String> {
        let mut names = named(&self.peer_urls, members);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, name) in &*known {
            if members.iter().any(|member| member.id == *id) {
                names.entry(*id).or_insert_with(|| name.clone());
            }
        }
        names
    }

    /// Keeps what the members on these servers said of themselves: in a cluster that was made by other means the member list does not
    /// have their names yet.
    pub fn know<'n>(&self, members: impl IntoIterator<Item = (u64, &'n String)>) {
        if self.cluster.adopted_from.is_some() {
            let members = members.into_iter().map(|(id, name)| (id, name.clone()));
            self.known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(members);
        }
    }
}

/// The names of the servers by the IDs of their members.
pub fn names_of(topology: &Topology, members: &[Member]) -> BTreeMap<u64, String> {
    named(&peer_urls(topology), members)
}

fn peer_urls(topology: &Topology) -> BTreeMap<String, String> {
    let servers = topology.servers().keys();
    let urls = servers.filter_map(|server| Some((topology.peer_url(server).ok()?, server.to_string())));
    urls.collect()
}

fn named(urls: &BTreeMap<String, String>, members: &[Member]) -> BTreeMap<u64, String> {
    let names = members.iter().filter_map(|member| {
        let exact = member.peer_urls.iter().find_map(|url| urls.get(url));
        // A member whose port changes has its former one in the list for a while. Its name is its own all the same.
        let by_name = || {
            let mut hosts = member.peer_urls.iter().filter_map(|url| name_in(url));
            hosts.find_map(|host| {
                urls.iter()
                    .find(|(url, _)| name_in(url) == Some(host))
                    .map(|(_, server)| server)
            })
        };
        Some((member.id, exact.or_else(by_name)?.clone()))
    });
    names.collect()
}

/// The host of a URL, if that is a name.
fn name_in(url: &str) -> Option<&str> {
    let host = url.split_once("://")?.1.rsplit_once(':')?.0;
    (host.parse::<IpAddr>().is_err() && !host.starts_with('[')).then_some(host)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use time::Duration;

    use super::*;
    use crate::etcd::certificates::{Ca, CaPurpose, LeafRequest, OPERATOR_LIFETIME, ROOT};
    use crate::topology::ClusterName;

    #[test]
    fn the_members_own_is_lent_when_roots_has_ended() {
        let cluster = ClusterName::parse("main").unwrap();
        let lent_after = |days: i64| {
            let began = OffsetDateTime::now_utc() - Duration::days(days);
            let ca = Ca::generate(&cluster, CaPurpose::Clients, began).unwrap();
            let root = LeafRequest::operator(ROOT).with_lifetime(OPERATOR_LIFETIME);
            let answers = [("operator", root), ("server", LeafRequest::operator("a1"))].map(|(whose, request)| {
                let pem = ca.issue(&request, began).unwrap().cert_pem;
                let pem = STANDARD.encode(pem);
                format!("mark-lent-{whose}-certificate:={pem}\nmark-lent-{whose}-key:=a2V5\n")
            });
            let output = Output::new(&answers.concat(), String::new(), 0, "mark-");
            parse(&Lent::of(&output).unwrap().certificate).unwrap().common_name
        };
        assert_eq!(lent_after(119), ROOT);
        assert_eq!(lent_after(121), "a1");
    }
}
