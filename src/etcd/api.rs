//! etcd's API, over an SSH tunnel to the member's own server.
//!
//! Every call has its own time-out, and goes to this one member: there is no balancing, since which member says something matters here.

mod auth;
mod bounds;
mod elsewhere;
mod errors;
mod leases;
mod pages;
mod snapshots;
mod transport;
mod upkeep;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{AlarmAction, AlarmType, Client, Error, GetOptions, MemberAddOptions};
use hyper_util::rt::TokioIo;
use tonic::transport::Endpoint;

pub use elsewhere::Elsewhere;
pub use errors::ApiError;
pub use leases::Created;
pub use pages::Pages;
pub use snapshots::SnapshotStream;
pub use transport::{ApiTarget, TlsMaterial};

use crate::host::{Host, said};
use transport::{Dialler, Protocol};

/// One member of the cluster, as another or itself lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its ID.
    pub id: u64,
    /// Its name; empty for one that was added and has not started.
    pub name: String,
    /// Its peer URLs.
    pub peer_urls: Vec<String>,
    /// Its client URLs; none as long as it has not started.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

impl Member {
    /// Whether it has ever started.
    pub fn has_started(&self) -> bool {
        // Not the name: one that was restored from a snapshot has that before its first start.
        !self.client_urls.is_empty()
    }
}

/// What a member says of itself. It answers without a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its ID.
    pub member_id: u64,
    /// Its cluster's ID.
    pub cluster_id: u64,
    /// The leader's ID; 0 when it knows none.
    pub leader: u64,
    /// Raft's term.
    pub raft_term: u64,
    /// Raft's committed index.
    pub raft_index: u64,
    /// Raft's applied index.
    pub raft_applied_index: u64,
    /// The version that runs.
    pub version: String,
    /// Size of the backend in bytes, if it says one that there can be.
    pub db_size: Option<u64>,
    /// Bytes of it that are in use, likewise.
    pub db_size_in_use: Option<u64>,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// What it complains about (no leader, alarms).
    pub errors: Vec<String>,
}

impl Status {
    /// Whether it knows a leader.
    pub fn has_leader(&self) -> bool {
        self.leader != 0
    }

    /// Whether it is the leader.
    pub fn is_leader(&self) -> bool {
        self.leader == self.member_id
    }
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The backend's quota is used up: no writes.
    NoSpace,
    /// Data differ from other members'.
    Corrupt,
}

/// As etcd has it.
impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
        })
    }
}

/// One member's API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    client: Client,
    dialler: Dialler,
    member: String,
}

impl Api {
    /// Connects to a member, TLS included.
    ///
    /// # Errors
    /// [`ApiError`] but `NoLeader` and `Rejected`.
    pub async fn connect(host: &Host, target: &ApiTarget, timeout: Duration) -> Result<Self, ApiError> {
        let member = target.server_name.clone();
        let dialler = Dialler::new(host, target)?;
        let connecting = async {
            // The first connection is made here, where its errors can be told apart; tonic makes the later ones.
            let first = Arc::new(Mutex::new(Some(dialler.dial(Protocol::Grpc).await?)));
            let again = dialler.clone();
            let connector = tower::service_fn(move |_| {
                let kept = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                let again = again.clone();
                async move {
                    match kept {
                        Some(stream) => Ok::<_, ApiError>(TokioIo::new(stream)),
                        None => again.dial(Protocol::Grpc).await.map(TokioIo::new),
                    }
                }
            });
            let unusable = |error: &dyn fmt::Display| ApiError::Unreachable {
                member: member.clone(),
                detail: error.to_string(),
            };
            // The name only fills a header: the connector knows where to go, and does the encryption.
            let endpoint = Endpoint::from_static("http://member").http2_adaptive_window(true);
            let channel = endpoint
                .connect_with_connector(connector)
                .await
                .map_err(|error| errors::of_transport(&member, &error))?;
            Client::from_channel(bounds::bounded(channel), None)
                .await
                .map_err(|error| unusable(&error))
        };
        let late = |_| ApiError::Timeout {
            member: member.clone(),
            call: "connect".to_owned(),
            waited: timeout,
        };
        let client = tokio::time::timeout(timeout, connecting).await.map_err(late)??;
        Ok(Self {
            client,
            dialler,
            member,
        })
    }

