//! Taking a snapshot: ask all members, choose one, and write what it sends to a file, checked on the way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use time::OffsetDateTime;
use tokio::io::{AsyncWriteExt as _, BufWriter};
use tokio_util::sync::CancellationToken;

use super::file::{Draft, path_in, prune};
use super::model::Place;
use crate::etcd::api::{Api, ApiError, Status};
use crate::etcd::snapshot::{self, Checking, Facts, SnapshotError};
use crate::membership::snapshot::{Candidate, Refusal, choose};
use crate::resource::borrowing::borrow;
use crate::resource::cluster::model::ClusterModel;
use crate::resource::road::Road;
use crate::resource::talk::Talk;
use crate::topology::Topology;

/// How long a server or a member may take to answer.
const QUESTION: Duration = Duration::from_secs(10);
/// How long a member may take for one piece. The first one comes when it has opened its database.
const PIECE: Duration = Duration::from_secs(60);
/// What is gathered before it is written.
const BUFFER: usize = 1024 * 1024;

/// What a snapshot is taken with.
pub struct Taking<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The cluster.
    pub cluster: &'a ClusterModel,
    /// Its topology.
    pub topology: &'a Topology,
    /// The server whose member is wanted; any if there is none.
    pub member: Option<&'a str>,
    /// Where it goes.
    pub place: &'a Place,
    /// How many stay there.
    pub keep: Option<usize>,
    /// Cancelled when Terraform asks to stop.
    pub stop: &'a CancellationToken,
    /// Hears how far it has come.
    pub progress: &'a (dyn Fn(Progress<'_>) + Send + Sync),
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A member was chosen.
    From(&'a str),
    /// So many bytes of so many are there.
    Written(u64, u64),
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its file.
    pub file: PathBuf,
    /// What it is.
    pub facts: Facts,
    /// The server whose member sent it.
    pub member: String,
    /// The version of etcd that it ran.
    pub etcd_version: String,
    /// etcd's ID of the cluster.
    pub cluster_id: u64,
    /// When it was asked for.
    pub taken_at: OffsetDateTime,
    /// Earlier ones that were deleted.
    pub pruned: Vec<PathBuf>,
    /// Whether the member knew no leader: what it has may be old.
    pub without_leader: bool,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// No member could be asked.
    #[error("no member of the cluster could be asked: {0}")]
    Unreached(String),
    /// No member is fit for it.
    #[error("{0}")]
    Refused(Refusal),
    /// The member did not send all of it.
    #[error("the member on {member} did not send all of it: {source}")]
    Api {
        /// The server.
        member: String,
        /// Why.
        source: ApiError,
    },
    /// It can't be written.
    #[error("{path} can't be written: {source}")]
    File {
        /// The file or folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It would not fit on the disk.
    #[error(
        "the member on {member} announces {announced} bytes, and only {free} are free where {path} is to be. Nothing was written"
    )]
    NoRoom {
        /// The server.
        member: String,
        /// How many bytes it announces.
        announced: u64,
        /// How many bytes are free.
        free: u64,
        /// The file.
        path: String,
    },
    /// More came than was announced.
    #[error("the member on {member} announced {announced} bytes and sent more. What came was deleted")]
    Endless {
        /// The server.
        member: String,
        /// How many bytes it announced.
        announced: u64,
    },
    /// What came is no snapshot.
    #[error("what the member on {member} sent is of no use: {source}")]
    Useless {
        /// The server.
        member: String,
        /// Why.
        source: SnapshotError,
    },
    /// Terraform asked to stop.
    #[error("stopped on request")]
    Stopped,
}

