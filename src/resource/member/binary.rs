//! Where a member's binaries come from, and how they get onto its server.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::model::{BinaryModel, MemberModel};
use super::observe::Seen;
use crate::etcd::layout::{PathError, ServerPath, binaries_dir};
use crate::etcd::release::{Arch, BinarySource, ReleaseError, Sha256Sum, carried_sum, fetch_arguments, fetch_script};
use crate::etcd::version::Version;
use crate::host::shell::quote;
use crate::host::{Host, PRIVILEGE, RunError, Script, Upload, UploadError};
use crate::plugin::value::Value;

/// Why the binaries are not there.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// The path on the server can't be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A script failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An upload failed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// A local file can't be read.
    #[error("{path} can't be read: {source}")]
    Local {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The checksum is none.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// etcd is not built for the server's processor.
    #[error("server {server} has a processor that etcd is not built for: {machine}")]
    Arch {
        /// The server.
        server: String,
        /// What `uname -m` says.
        machine: String,
    },
    /// There is no etcd at the path on the server.
    #[error("server {server} has no etcd at {path}: binary.host_path has to be a file etcd, or a folder with it")]
    NotThere {
        /// The server.
        server: String,
        /// The path.
        path: String,
    },
    /// It is another version.
    #[error("the binary at {path} on server {server} is etcd {found}, and version is {wanted}")]
    OtherVersion {
        /// The server.
        server: String,
        /// The path.
        path: String,
        /// What it says it is; empty if it says nothing.
        found: String,
        /// What is wanted.
        wanted: Version,
    },
    /// It is another program.
    #[error(
        "{path} has the SHA-256 sum {found}, and binary.sha256 is {wanted}. Nothing was changed on server {server}"
    )]
    OtherSum {
        /// The server.
        server: String,
        /// The program, here or on the server.
        path: String,
        /// What it is.
        found: String,
        /// What is wanted.
        wanted: String,
    },
    /// Nothing says what the archive is to be.
    #[error(
        "the provider carries no checksum of etcd {version} for {arch}, the processor of server {server}: set binary.sha256 to that of \
         the archive. Nothing was changed on this server"
    )]
    NoSum {
        /// The server.
        server: String,
        /// The version.
        version: Version,
        /// The processor.
        arch: Arch,
    },
    /// It takes another program to run.
    #[error(
        "on server {server} {path} is a script. The member's service can execute etcd and nothing else, so name etcd itself. Nothing was \
         changed on this server"
    )]
    IsScript {
        /// The server.
        server: String,
        /// Where the binaries are to be.
        path: String,
    },
    /// The member's user can't run it.
    #[error(
        "on server {server} the user {user} can't run {path}: {why}. Nothing was stopped or started. Each folder above it has to let every user \
         pass, and its file system must not be mounted with noexec (`findmnt -T {path}`). Mend that, or use another place (`binary`), and apply again"
    )]
    NotRun {
        /// The server.
        server: String,
        /// The user.
        user: String,
        /// The program.
        path: String,
        /// What the system says.
        why: String,
    },
    /// Others can change it.
    #[error(
        "on server {server} another user than root can change what is run from {path} ({loose}). Make it root's alone (`chown root:root`, \
         `chmod go-w`), the folders above it too, or use another place. Nothing was changed on this server"
    )]
    Loose {
        /// The server.
        server: String,
        /// Where the binaries are to be.
        path: String,
        /// The first path that others can change, its owner and its mode.
        loose: String,
    },
}

/// Refuses a program that another user than root can change: root's snapshots run what is beside it, and the member is run from it.
///
/// # Errors
/// [`BinaryError::Loose`].
pub fn is_roots(member: &MemberModel, version: &Version, seen: &Seen) -> Result<(), BinaryError> {
    match &seen.loose {
        None if seen.script => Err(BinaryError::IsScript {
            server: member.server.clone(),
            path: path(member, version),
        }),
        None => is_as_given(member, version, seen),
        Some(loose) => Err(BinaryError::Loose {
            server: member.server.clone(),
            path: path(member, version),
            loose: loose.clone(),
        }),
    }
}

/// Refuses a program that is on the server already, and is not what the user says.
fn is_as_given(member: &MemberModel, version: &Version, seen: &Seen) -> Result<(), BinaryError> {
    let binary = member.binary.as_ref().filter(|binary| binary.host_path.is_some());
    match (binary.and_then(|binary| binary.sha256.as_ref()), &seen.binary_sum) {
        (Some(wanted), Some(found)) if !wanted.eq_ignore_ascii_case(found) => Err(BinaryError::OtherSum {
            server: member.server.clone(),
            path: path(member, version),
            found: found.clone(),
            wanted: wanted.clone(),
        }),
        _ => Ok(()),
    }
}

