//! Where a member's files stand on its server, and under which names.

use std::fmt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::config::{ClientTls, PeerTls};
use super::version::Version;
use crate::topology::ClusterName;

/// The longest name that a Linux user may have.
const USER_NAME_MAX: usize = 32;

/// An absolute path on a server, made of letters, digits and `. _ - + @ /` only: it means the same in a shell, in a
/// systemd unit and in YAML, without any quoting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerPath(String);

/// The name of a cluster's service unit, `etcd-<cluster>.service`.
#[must_use]
pub fn unit_name(cluster: &ClusterName) -> String {
    format!("etcd-{cluster}.service")
}

/// A path that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} can't be used: {why}")]
pub struct PathError {
    /// The path.
    pub path: String,
    /// What is wrong with it, in words.
    pub why: &'static str,
}

impl ServerPath {
    /// Takes a path; a slash at its end is cut off.
    ///
    /// # Errors
    /// [`PathError`] if it isn't absolute, has `.` or `..` in it, or characters that mean something to a shell or to
    /// systemd.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let bad = |why| PathError {
            path: text.to_owned(),
            why,
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+@/".contains(c);
        if !text.starts_with('/') {
            return Err(bad("it isn't absolute"));
        }
        if !text.chars().all(allowed) {
            return Err(bad("only letters, digits and . _ - + @ / are allowed"));
        }
        let path = text.trim_end_matches('/');
        if path.is_empty() {
            return Err(bad("it is the root of all files"));
        }
        if path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad("it has an empty part, . or .. in it"));
        }
        Ok(Self(path.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A path below this one; `name` is ours, never the user's.
    fn join(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0))
    }

    /// Whether it is this folder, or in it.
    pub(super) fn is_within(&self, folder: &str) -> bool {
        Path::new(&self.0).starts_with(folder)
    }

    /// Whether the system as a whole uses it.
    pub(super) fn is_shared(&self) -> bool {
        SHARED.contains(&self.as_str())
    }

    /// Whether services of ours see it.
    pub(super) fn usable_by_service(&self) -> Result<(), PathError> {
        visible(self)
    }
}

impl fmt::Display for ServerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<Path> for ServerPath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl From<&ServerPath> for PathBuf {
    fn from(path: &ServerPath) -> Self {
        Self::from(&path.0)
    }
}