impl Taking<'_> {
    /// Takes it. Nothing is in its place before it was found to be whole.
    ///
    /// # Errors
    /// [`TakeError`].
    pub async fn take(&self) -> Result<Taken, TakeError> {
        tokio::select! {
            taken = self.of_the_best() => taken,
            () = self.stop.cancelled() => Err(TakeError::Stopped),
        }
    }

    async fn of_the_best(&self) -> Result<Taken, TakeError> {
        let talk = borrow(self.road, self.cluster, self.topology, QUESTION).await;
        let talk = talk.map_err(TakeError::Unreached)?;
        let answers = self.ask(&talk).await;
        let candidates: Vec<Candidate> = answers
            .iter()
            .map(|(name, _, status)| candidate(name, status))
            .collect();
        let chosen = choose(&candidates, self.member).map_err(TakeError::Refused)?;
        let found = answers.iter().find(|(name, _, _)| *name == chosen.name);
        let (member, api, status) = found.ok_or(TakeError::Refused(Refusal::Nobody))?;
        (self.progress)(Progress::From(member));
        let taken_at = OffsetDateTime::now_utc();
        let unwritable = |path: &Path, source| TakeError::File {
            path: path.display().to_string(),
            source,
        };
        let (Place::File(goal) | Place::Folder(goal)) = self.place;
        let draft = Draft::begin(self.place, &self.cluster.name).map_err(|source| unwritable(goal, source))?;
        let (size, sha256) = self.write(&draft, member, api).await?;
        let useless = |source| TakeError::Useless {
            member: member.clone(),
            source,
        };
        let inside = snapshot::look(draft.path()).map_err(useless)?;
        let file = path_in(self.place, &self.cluster.name, taken_at, inside.revision);
        draft.keep(&file).map_err(|source| unwritable(&file, source))?;
        let pruned = match (self.place, self.keep) {
            (Place::Folder(folder), Some(keep)) => {
                prune(folder, &self.cluster.name, keep).map_err(|source| unwritable(folder, source))?
            }
            _ => Vec::new(),
        };
        Ok(Taken {
            file,
            facts: Facts {
                size,
                sha256,
                revision: inside.revision,
                storage_version: inside.storage_version,
                cluster_version: inside.cluster_version,
            },
            member: member.clone(),
            etcd_version: status.version.clone(),
            cluster_id: status.cluster_id,
            taken_at,
            pruned,
            without_leader: !status.has_leader(),
        })
    }

    /// All members at once; who does not answer is left out.
    async fn ask(&self, talk: &Talk<'_>) -> Vec<(String, Api, Status)> {
        let names = self.topology.servers().keys().map(ToString::to_string);
        let asked = names.map(|name| async move {
            let api = talk.to(&name, QUESTION).await.ok()?;
            let status = api.status(QUESTION).await.ok()?;
            Some((name, api, status))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Size and checksum of what was written.
    async fn write(&self, draft: &Draft, member: &str, api: &Api) -> Result<(u64, String), TakeError> {
        let path = draft.path();
        let silent = |source| TakeError::Api {
            member: member.to_owned(),
            source,
        };
        let unwritable = |source| TakeError::File {
            path: path.display().to_string(),
            source,
        };
        let file = tokio::fs::File::from_std(draft.writer().map_err(unwritable)?);
        let mut file = BufWriter::with_capacity(BUFFER, file);
        let mut checking = Checking::default();
        let mut stream = api.snapshot(PIECE).await.map_err(silent)?;
        let free = free(path).map_err(unwritable)?;
        let mut announced = None;
        let mut written: u64 = 0;
        while let Some((piece, left)) = stream.next().await.map_err(silent)? {
            written = written.saturating_add(piece.len() as u64);
            // The first piece says how much is to come. The disk and the patience of its user depend on that.
            let whole = *announced.get_or_insert(written.saturating_add(left));
            let member = member.to_owned();
            match fits(written, whole, free) {
                Fits::Well => {}
                Fits::NoRoom => {
                    return Err(TakeError::NoRoom {
                        member,
                        announced: whole,
                        free,
                        path: path.display().to_string(),
                    });
                }
                Fits::Endless => {
                    return Err(TakeError::Endless {
                        member,
                        announced: whole,
                    });
                }
            }
            checking.update(&piece);
            file.write_all(&piece).await.map_err(unwritable)?;
            (self.progress)(Progress::Written(written, whole.max(written)));
        }
        file.flush().await.map_err(unwritable)?;
        checking.finish("it").map_err(|source| TakeError::Useless {
            member: member.to_owned(),
            source,
        })
    }
}

/// What is sent behind the announced size: the checksum.
const BEHIND: u64 = 32;

#[derive(Debug, PartialEq, Eq)]
enum Fits {
    Well,
    NoRoom,
    Endless,
}

/// Whether so many bytes of so many announced ones may be written where so many are free.
fn fits(written: u64, announced: u64, free: u64) -> Fits {
    let most = announced.saturating_add(BEHIND);
    if most > free {
        Fits::NoRoom
    } else if written > most {
        Fits::Endless
    } else {
        Fits::Well
    }
}

/// The bytes that are free where a file is.
fn free(path: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn candidate(name: &str, status: &Status) -> Candidate {
    let own = format!("memberID:{} ", status.member_id);
    let corrupt = { status.errors.iter() }.any(|error| error.contains(&own) && error.contains("alarm:CORRUPT"));
    Candidate {
        name: name.to_owned(),
        has_leader: status.has_leader(),
        leads: status.is_leader(),
        votes: !status.is_learner,
        corrupt,
        applied: status.raft_applied_index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_written_than_was_announced_and_than_fits() {
        assert_eq!(fits(32_768, 20_512, u64::MAX), Fits::Endless);
        assert_eq!(
            fits(20_512, 20_480, 1 << 30),
            Fits::Well,
            "the checksum comes behind it"
        );
        assert_eq!(fits(20_513, 20_480, 1 << 30), Fits::Endless);
        assert_eq!(fits(32_768, 2 << 30, 1 << 30), Fits::NoRoom);
        assert_eq!(fits(32_768, u64::MAX, 1 << 30), Fits::NoRoom);
        assert!(free(Path::new("/")).is_ok_and(|free| free > 0));
    }
}
