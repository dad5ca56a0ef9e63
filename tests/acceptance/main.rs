//! Acceptance tests: real Terraform, sshd, systemd and etcd in the lab. They need root and what `tests/setup` installs:
//!
//!     cargo test --features acceptance --test acceptance
//!
//! Each test brings up a lab of its own, so that they run side by side and leave nothing.

mod authorities;
mod binaries;
mod complaint;
mod configuration;
mod faults;
mod fingerprint;
mod forming;
mod functions;
mod interruption;
mod outside;
mod refusals;
mod secrets;
mod server;
mod terraform;

/// The prefix of a test's lab. `ACCEPTANCE_PREFIX` keeps two runs apart that share a machine.
fn prefix(test: &str) -> String {
    std::env::var("ACCEPTANCE_PREFIX").unwrap_or_default() + test
}
