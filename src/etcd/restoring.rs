//! Making a member's data of a snapshot, on its server.

use super::version::{Minor, Version};
use crate::topology::ClusterName;

/// What a server is told of the snapshot that its member is to start with: the lines of the layout's `restore_file`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The token of the cluster that is founded with it.
    pub token: String,
    /// Where the snapshot is on the server.
    pub snapshot: String,
    /// By how much the revision is raised.
    pub bump_revision: Option<u64>,
    /// The minor version of etcd that it takes to read it.
    pub minor: Option<u64>,
}

impl Order {
    /// Its lines.
    #[must_use]
    pub fn render(&self) -> String {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        format!(
            "token={}\nsnapshot={}\nbump={}\nminor={}",
            self.token,
            self.snapshot,
            number(self.bump_revision),
            number(self.minor)
        )
    }

    /// What [`Self::render`] wrote; `line` gives the text behind a key.
    #[must_use]
    pub fn read(line: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |key| line(key).and_then(|text| text.parse().ok());
        Some(Self {
            token: line("token")?,
            snapshot: line("snapshot")?,
            bump_revision: number("bump"),
            minor: number("minor"),
        })
    }
}

/// Where a cluster's snapshot is on a server until its member has started with it: root's alone.
#[must_use]
pub fn snapshot_folder(cluster: &ClusterName) -> String {
    format!("/var/lib/etcd-restore/{cluster}")
}

/// The program beside etcd's that restores. Up to 3.4 it is etcd's client.
#[must_use]
pub fn tool(version: &Version) -> &'static str {
    if version.minor() == Minor::V3_4 {
        "etcdctl"
    } else {
        "etcdutl"
    }
}

/// The shell function `restore_data`, which makes a member's data in the folder `restoring` of its data directory. What it needs
/// is said in it.
#[must_use]
pub fn script() -> &'static str {
    include_str!("restoring/restore_data.sh")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_as_it_was_written() {
        for (bump_revision, minor) in [(None, None), (Some(1_000_000_000), Some(6))] {
            let order = Order {
                token: "t".into(),
                snapshot: "/var/lib/etcd-restore/main/snapshot.db".into(),
                bump_revision,
                minor,
            };
            let text = order.render();
            let line = |key: &str| {
                let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
                found.map(str::to_owned)
            };
            assert_eq!(Order::read(line).as_ref(), Some(&order));
        }
        assert_eq!(Order::read(|_| None), None);
    }
}