/// What is known of the program that a member is to run, beyond its version.
#[derive(Debug, Default)]
pub struct Known {
    /// What the last apply left there, or what the user says that it is.
    sum: Option<String>,
    /// Whether it is to come from elsewhere now, though its version stays.
    elsewhere: bool,
    /// Whether it was brought to the server in this run. What is there then is right.
    brought: AtomicBool,
}

impl Known {
    /// From the state before, and from what is planned.
    pub fn new(prior: &Value, planned: &Value) -> Self {
        let binary = planned.get("binary");
        let on_server = binary.get("host_path").as_str().is_some();
        let of_program = on_server || binary.get("upload").as_str().is_some();
        let same = |name: &str| prior.get(name) == planned.get(name);
        let given = binary.get("sha256").as_str().filter(|_| of_program);
        // What lies on the server is the user's: another program of the same version is taken as it is.
        let left = prior.get("binary_sha256").as_str();
        let left = left.filter(|_| !on_server && same("version") && same("binary"));
        Self {
            sum: given.or(left).map(str::to_ascii_lowercase),
            elsewhere: !prior.is_null() && same("version") && !same("binary") && !on_server,
            brought: AtomicBool::new(false),
        }
    }

    /// Whether it has to be brought to the server: another version is there, or another program.
    pub fn is_to_be_brought(&self, version: &Version, seen: &Seen) -> bool {
        let open = !self.brought.load(Ordering::Relaxed);
        seen.binary.as_deref() != Some(&version.to_string()) || open && (self.elsewhere || self.other(&seen.binary_sum))
    }

    /// Whether the process runs another program than the one that is right, from the same place.
    pub fn runs_other(&self, seen: &Seen) -> bool {
        let open = !self.brought.load(Ordering::Relaxed) && self.sum.is_some();
        seen.running_sum.is_some()
            && if open {
                self.other(&seen.running_sum)
            } else {
                seen.binary_sum.is_some() && seen.running_sum != seen.binary_sum
            }
    }

    fn other(&self, sum: &Option<String>) -> bool {
        self.sum
            .as_ref()
            .zip(sum.as_ref())
            .is_some_and(|(right, sum)| right != sum)
    }
}

/// The file or folder on the server where the binaries are to be.
pub fn path(member: &MemberModel, version: &Version) -> String {
    let chosen = member.binary.as_ref().and_then(|binary| binary.host_path.clone());
    chosen.unwrap_or_else(|| binaries_dir(version).to_string())
}

/// The executable on the server, as the unit names it.
///
/// # Errors
/// If its path can't stand in a unit.
pub fn executable(member: &MemberModel, version: &Version, seen: &Seen) -> Result<ServerPath, PathError> {
    let chosen = path(member, version);
    let within = format!("{}/etcd", chosen.trim_end_matches('/'));
    // It is what was chosen, or in it: no server can say otherwise.
    let found = seen.binary_path.as_ref().filter(|found| **found == chosen);
    ServerPath::parse(found.unwrap_or(&within))
}

/// Brings the binaries onto the server, where that is ours to do.
///
/// # Errors
/// If they can't be brought there, or are not the wanted version's.
pub async fn provide(
    host: &Host,
    member: &MemberModel,
    version: &Version,
    seen: &Seen,
    known: &Known,
    within: Duration,
) -> Result<(), BinaryError> {
    let binary = member.binary.clone().unwrap_or_default();
    // The programs that an archive was unpacked to are changed without its stamp.
    let again = known.other(&seen.binary_sum);
    match binary {
        BinaryModel {
            host_path: Some(path), ..
        } => {
            let server = member.server.clone();
            Err(match &seen.binary {
                None => BinaryError::NotThere { server, path },
                Some(found) => BinaryError::OtherVersion {
                    server,
                    path,
                    found: found.clone(),
                    wanted: version.clone(),
                },
            })
        }
        BinaryModel {
            upload: Some(local), ..
        } => upload(host, member, &local, version).await,
        _ => fetch(host, member, version, arch(&member.server, seen)?, again, within).await,
    }?;
    known.brought.store(true, Ordering::Relaxed);
    Ok(())
}

