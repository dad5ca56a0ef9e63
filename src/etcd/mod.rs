//! The road to etcd: its configuration, service unit, certificates, releases and snapshots, and its API.

pub mod answering;
pub mod api;
pub mod certificates;
pub mod config;
pub mod former;
pub mod layout;
pub mod lock;
pub mod metrics;
pub mod names;
pub mod program;
pub mod release;
pub mod restoring;
pub mod scheduled;
pub mod snapshot;
pub mod unit;
mod verifier;
pub mod version;
pub mod wal;
pub mod yaml;
