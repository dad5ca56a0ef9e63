//! The cluster's names outlive `/etc/hosts`, which other programs write too: cloud-init does at each boot.
//!
//! A copy of the cluster's block lies in a file of root's. It is written before `/etc/hosts` is, so that it is never behind. The guard puts the block back
//! from it before each start of etcd; and since etcd looks a name up at each dial, a path unit has the guard do so whenever the file changes.

use super::layout::{Layout, ServerPath};
use crate::topology::ClusterName;

/// The copy of the cluster's block.
#[must_use]
pub fn copy(cluster: &ClusterName) -> String {
    format!("/etc/etcd/{cluster}/hosts")
}

/// The unit that waits for changes of `/etc/hosts`. Names of clusters have no `@`, so no cluster's member has this name.
#[must_use]
pub fn path_name(cluster: &ClusterName) -> String {
    format!("etcd-hosts@{cluster}.path")
}

fn files(cluster: &ClusterName) -> [String; 2] {
    let service = format!("/etc/systemd/system/etcd-hosts@{cluster}.service");
    [service, format!("/etc/systemd/system/{}", path_name(cluster))]
}

/// Where its units are.
#[must_use]
pub fn paths(layout: &Layout) -> [String; 2] {
    files(layout.cluster())
}

/// The units with their paths.
#[must_use]
pub fn units(layout: &Layout) -> [(String, String); 2] {
    let (cluster, guard): (&ClusterName, ServerPath) = (layout.cluster(), layout.guard_file());
    let [service, path] = files(cluster);
    // How often it may start is not limited: the path unit would give up with it. The script rests before it ends instead.
    let texts = (
        format!(
            "# Managed by Terraform (terraform-provider-etcd). Changes made here are overwritten.\n[Unit]\n\
             Description=Puts the names of the etcd cluster {cluster} back into /etc/hosts\nStartLimitIntervalSec=0\n\n\
             [Service]\nType=oneshot\nExecStart=/bin/sh {guard} keep-names\nLogLevelMax=notice\nSyslogLevel=notice\n"
        ),
        format!(
            "# Managed by Terraform (terraform-provider-etcd). Changes made here are overwritten.\n[Unit]\n\
             Description=Waits for changes of /etc/hosts, for the names of the etcd cluster {cluster}\n\n\
             [Path]\nPathChanged=/etc/hosts\n\n[Install]\nWantedBy=paths.target\n"
        ),
    );
    [(service, texts.0), (path, texts.1)]
}
