//! What the blocks for k3s share: a cluster as both have it, what is on a server, and the way to the etcd in k3s.

pub mod model;
pub mod observe;
pub mod talk;
pub mod unit;

/// Where k3s keeps its data.
pub const DATA: &str = "/var/lib/rancher/k3s";
/// Where k3s listens for other servers, agents and `kubectl`.
pub const API_PORT: u16 = 6443;

/// What is kept on servers for a cluster.
pub fn directory(cluster: &str) -> String {
    format!("/etc/etcd-k3s/{cluster}")
}