async fn upload(host: &Host, member: &MemberModel, local: &str, version: &Version) -> Result<(), BinaryError> {
    let mut files = Vec::new();
    for (from, name) in local_files(local)? {
        let sha256 = sha256_of(&from).await?;
        files.push((from, name, sha256));
    }
    let wanted = member.binary.as_ref().and_then(|binary| binary.sha256.as_ref());
    if let (Some(wanted), Some((from, _, found))) = (wanted, files.iter().find(|(_, name, _)| *name == "etcd"))
        && !wanted.eq_ignore_ascii_case(found)
    {
        return Err(BinaryError::OtherSum {
            server: member.server.clone(),
            path: from.display().to_string(),
            found: found.clone(),
            wanted: wanted.clone(),
        });
    }
    let directory = binaries_dir(version);
    let prepare = Script::new("making the folder for binaries")
        .set("directory", directory.as_str())
        .line(PRIVILEGE)
        .line("umask 022; mkdir -p \"$directory\"; only_roots \"$directory\"");
    host.run_checked(&prepare).await?;
    for (from, name, sha256) in files {
        let to = format!("{directory}/{name}");
        host.upload(&Upload {
            from,
            to,
            mode: 0o755,
            sha256,
            look_first: true,
        })
        .await?;
    }
    Ok(())
}

/// The local binaries: the file itself, or those that the folder has.
fn local_files(local: &str) -> Result<Vec<(PathBuf, &'static str)>, BinaryError> {
    let path = PathBuf::from(local);
    let unreadable = |source| BinaryError::Local {
        path: local.to_owned(),
        source,
    };
    if !std::fs::metadata(&path).map_err(unreadable)?.is_dir() {
        return Ok(vec![(path, "etcd")]);
    }
    let found = ["etcdctl", "etcdutl", "etcd"].map(|name| (path.join(name), name));
    let found: Vec<_> = found.into_iter().filter(|(file, _)| file.is_file()).collect();
    if found.iter().any(|(_, name)| *name == "etcd") {
        return Ok(found);
    }
    Err(unreadable(std::io::Error::new(
        std::io::ErrorKind::NotFound,
        "the folder has no file etcd",
    )))
}

async fn sha256_of(path: &Path) -> Result<String, BinaryError> {
    let unreadable = |source| BinaryError::Local {
        path: path.display().to_string(),
        source,
    };
    let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 18];
    loop {
        let read = file.read(&mut buffer).await.map_err(unreadable)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(data_encoding::HEXLOWER.encode(&hash.finalize()))
}

/// The archive that the server fetches, with the sum that the user or the provider knows.
fn source(member: &MemberModel, version: &Version, arch: Arch) -> Result<BinarySource, BinaryError> {
    let binary = member.binary.clone().unwrap_or_default();
    let given = binary.sha256.as_deref().map(Sha256Sum::parse).transpose()?;
    let sum = given.or_else(|| carried_sum(version, arch));
    match (binary.url, sum) {
        (Some(url), Some(sha256)) => Ok(BinarySource::Url { url, sha256 }),
        (Some(_), None) => Err(BinaryError::NoSum {
            server: member.server.clone(),
            version: version.clone(),
            arch,
        }),
        (None, sha256) => Ok(BinarySource::Official { sha256 }),
    }
}

/// Lets the server fetch an archive itself; `again`, though it has fetched the same one before.
async fn fetch(
    host: &Host,
    member: &MemberModel,
    version: &Version,
    arch: Arch,
    again: bool,
    within: Duration,
) -> Result<(), BinaryError> {
    let source = source(member, version, arch)?;
    let Some(arguments) = fetch_arguments(&source, version, arch) else {
        return Ok(());
    };
    let arguments: Vec<String> = arguments.iter().map(|argument| quote(argument)).collect();
    let directory = binaries_dir(version);
    let forget = format!("rm -f {directory}/.archive-sha256 {directory}/.archive-url");
    let script = Script::new("fetching etcd")
        .timeout(within)
        .line(PRIVILEGE)
        .line(format!("only_roots {}", quote(directory.as_str())))
        .line(if again { forget } else { String::new() })
        .line(fetch_script())
        .line(format!("umask 022; fetch_etcd {}", arguments.join(" ")));
    host.run_checked(&script).await.map(drop).map_err(BinaryError::Run)
}

/// The processor of a server.
///
/// # Errors
/// If etcd is not built for it.
pub fn arch(server: &str, seen: &Seen) -> Result<Arch, BinaryError> {
    Arch::from_uname(&seen.machine).ok_or_else(|| BinaryError::Arch {
        server: server.to_owned(),
        machine: seen.machine.clone(),
    })
}

#[cfg(test)]
#[path = "binary/tests.rs"]
mod tests;
