//! etcd's versions: which are known, which are advised against, and which step may follow which.

use std::fmt;
use std::str::FromStr;

/// The version of an etcd release, like 3.6.5; "v3.6.5" and "3.6.5" are the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(semver::Version);

/// The minor versions whose rules are known. A newer etcd is treated like the newest of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Minor {
    /// 3.4
    V3_4,
    /// 3.5
    V3_5,
    /// 3.6
    V3_6,
    /// 3.7
    V3_7,
}

impl Minor {
    /// The oldest minor version that is supported.
    pub const OLDEST: Self = Self::V3_4;
    /// The newest minor version whose rules are known.
    pub const NEWEST: Self = Self::V3_7;

    fn number(self) -> u64 {
        match self {
            Self::V3_4 => 4,
            Self::V3_5 => 5,
            Self::V3_6 => 6,
            Self::V3_7 => 7,
        }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}", self.number())
    }
}

/// A version that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not a version at all.
    #[error("{0:?} is not an etcd version; write all three numbers, like 3.6.5")]
    Malformed(String),
    /// Older than anything that is supported.
    #[error("etcd {0} is too old: {floor} is the floor", floor = Minor::OLDEST)]
    TooOld(String),
}

/// A version that works, and why another would be better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionWarning {
    /// Newer than what is known here.
    NewerThanKnown {
        /// The version.
        version: Version,
    },
    /// Below the patch level that peers on the internet should have (GHSA-6vch-q96h-7gc3).
    BelowFloor {
        /// The version.
        version: Version,
        /// The first good patch level of its minor version; none if there is no known one.
        floor: Option<Version>,
    },
}

impl fmt::Display for VersionWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerThanKnown { version } => write!(
                f,
                "etcd {version} is newer than what this provider knows; its configuration is written as for {}",
                Minor::NEWEST
            ),
            Self::BelowFloor { version, floor } => {
                write!(
                    f,
                    "etcd {version} lets anyone who reaches a peer port hold connections open in the TLS handshake \
                     (GHSA-6vch-q96h-7gc3); "
                )?;
                match floor {
                    Some(floor) => write!(f, "use {floor} or later for peers that are reached over the internet"),
                    None => {
                        f.write_str("use 3.5.33, 3.6.14, 3.7.1 or later for peers that are reached over the internet")
                    }
                }
            }
        }
    }
}

/// What a change of a member's version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionChange {
    /// The same version.
    None,
    /// Another patch level of the same minor version, in either direction.
    Patch,
    /// The next minor version.
    NextMinor,
}

/// Why a member's version must not change so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionRefusal {
    /// To an older minor version.
    #[error(
        "etcd {to} doesn't start on the data of {from}: going back a minor version needs etcd's own downgrade first"
    )]
    Downgrade {
        /// What runs.
        from: Version,
        /// What is wanted.
        to: Version,
    },
    /// More than one minor version at once.
    #[error("etcd upgrades one minor version at a time: go from {from} to the latest {next} first, then on to {to}")]
    SkipsMinor {
        /// What runs.
        from: Version,
        /// What is wanted.
        to: Version,
        /// The minor version to go to first, like "3.6".
        next: String,
    },
    /// What runs is too old for the next minor version.
    #[error("etcd {from} is too old to be upgraded to {to}: go to {floor} or a later patch level of it first")]
    SourceTooOld {
        /// What runs.
        from: Version,
        /// What is wanted.
        to: Version,
        /// The oldest patch level that may be upgraded.
        floor: Version,
    },
}

