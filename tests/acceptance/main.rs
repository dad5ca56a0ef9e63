//! Acceptance tests: real Terraform, sshd, systemd and etcd in the lab. They need root and what `tests/setup` installs:
//!
//!     cargo test --features acceptance --test acceptance
//!
//! Each test brings up a lab of its own, so that they run side by side and leave nothing.

mod access;
mod actions;
mod adoption;
mod attackers;
mod authorities;
mod binaries;
mod blind;
mod certificates;
mod chance;
mod complaint;
mod complaints;
mod configuration;
mod copies;
mod dead_server;
mod deposed;
mod disaster_trials;
mod drift;
mod ephemeral;
mod examples;
mod faults;
mod fingerprint;
mod forming;
mod functions;
mod guide;
mod half_open;
mod hosts_file;
mod interruption;
mod k3s;
mod lost_quorum;
mod modules;
mod mounts;
mod moves;
mod names;
mod nospace;
mod outside;
mod partitions;
mod plain;
mod plain_faults;
mod plans;
mod ports;
mod preflight;
mod query;
mod refounding;
mod refusals;
mod restore;
mod rolling;
mod scaling;
mod scheduled_snapshots;
mod scripts;
mod secrets;
mod server;
mod snapshots;
mod stability;
mod status;
mod stolen;
mod terraform;
mod test_runs;
mod trials;
mod two_applies;
mod untouched;
mod writer;

/// The prefix of a test's lab. `ACCEPTANCE_PREFIX` keeps two runs apart that share a machine.
fn prefix(test: &str) -> String {
    std::env::var("ACCEPTANCE_PREFIX").unwrap_or_default() + test
}