/// Folders that the service unit hides from the member, or that don't outlive a reboot.
const HIDDEN: &[&str] = &[
    "/home", "/root", "/tmp", "/var/tmp", "/run", "/var/run", "/dev", "/proc", "/sys",
];
/// The folder that the service unit hides, if this path is below one of those: nothing in it can be run there.
#[must_use]
pub fn hidden_above(path: &str) -> Option<&'static str> {
    let hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev"];
    hidden.into_iter().find(|folder| {
        let below = path.strip_prefix(folder);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Folders that belong to the system as a whole: as a data directory they would be given to etcd's user.
const SHARED: &[&str] = &[
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/sbin",
    "/srv",
    "/usr",
    "/usr/local",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/lib/etcd",
];

/// Where one cluster's member stands on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    cluster: ClusterName,
    etc: ServerPath,
    run: ServerPath,
    data: ServerPath,
}

impl Layout {
    /// The layout of a cluster's member; `data_dir` is `/var/lib/etcd/<cluster>` unless the user chose another.
    ///
    /// # Errors
    /// [`PathError`] if the data directory can't be one.
    pub fn new(cluster: &ClusterName, data_dir: Option<&str>) -> Result<Self, PathError> {
        let data = match data_dir {
            None => ServerPath(format!("/var/lib/etcd/{cluster}")),
            Some(text) => {
                let path = ServerPath::parse(text)?;
                visible(&path)?;
                if path.is_shared() {
                    return Err(PathError {
                        path: text.to_owned(),
                        why: "the system uses this folder; etcd needs one of its own",
                    });
                }
                path
            }
        };
        Ok(Self {
            cluster: cluster.clone(),
            etc: ServerPath(format!("/etc/etcd/{cluster}")),
            run: ServerPath(format!("/run/etcd-{cluster}")),
            data,
        })
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The service unit's name, `etcd-<cluster>.service`.
    #[must_use]
    pub fn unit_name(&self) -> String {
        unit_name(&self.cluster)
    }

    /// Where the service unit stands.
    #[must_use]
    pub fn unit_file(&self) -> ServerPath {
        ServerPath(format!("/etc/systemd/system/{}", self.unit_name()))
    }

    /// The system user, and its group: `etcd-<cluster>`, cut where that is too long, with a piece of a hash so that two
    /// long names stay two.
    #[must_use]
    pub fn user(&self) -> String {
        let name = format!("etcd-{}", self.cluster);
        if name.len() <= USER_NAME_MAX {
            return name;
        }
        let hash = HEXLOWER.encode(&Sha256::digest(name.as_bytes())[..4]);
        format!("{}-{hash}", &name[..USER_NAME_MAX - hash.len() - 1])
    }

    /// The folder of all configuration: `root:<group>`, 0750.
    #[must_use]
    pub fn etc_dir(&self) -> &ServerPath {
        &self.etc
    }

    /// The data directory: `<user>:<group>`, 0700.
    #[must_use]
    pub fn data_dir(&self) -> &ServerPath {
        &self.data
    }

    /// The runtime folder that systemd makes at each start.
    #[must_use]
    pub fn run_dir(&self) -> &ServerPath {
        &self.run
    }

    /// The standing configuration: the asymmetric initial cluster, `existing`. `root:<group>`, 0640.
    #[must_use]
    pub fn config_file(&self) -> ServerPath {
        self.etc.join("etcd.yaml")
    }

    /// What a founding member starts with once: the name form, `new`. `root:<group>`, 0640.
    #[must_use]
    pub fn founding_file(&self) -> ServerPath {
        self.etc.join("founding.yaml")
    }

    /// What a joining member starts with once: the members that there are, `existing`. `root:<group>`, 0640.
    #[must_use]
    pub fn joining_file(&self) -> ServerPath {
        self.etc.join("joining.yaml")
    }

    /// Its presence allows one start that founds. `root`, 0600; the content is the provider's.
    #[must_use]
    pub fn founding_permit(&self) -> ServerPath {
        self.etc.join("founding-permit")
    }

    /// Whether this is a certificate of the member's, a key, or the list of certificates that are accepted no more.
    #[must_use]
    pub fn is_of_trust(&self, path: &str) -> bool {
        path == self.revoked_file().as_str() || path.starts_with(&format!("{}/", self.pki_dir()))
    }

    /// What etcd is asked about before a member is stopped for it ([`super::config::check`]). Gone when it has answered.
    #[must_use]
    pub fn asked_file(&self) -> ServerPath {
        self.etc.join("asked.yaml")
    }

    /// The token of a cluster that was founded, and whose member here was one of a quorum. It outlives the data. `root`, 0600.
    #[must_use]
    pub fn founded(&self) -> ServerPath {
        self.etc.join("founded")
    }

    /// Its presence allows one start without data that joins. `root`, 0600; the content is the provider's.
    #[must_use]
    pub fn joining_permit(&self) -> ServerPath {
        self.etc.join("joining-permit")
    }

    /// Its presence says that the member is to start with the data of a snapshot, and with which ([`super::restoring`]). It goes with the
    /// permits. `root`, 0600.
    #[must_use]
    pub fn restore_file(&self) -> ServerPath {
        self.etc.join("restore")
    }

    /// The configuration for one start that writes a raft snapshot at once; that start takes it away. `root:etcd`, 0640.
    #[must_use]
    pub fn snapshot_file(&self) -> ServerPath {
        self.etc.join("snapshot.yaml")
    }

    /// Its presence says that files are in place which the running member was not restarted for yet. `root`, 0600.
    #[must_use]
    pub fn restart_pending(&self) -> ServerPath {
        self.etc.join("restart-pending")
    }

    /// Its presence says that the member was the last one of a cluster that has other servers, and was stopped with its data left in
    /// place; what becomes of that data when the cluster is destroyed is in it. `root`, 0600.
    #[must_use]
    pub fn resting(&self) -> ServerPath {
        self.etc.join("resting")
    }

    /// Its presence says that the member is being taken over from its former service. `root`, 0600.
    #[must_use]
    pub fn adopting(&self) -> ServerPath {
        self.etc.join("adopting")
    }

    /// Which service ran the member before this provider, and where its data was: for whoever wants to go back. `root`, 0600.
    #[must_use]
    pub fn adopted_from(&self) -> ServerPath {
        self.etc.join("adopted-from")
    }

    /// The guard script ([`super::unit::guard`]): `root`, 0755.
    #[must_use]
    pub fn guard_file(&self) -> ServerPath {
        self.etc.join("guard")
    }

    /// The folder of certificates: `root:<group>`, 0750; certificates and keys in it 0640.
    #[must_use]
    pub fn pki_dir(&self) -> ServerPath {
        self.etc.join("pki")
    }

    /// The list of certificates that the member accepts no more.
    #[must_use]
    pub fn revoked_file(&self) -> ServerPath {
        self.pki_dir().join("revoked.crl")
    }

    /// Where the peers' certificates stand.
    #[must_use]
    pub fn peer_tls(&self) -> PeerTls {
        let pki = |name: &str| PathBuf::from(&self.pki_dir().join(name));
        PeerTls {
            cert_file: pki("peer.crt"),
            key_file: pki("peer.key"),
            client_cert_file: pki("peer-client.crt"),
            client_key_file: pki("peer-client.key"),
            trusted_ca_file: pki("peer-ca.crt"),
        }
    }

    /// Where the certificates that clients see stand.
    #[must_use]
    pub fn client_tls(&self) -> ClientTls {
        let pki = |name: &str| PathBuf::from(&self.pki_dir().join(name));
        ClientTls {
            cert_file: pki("server.crt"),
            key_file: pki("server.key"),
            trusted_ca_file: pki("client-ca.crt"),
        }
    }

    /// The same layout below another root.
    #[cfg(test)]
    pub(super) fn below(&self, root: &Path) -> Self {
        let below = |path: &ServerPath| ServerPath(format!("{}{path}", root.display()));
        Self {
            cluster: self.cluster.clone(),
            etc: below(&self.etc),
            run: below(&self.run),
            data: below(&self.data),
        }
    }
}

/// Where the binaries of a version are placed. Several clusters may share them.
#[must_use]
pub fn binaries_dir(version: &Version) -> ServerPath {
    ServerPath(format!("/usr/local/lib/etcd/{version}"))
}

/// The etcd binary in a folder that the user names (`host_path`).
///
/// # Errors
/// [`PathError`] if the unit could not execute it from there.
pub fn binary_in(folder: &ServerPath) -> Result<ServerPath, PathError> {
    visible(folder)?;
    Ok(folder.join("etcd"))
}

fn visible(path: &ServerPath) -> Result<(), PathError> {
    if HIDDEN.iter().any(|hidden| path.is_within(hidden)) {
        return Err(PathError {
            path: path.to_string(),
            why: "the member's service unit doesn't see home folders, temporary and volatile ones",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> ClusterName {
        ClusterName::parse(name).unwrap()
    }

    #[test]
    fn user_names_fit_and_stay_distinct() {
        let user = |name: &str| Layout::new(&cluster(name), None).unwrap().user();
        assert_eq!(user("main"), "etcd-main");
        let (a, b) = (
            user(&format!("{}a", "x".repeat(40))),
            user(&format!("{}b", "x".repeat(40))),
        );
        assert_eq!((a.len(), b.len()), (32, 32));
        assert_ne!(a, b);
        assert_eq!(user(&"x".repeat(27)).len(), 32);
    }

    #[test]
    fn only_paths_that_need_no_quoting_are_taken() {
        assert_eq!(ServerPath::parse("/data/etcd/").unwrap().as_str(), "/data/etcd");
        for bad in [
            "", "x", "/", "//", "/a//b", "/a/../b", "/a/.", "/a b", "/a$b", "/a'b", "/a%b", "/a\nb", "/ä",
        ] {
            assert!(ServerPath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_data_directory_is_etcds_own() {
        let main = cluster("main");
        assert!(Layout::new(&main, Some("/data")).is_ok());
        assert!(Layout::new(&main, Some("/mnt/disk1/etcd")).is_ok());
        for bad in [
            "/etc",
            "/var/lib/",
            "/home/admin/etcd",
            "/tmp/etcd",
            "/run/etcd",
            "/root",
        ] {
            assert!(Layout::new(&main, Some(bad)).is_err(), "{bad}");
        }
        let why = Layout::new(&main, Some("/home/admin/etcd")).unwrap_err().to_string();
        assert!(why.contains("doesn't see home folders"), "{why}");
    }

    #[test]
    fn what_the_service_can_not_see_is_named() {
        assert_eq!(hidden_above("/root/bin/etcd"), Some("/root"));
        assert_eq!(hidden_above("/home"), Some("/home"));
        assert_eq!(hidden_above("/run/current-system/sw/bin/etcd"), None);
        assert_eq!(hidden_above("/rooted/etcd"), None);
    }
}
