//! The file that a snapshot is written to: beside its place until it is whole, and for nobody else to read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use time::OffsetDateTime;

use super::model::Place;
use crate::membership::snapshot::superfluous;

/// A file that is being written. Dropped before it is kept it goes away.
pub struct Draft {
    path: PathBuf,
    /// Locked as long as it is open: what a killed run left is taken over, what another run writes is not.
    file: File,
    kept: bool,
}

impl Draft {
    /// Begins a file in the folder of its place.
    pub fn begin(place: &Place, cluster: &str) -> io::Result<Self> {
        let (folder, name) = match place {
            Place::File(path) => {
                let name = path.file_name().ok_or(io::Error::from(ErrorKind::InvalidFilename))?;
                (folder_of(path), name.to_string_lossy().into_owned())
            }
            Place::Folder(folder) => (folder.clone(), cluster.to_owned()),
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = folder.join(format!(".{name}.partial"));
        loop {
            let mut options = OpenOptions::new();
            let file = options
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                let text = format!("another run is writing {}", path.display());
                return Err(io::Error::new(ErrorKind::ResourceBusy, text));
            }
            // Whoever had the lock before may have put this very file in place.
            if fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino())) {
                file.set_len(0)?;
                file.set_permissions(fs::Permissions::from_mode(0o600))?;
                let kept = false;
                return Ok(Self { path, file, kept });
            }
        }
    }

    /// To write to.
    pub fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Where it is meanwhile.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in place, as durably as the disk can.
    pub fn keep(mut self, place: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, place)?;
        self.kept = true;
        File::open(folder_of(place))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The file of a snapshot in its place.
pub fn path_in(place: &Place, cluster: &str, taken_at: OffsetDateTime, revision: i64) -> PathBuf {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    match place {
        Place::File(path) => path.clone(),
        Place::Folder(folder) => {
            let stamp = taken_at.format(&format).unwrap_or_default();
            folder.join(format!("{cluster}-{stamp}-r{revision}.db"))
        }
    }
}

/// Whether a file has the name that [`path_in`] gives to snapshots of a cluster.
fn is_of(cluster: &str, name: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = || {
        let (stamp, revision) = name.strip_prefix(cluster)?.strip_prefix('-')?.split_once("-r")?;
        let (day, hour) = stamp.strip_suffix('Z')?.split_once('T')?;
        let revision = revision.strip_suffix(".db")?;
        Some(digits(day, 8) && digits(hour, 6) && !revision.is_empty() && digits(revision, revision.len()))
    };
    parts().unwrap_or(false)
}

/// Deletes the oldest snapshots of a cluster in a folder, but for the newest `keep`.
pub fn prune(folder: &Path, cluster: &str, keep: usize) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| is_of(cluster, name)) {
            names.push(name.to_owned());
        }
    }
    let gone: Vec<PathBuf> = { superfluous(names, keep).into_iter() }
        .map(|name| folder.join(name))
        .collect();
    gone.iter().try_for_each(fs::remove_file)?;
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/main.db");
        let place = Place::File(path.clone());
        drop(Draft::begin(&place, "main").unwrap());
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 0);
        // What a killed run has left is taken over.
        fs::write(folder.path().join("new/.main.db.partial"), "left over, and longer").unwrap();
        let draft = Draft::begin(&place, "main").unwrap();
        assert!(Draft::begin(&place, "main").is_err(), "another one writes it");
        draft.writer().unwrap().write_all(b"whole").unwrap();
        assert!(!path.exists());
        draft.keep(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(Draft::begin(&place, "main").unwrap());
        assert_eq!(
            fs::read(&path).unwrap(),
            b"whole",
            "one that came to nothing leaves it as it was"
        );
    }

    #[test]
    fn the_oldest_go_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().to_owned());
        let day = |day: u8| time::macros::datetime!(2026-01-01 00:00 UTC).replace_day(day).unwrap();
        let files: Vec<PathBuf> = (1..=4)
            .map(|at| path_in(&place, "main", day(at), i64::from(at) * 90))
            .collect();
        let others = [
            "main-2-20260101T000000Z-r5.db",
            "main-notes.db",
            "main-20260101T000000Z-r.db",
            "other.db",
        ];
        others
            .iter()
            .for_each(|name| fs::write(folder.path().join(name), "").unwrap());
        files.iter().for_each(|file| fs::write(file, "").unwrap());
        assert_eq!(prune(folder.path(), "main", 2).unwrap(), files[..2]);
        assert!(files[2].exists() && files[3].exists() && !files[0].exists());
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
    }
}
