//! Snapshot files: etcd's database, and behind it the SHA-256 of all of it, as etcd sends it.

mod database;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;

use super::version::Version;

/// Length of the checksum that etcd appends.
const CHECKSUM: usize = 32;
/// The database is whole sectors, so a file that has a checksum shows by its length (`hasChecksum` in etcd's `etcdutl/snapshot`).
const SECTOR: u64 = 512;
/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

/// What a snapshot file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file, checksum included, in hexadecimal: what `sha256sum` says.
    pub sha256: String,
    /// The revision of the newest change in it.
    pub revision: i64,
    /// The version of etcd that its layout needs at least; from 3.6 on it is written down.
    pub storage_version: Option<String>,
    /// The version of the cluster that it was taken from, as far as it is in it.
    pub cluster_version: Option<String>,
}

impl Facts {
    /// The minor version of etcd that can read it, and every one before can't.
    #[must_use]
    pub fn needs_minor(&self) -> Option<u64> {
        Some(Version::parse(self.storage_version.as_deref()?).ok()?.number().1)
    }
}

/// Why a file is no snapshot that could be restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It can't be read.
    #[error("{path} can't be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} is no snapshot of etcd: {why}")]
    Foreign {
        /// The file.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// It is a database without the checksum, or not all of it.
    #[error(
        "{path} is not whole: its {size} bytes are no database with a checksum behind it. Either it was cut off while it was copied, or it is a \
         copy of a member's `member/snap/db` and not a snapshot, which nobody can tell a damaged one from"
    )]
    Cut {
        /// The file.
        path: String,
        /// Its length.
        size: u64,
    },
    /// It was changed since it was taken.
    #[error(
        "{path} is damaged: its checksum is {found}, and it was taken with {wanted}. Take it from where it was copied from once more"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What it should be.
        wanted: String,
        /// What it is.
        found: String,
    },
}

/// Takes the checksums of a snapshot as it goes by, in flat memory.
pub struct Checking {
    whole: Context,
    database: Context,
    tail: Vec<u8>,
    size: u64,
}

impl Default for Checking {
    fn default() -> Self {
        Self {
            whole: Context::new(&SHA256),
            database: Context::new(&SHA256),
            tail: Vec::new(),
            size: 0,
        }
    }
}

impl Checking {
    /// The next bytes of it.
    pub fn update(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        self.size += bytes.len() as u64;
        // What may be the checksum itself is held back.
        if bytes.len() >= CHECKSUM {
            self.database.update(&self.tail);
            let (body, tail) = bytes.split_at(bytes.len() - CHECKSUM);
            self.database.update(body);
            self.tail = tail.to_vec();
        } else {
            self.tail.extend_from_slice(bytes);
            let body = self.tail.len().saturating_sub(CHECKSUM);
            self.database.update(&self.tail[..body]);
            self.tail.drain(..body);
        }
    }

    /// Size and SHA-256 of all of it, if it is whole.
    ///
    /// # Errors
    /// [`SnapshotError::Cut`], [`SnapshotError::Damaged`]; `path` stands in them.
    pub fn finish(self, path: &str) -> Result<(u64, String), SnapshotError> {
        let size = self.size;
        if size % SECTOR != CHECKSUM as u64 {
            return Err(SnapshotError::Cut {
                path: path.to_owned(),
                size,
            });
        }
        let found = self.database.finish();
        if found.as_ref() != self.tail {
            return Err(SnapshotError::Damaged {
                path: path.to_owned(),
                wanted: HEXLOWER.encode(&self.tail),
                found: HEXLOWER.encode(found.as_ref()),
            });
        }
        Ok((size, HEXLOWER.encode(self.whole.finish().as_ref())))
    }
}

/// What is written down in a snapshot's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The revision of the newest change in it.
    pub revision: i64,
    /// As in [`Facts`].
    pub storage_version: Option<String>,
    /// As in [`Facts`].
    pub cluster_version: Option<String>,
}

/// Reads a snapshot file, all of it: a damaged, cut or foreign one is refused.
///
/// # Errors
/// [`SnapshotError`].
pub fn read(path: &Path) -> Result<Facts, SnapshotError> {
    let name = path.display().to_string();
    let unreadable = |source| SnapshotError::Read {
        path: name.clone(),
        source,
    };
    let mut file = open(path)?;
    // What it is comes first: of a photograph nobody wants to hear that it is cut.
    database::Database::open(&mut file).map_err(|error| foreign(&name, error))?;
    let mut checking = Checking::default();
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        checking.update(&piece[..count]);
    }
    let (size, sha256) = checking.finish(&name)?;
    let inside = look(path)?;
    Ok(Facts {
        size,
        sha256,
        revision: inside.revision,
        storage_version: inside.storage_version,
        cluster_version: inside.cluster_version,
    })
}

/// Reads what is written down in a snapshot file, without its checksum.
///
/// # Errors
/// [`SnapshotError::Read`], [`SnapshotError::Foreign`].
pub fn look(path: &Path) -> Result<Inside, SnapshotError> {
    let name = path.display().to_string();
    let mut file = open(path)?;
    let looked = database::Database::open(&mut file).and_then(|pages| pages.contents(&mut file));
    looked.map_err(|error| foreign(&name, error))
}

fn open(path: &Path) -> Result<File, SnapshotError> {
    let name = path.display().to_string();
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.is_file(), file)));
    match opened {
        Ok((true, file)) => Ok(file),
        Ok((false, _)) => Err(SnapshotError::Foreign {
            path: name,
            why: "it is no file",
        }),
        Err(source) => Err(SnapshotError::Read { path: name, source }),
    }
}

fn foreign(path: &str, error: database::DatabaseError) -> SnapshotError {
    let path = path.to_owned();
    match error {
        database::DatabaseError::Read(source) => SnapshotError::Read { path, source },
        database::DatabaseError::Foreign(why) => SnapshotError::Foreign { path, why },
    }
}

#[cfg(test)]
mod tests;