impl Version {
    /// Takes a version as users and etcd write it: three numbers, perhaps with a "v" in front and a pre-release.
    ///
    /// # Errors
    /// [`VersionError`] if it isn't one, or is older than 3.4.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let malformed = || VersionError::Malformed(text.to_owned());
        let number = text.strip_prefix('v').unwrap_or(text);
        let version = semver::Version::parse(number).map_err(|_| malformed())?;
        if !version.build.is_empty() {
            return Err(malformed());
        }
        if (version.major, version.minor) < (3, Minor::OLDEST.number()) {
            return Err(VersionError::TooOld(number.to_owned()));
        }
        Ok(Self(version))
    }

    /// The minor version whose rules hold for this one.
    #[must_use]
    pub fn minor(&self) -> Minor {
        match (self.0.major, self.0.minor) {
            (3, 4) => Minor::V3_4,
            (3, 5) => Minor::V3_5,
            (3, 6) => Minor::V3_6,
            _ => Minor::V3_7,
        }
    }

    /// Its major and minor version: (3, 5) for 3.5.16.
    #[must_use]
    pub fn number(&self) -> (u64, u64) {
        (self.0.major, self.0.minor)
    }

    /// All three numbers: (3, 5, 16) for 3.5.16.
    #[must_use]
    pub fn triple(&self) -> (u64, u64, u64) {
        (self.0.major, self.0.minor, self.0.patch)
    }

    /// Whether its minor version is newer than the rules that are known.
    #[must_use]
    pub fn is_newer_than_known(&self) -> bool {
        (self.0.major, self.0.minor) > (3, Minor::NEWEST.number())
    }

    /// What is to be said about this version, if anything.
    #[must_use]
    pub fn warning(&self) -> Option<VersionWarning> {
        let version = self.clone();
        if self.is_newer_than_known() {
            return Some(VersionWarning::NewerThanKnown { version });
        }
        let floor = match self.minor() {
            Minor::V3_4 => None,
            Minor::V3_5 => Some(Self(semver::Version::new(3, 5, 33))),
            Minor::V3_6 => Some(Self(semver::Version::new(3, 6, 14))),
            Minor::V3_7 => Some(Self(semver::Version::new(3, 7, 1))),
        };
        if floor.as_ref().is_some_and(|floor| self >= floor) {
            return None;
        }
        Some(VersionWarning::BelowFloor { version, floor })
    }

    /// What going from this version to `to` is.
    ///
    /// # Errors
    /// [`VersionRefusal`] if etcd doesn't stand it.
    pub fn change_to(&self, to: &Self) -> Result<VersionChange, VersionRefusal> {
        if self == to {
            return Ok(VersionChange::None);
        }
        let (from_line, to_line) = ((self.0.major, self.0.minor), (to.0.major, to.0.minor));
        if from_line == to_line {
            return Ok(VersionChange::Patch);
        }
        let (from, to) = (self.clone(), to.clone());
        if to_line < from_line {
            return Err(VersionRefusal::Downgrade { from, to });
        }
        if to_line != (from_line.0, from_line.1 + 1) {
            let next = format!("{}.{}", from_line.0, from_line.1 + 1);
            return Err(VersionRefusal::SkipsMinor { from, to, next });
        }
        // 3.5.26: the first that repairs a membership which 3.6 refuses to read; 3.6.11 likewise for 3.7.
        let floor = match to_line {
            (3, 6) => semver::Version::new(3, 5, 26),
            (3, 7) => semver::Version::new(3, 6, 11),
            _ => return Ok(VersionChange::NextMinor),
        };
        if self.0 < floor {
            let floor = Self(floor);
            return Err(VersionRefusal::SourceTooOld { from, to, floor });
        }
        Ok(VersionChange::NextMinor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_are_read_with_and_without_v() {
        assert_eq!(v("v3.6.5"), v("3.6.5"));
        assert_eq!(v("v3.6.5").to_string(), "3.6.5");
        assert_eq!(v("3.6.0-rc.1").minor(), Minor::V3_6);
        for bad in ["", "3.6", "3", "vv3.6.5", "3.6.5+x", "latest", "3.6.5 ", "../3.6.5"] {
            assert!(matches!(Version::parse(bad), Err(VersionError::Malformed(_))), "{bad}");
        }
        assert_eq!(
            Version::parse("3.3.27").unwrap_err().to_string(),
            "etcd 3.3.27 is too old: 3.4 is the floor"
        );
    }

    #[test]
    fn newer_than_known_follows_the_newest_rules() {
        assert_eq!(v("3.9.0").minor(), Minor::V3_7);
        assert!(v("3.8.0").warning().unwrap().to_string().contains("written as for 3.7"));
        assert!(matches!(
            v("4.0.0").warning(),
            Some(VersionWarning::NewerThanKnown { .. })
        ));
    }

    #[test]
    fn old_patch_levels_are_advised_against() {
        for good in ["3.5.33", "3.6.14", "3.7.1", "3.5.40"] {
            assert_eq!(v(good).warning(), None);
        }
        for old in ["3.4.45", "3.5.32", "3.6.5", "3.7.0", "3.7.1-rc.0"] {
            assert!(v(old).warning().unwrap().to_string().contains("GHSA-6vch-q96h-7gc3"));
        }
    }

    #[test]
    fn upgrades_go_one_minor_at_a_time() {
        assert_eq!(v("3.5.30").change_to(&v("3.5.30")), Ok(VersionChange::None));
        assert_eq!(v("3.5.30").change_to(&v("3.5.33")), Ok(VersionChange::Patch));
        assert_eq!(v("3.5.33").change_to(&v("3.5.30")), Ok(VersionChange::Patch));
        assert_eq!(v("3.4.23").change_to(&v("3.5.33")), Ok(VersionChange::NextMinor));
        assert_eq!(v("3.5.26").change_to(&v("3.6.14")), Ok(VersionChange::NextMinor));
        assert_eq!(v("3.6.11").change_to(&v("3.7.1")), Ok(VersionChange::NextMinor));
        let said = |from: &str, to: &str| v(from).change_to(&v(to)).unwrap_err().to_string();
        assert!(said("3.5.25", "3.6.14").contains("go to 3.5.26 or a later"));
        assert!(said("3.6.10", "3.7.1").contains("go to 3.6.11 or a later"));
        assert!(said("3.5.33", "3.7.1").contains("to the latest 3.6 first"));
        assert!(said("3.7.1", "3.6.14").contains("downgrade"));
    }
}
