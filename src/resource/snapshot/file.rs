//! The file that a snapshot is written to: beside its place until it is whole, and for nobody else to read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::process::geteuid;
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
        // Twice: a run that was killed may have left one.
        for _ in 0..2 {
            // Never a file that is there already: another user may have made it, and may have it open.
            let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            match created {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => take_away(&path)?,
                Err(error) => return Err(error),
                Ok(file) => {
                    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| is_written(&path))?;
                    let kept = false;
                    return Ok(Self { path, file, kept });
                }
            }
        }
        Err(is_written(&path))
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

fn is_written(path: &Path) -> io::Error {
    let text = format!("another run is writing {}", path.display());
    io::Error::new(ErrorKind::ResourceBusy, text)
}

/// Deletes what a run of ours that was killed has left at `path`.
fn take_away(path: &Path) -> io::Result<()> {
    let strange = || {
        let text = format!(
            "{} is there, and this user has not made it: delete it, or take a folder that no other user can write to",
            path.display()
        );
        io::Error::new(ErrorKind::AlreadyExists, text)
    };
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => File::from(opened.map_err(|_| strange())?),
    };
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != geteuid().as_raw() || found.nlink() != 1 {
        return Err(strange());
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| is_written(path))?;
    // The run that had the lock may have put this very file in place meanwhile.
    match fs::symlink_metadata(path) {
        Ok(now) if now.ino() == found.ino() => fs::remove_file(path),
        _ => Ok(()),
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
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// In a folder that others can write to.
    #[test]
    fn nothing_is_written_into_what_another_has_put_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.db");
        let place = Place::File(path.clone());
        let partial = folder.path().join(".main.db.partial");
        let target = folder.path().join("target");
        fs::write(&target, "precious").unwrap();
        symlink(&target, &partial).unwrap();
        let said = Draft::begin(&place, "main").map(drop).unwrap_err().to_string();
        assert!(said.contains("this user has not made it"), "{said}");
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        fs::remove_file(&partial).unwrap();
        fs::hard_link(&target, &partial).unwrap();
        assert!(Draft::begin(&place, "main").is_err());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        fs::remove_file(&partial).unwrap();
        // One that is open elsewhere is another file than what is written.
        fs::write(&partial, "").unwrap();
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o666)).unwrap();
        let mut open_elsewhere = File::open(&partial).unwrap();
        let draft = Draft::begin(&place, "main").unwrap();
        draft.writer().unwrap().write_all(b"secret").unwrap();
        draft.keep(&path).unwrap();
        let mut seen = String::new();
        open_elsewhere.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Another user's, which root alone could open.
        if geteuid().is_root() {
            fs::write(&partial, "").unwrap();
            std::os::unix::fs::chown(&partial, Some(65534), Some(65534)).unwrap();
            assert!(Draft::begin(&place, "main").is_err());
        }
    }

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