    /// The client itself, for what is not wrapped here (leases, locks, watches).
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The members as this one knows them: its own view, answered without a quorum, and old when it is cut off. [`Self::confirm_quorum`]
    /// first makes it current.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn members(&self, timeout: Duration) -> Result<Vec<Member>, ApiError> {
        let mut client = self.client();
        let answer = self.call("member list", timeout, client.member_list()).await?;
        Ok(answer.members().iter().map(member_of).collect())
    }

    /// What the member says of itself.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn status(&self, timeout: Duration) -> Result<Status, ApiError> {
        let mut client = self.client();
        let answer = self.call("status", timeout, client.status()).await?;
        let header = answer.header();
        Ok(Status {
            member_id: header.map_or(0, etcd_client::ResponseHeader::member_id),
            cluster_id: header.map_or(0, etcd_client::ResponseHeader::cluster_id),
            leader: answer.leader(),
            raft_term: answer.raft_term(),
            raft_index: answer.raft_index(),
            raft_applied_index: answer.raft_applied_index(),
            version: said::name(answer.version()),
            db_size: u64::try_from(answer.db_size()).ok(),
            db_size_in_use: u64::try_from(answer.raft_used_db_size()).ok(),
            is_learner: answer.is_learner(),
            errors: said::names(answer.errors()),
        })
    }

    /// A linearizable read, as `etcdctl endpoint health` does: it passes only with a leader and a quorum. Learners refuse it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn confirm_quorum(&self, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        // The value of that key, if there is one, stays on the server.
        let asked = client.get("health", Some(GetOptions::new().with_count_only()));
        self.call("get", timeout, asked).await.map(drop)
    }

    /// Writes a key.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn put(&self, key: &str, value: &[u8], timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        self.call("put", timeout, client.put(key, value, None)).await.map(drop)
    }

    /// Reads a key, linearizably.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get(&self, key: &str, timeout: Duration) -> Result<Option<Vec<u8>>, ApiError> {
        let mut client = self.client();
        let answer = self.call("get", timeout, client.get(key, None)).await?;
        Ok(answer.kvs().first().map(|pair| pair.value().to_vec()))
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn delete(&self, key: &str, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        self.call("delete", timeout, client.delete(key, None)).await.map(drop)
    }

    /// Adds a learner and returns it. A time-out may have added it all the same: list the members again and compare peer URLs.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn member_add_learner(&self, peer_urls: &[String], timeout: Duration) -> Result<Member, ApiError> {
        let mut client = self.client();
        let options = MemberAddOptions::new().with_is_learner();
        let answer = self
            .call(
                "member add --learner",
                timeout,
                client.member_add(peer_urls.to_vec(), Some(options)),
            )
            .await?;
        answer.member().map(member_of).ok_or_else(|| ApiError::Rejected {
            member: self.member.clone(),
            call: "member add --learner".to_owned(),
            code: "no member in the answer".to_owned(),
            message: String::new(),
        })
    }

    /// Gives a learner its vote. Refused as long as it lags behind.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn member_promote(&self, id: u64, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        self.call("member promote", timeout, client.member_promote(id))
            .await
            .map(drop)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn member_remove(&self, id: u64, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        self.call("member remove", timeout, client.member_remove(id))
            .await
            .map(drop)
    }

    /// Changes a member's peer URLs.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn member_update(&self, id: u64, peer_urls: &[String], timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        self.call("member update", timeout, client.member_update(id, peer_urls.to_vec()))
            .await
            .map(drop)
    }

    /// Hands the leadership to another voter. Only the leader can do it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn move_leader(&self, to: u64, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        self.call("move-leader", timeout, client.move_leader(to))
            .await
            .map(drop)
    }

    /// The alarms that are raised, by member ID.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn alarms(&self, timeout: Duration) -> Result<BTreeSet<(u64, Alarm)>, ApiError> {
        let mut client = self.client();
        let answer = self
            .call(
                "alarm list",
                timeout,
                client.alarm(AlarmAction::Get, AlarmType::None, None),
            )
            .await?;
        let alarm_of = |kind| match kind {
            AlarmType::Nospace => Some(Alarm::NoSpace),
            AlarmType::Corrupt => Some(Alarm::Corrupt),
            AlarmType::None => None,
        };
        Ok(answer
            .alarms()
            .iter()
            .filter_map(|alarm| Some((alarm.member_id(), alarm_of(alarm.alarm())?)))
            .collect())
    }

    async fn call<T>(
        &self,
        call: &str,
        timeout: Duration,
        asking: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(timeout, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(errors::of_call(
                self.member.clone(),
                call,
                timeout,
                &error,
                &self.dialler.objection,
            )),
            Err(_) => Err(self.late(call, timeout)),
        }
    }

    fn late(&self, call: &str, waited: Duration) -> ApiError {
        ApiError::Timeout {
            member: self.member.clone(),
            call: call.to_owned(),
            waited,
        }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Api({})", self.member)
    }
}

fn member_of(member: &etcd_client::Member) -> Member {
    Member {
        id: member.id(),
        name: said::name(member.name()),
        peer_urls: said::names(member.peer_urls()),
        client_urls: said::names(member.client_urls()),
        is_learner: member.is_learner(),
    }
}
