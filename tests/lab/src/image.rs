//! The shared Debian root and the SSH key, kept in the cache folder from one run to the next.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::PASSWORD;
use crate::command::must;

const SCRIPT: &str = include_str!("image.sh");

/// Where the downloads of `tests/setup` and the lab's root are: `${XDG_CACHE_HOME:-~/.cache}/terraform-provider-etcd`.
pub fn cache_folder() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME").unwrap_or_else(|| set("HOME").unwrap_or_else(|| "/root".into()).join(".cache"));
    cache.join("terraform-provider-etcd")
}

/// The private key that opens every user's account on every host.
pub fn private_key_file() -> PathBuf {
    cache_folder().join("lab/id_ed25519")
}

/// The shared root, made now if it isn't there.
pub(crate) fn ensure() -> Result<PathBuf> {
    let folder = cache_folder().join("lab");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).context("making the lock of the lab's cache")?;
    flock(&lock, FlockOperation::LockExclusive).context("waiting for another run that makes the root")?;
    let key = private_key_file();
    if !key.exists() {
        must(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"])
                .arg(&key),
            "",
        )?;
    }
    let public_key = key.with_extension("pub");
    let key_text = fs::read_to_string(&public_key).context("reading the lab's public key")?;
    let root = folder.join(format!("root-{:016x}", checksum(&[SCRIPT, &key_text, PASSWORD])));
    if !root.is_dir() {
        build(&folder, &root, &public_key)?;
    }
    Ok(root)
}

/// Builds beside the final name and renames, so that what has that name is whole.
fn build(folder: &Path, root: &Path, public_key: &Path) -> Result<()> {
    let unfinished = folder.join("unfinished");
    must(
        Command::new("rm").args(["-rf", "--one-file-system"]).arg(&unfinished),
        "",
    )?;
    let mut command = Command::new("sh");
    command
        .args(["-s", "--"])
        .arg(&unfinished)
        .arg(public_key)
        .arg(PASSWORD);
    must(&mut command, SCRIPT).context("making the hosts' Debian root (is everything of tests/setup there?)")?;
    fs::rename(&unfinished, root).context("giving the root its name")
}

/// FNV-1a: stable from one Rust to the next, unlike the standard library's hasher.
fn checksum(texts: &[&str]) -> u64 {
    texts
        .iter()
        .flat_map(|text| text.bytes().chain([0]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
