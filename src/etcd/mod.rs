//! The road to etcd: its configuration, service unit, certificates and releases, and its API.

pub mod certificates;
pub mod config;
pub mod version;
