//! Where etcd's binaries come from, and how a server fetches them itself.

use std::fmt;
use std::path::PathBuf;

use super::layout::{ServerPath, binaries_dir};
use super::version::{Minor, Version};

/// Where the etcd project publishes its releases.
pub const OFFICIAL_BASE: &str = "https://github.com/etcd-io/etcd/releases/download";

/// The processors that the etcd project builds for, under Go's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
    /// 64-bit POWER, little endian.
    Ppc64le,
    /// IBM Z.
    S390x,
}

impl Arch {
    /// The processor that `uname -m` tells of, if etcd is built for it.
    #[must_use]
    pub fn from_uname(machine: &str) -> Option<Self> {
        match machine {
            "x86_64" | "amd64" => Some(Self::Amd64),
            "aarch64" | "arm64" => Some(Self::Arm64),
            "ppc64le" => Some(Self::Ppc64le),
            "s390x" => Some(Self::S390x),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Ppc64le => "ppc64le",
            Self::S390x => "s390x",
        })
    }
}

/// Where a member's binaries come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BinarySource {
    /// A folder that is already on the server.
    HostPath(ServerPath),
    /// A file or a folder beside Terraform, to be uploaded.
    Upload(PathBuf),
    /// An archive laid out like the official ones, that the server fetches itself.
    Url {
        /// Where it is.
        url: String,
        /// What it must be.
        sha256: Sha256Sum,
    },
    /// The official release of the member's version.
    Official {
        /// What it must be, where that is known. Otherwise the release's own `SHA256SUMS` says so.
        sha256: Option<Sha256Sum>,
    },
}

/// The sums that travel with the provider.
const CARRIED: &str = include_str!("release/sums.txt");

/// What the official archive of this version is for this processor, if the provider carries its sum.
#[must_use]
pub fn carried_sum(version: &Version, arch: Arch) -> Option<Sha256Sum> {
    let (version, arch) = (version.to_string(), arch.to_string());
    let of_it = CARRIED.lines().find_map(|line| {
        let mut words = line.split(' ');
        (words.next() == Some(&version) && words.next() == Some(&arch)).then(|| words.next())?
    })?;
    Sha256Sum::parse(of_it).ok()
}

/// A SHA-256 sum: 64 hexadecimal digits, kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sha256Sum(String);

impl Sha256Sum {
    /// Takes a sum as `sha256sum` prints it.
    ///
    /// # Errors
    /// [`ReleaseError::BadSum`].
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(ReleaseError::BadSum(text.to_owned()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with a source of binaries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Not a SHA-256 sum.
    #[error("{0:?} is not a SHA-256 sum: it must have 64 hexadecimal digits")]
    BadSum(String),
    /// The archive isn't listed.
    #[error("the published SHA256SUMS don't list {archive}; is there a release of that version for that processor?")]
    NotListed {
        /// The archive's file name.
        archive: String,
    },
}

/// An official release for one version and processor (Linux).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    version: Version,
    arch: Arch,
    base: String,
}

impl Release {
    /// The release as the etcd project publishes it.
    #[must_use]
    pub fn official(version: &Version, arch: Arch) -> Self {
        Self::mirrored(version, arch, OFFICIAL_BASE)
    }

    /// The same release from another place that is laid out in the same way.
    #[must_use]
    pub fn mirrored(version: &Version, arch: Arch, base: &str) -> Self {
        Self {
            version: version.clone(),
            arch,
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// The archive's file name.
    #[must_use]
    pub fn archive(&self) -> String {
        format!("etcd-v{}-linux-{}.tar.gz", self.version, self.arch)
    }

    /// Where the archive is.
    #[must_use]
    pub fn archive_url(&self) -> String {
        format!("{}/v{}/{}", self.base, self.version, self.archive())
    }

    /// Where the sums of all archives of the version are.
    #[must_use]
    pub fn sums_url(&self) -> String {
        format!("{}/v{}/SHA256SUMS", self.base, self.version)
    }

    /// The archive's sum, from the published list.
    ///
    /// # Errors
    /// [`ReleaseError`] if it isn't there.
    pub fn sum_in(&self, sums: &str) -> Result<Sha256Sum, ReleaseError> {
        let archive = self.archive();
        let listed = sums.lines().find_map(|line| {
            let (sum, name) = line.trim().split_once(char::is_whitespace)?;
            // Binary mode has a star before the name.
            let name = name.trim_start().trim_start_matches('*');
            (name == archive).then(|| sum.to_owned())
        });
        match listed {
            Some(sum) => Sha256Sum::parse(&sum),
            None => Err(ReleaseError::NotListed { archive }),
        }
    }
}

/// The programs that an archive of this version must hold. `etcdutl` came with 3.5.
#[must_use]
pub fn programs(version: &Version) -> &'static [&'static str] {
    if version.minor() >= Minor::V3_5 {
        &["etcd", "etcdctl", "etcdutl"]
    } else {
        &["etcd", "etcdctl"]
    }
}

/// Exit statuses of [`fetch_script`], and what each means in words.
pub const FETCH_FAILURES: &[(u8, &str)] = &[
    (69, "the server can't fetch it"),
    (65, "what was fetched is not what its checksum says"),
    (66, "the archive doesn't hold the programs of this version"),
    (72, "the server has neither curl nor wget, or no tar, gzip or sha256sum"),
    (73, "the server can't write it"),
];

/// A POSIX shell function that makes a server fetch an archive itself:
///
/// ```text
/// fetch_etcd FOLDER URL SHA256 PROGRAM...
/// ```
///
/// It prints `unchanged` if `FOLDER` already came from an archive with this sum, else fetches it, checks it before it
/// is unpacked, puts the programs into `FOLDER` in one rename, and prints `changed`. An empty `SHA256` means the
/// archive's line in `SHA256SUMS` beside it, which takes an `https` address. What was asked for over TLS is never followed to an
/// address without it, and no more is read than a release has. On failure it returns one of [`FETCH_FAILURES`], with a sentence on
/// standard error. The programs may stand in the archive at the top or in one folder.
#[must_use]
pub fn fetch_script() -> &'static str {
    include_str!("release/fetch.sh")
}

/// The arguments of `fetch_etcd` for a source that the server fetches itself, not yet quoted for a shell; none for the
/// sources that it doesn't fetch.
#[must_use]
pub fn fetch_arguments(source: &BinarySource, version: &Version, arch: Arch) -> Option<Vec<String>> {
    let (url, sum) = match source {
        BinarySource::HostPath(_) | BinarySource::Upload(_) => return None,
        BinarySource::Url { url, sha256 } => (url.clone(), sha256.as_str().to_owned()),
        BinarySource::Official { sha256 } => (
            Release::official(version, arch).archive_url(),
            sha256.as_ref().map(|sum| sum.as_str().to_owned()).unwrap_or_default(),
        ),
    };
    let mut arguments = vec![binaries_dir(version).to_string(), url, sum];
    arguments.extend(programs(version).iter().map(|program| (*program).to_owned()));
    Some(arguments)
}

#[cfg(test)]
#[path = "release/tests.rs"]
mod tests;
