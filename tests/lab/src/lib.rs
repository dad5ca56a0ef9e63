//! Local virtual machines in separate networks, for tests that need real systemd, sshd, NAT and distance.
//!
//! A [`Lab`] is some [`Site`]s joined by a made-up internet (203.0.113.0/24, a range for documentation). A site is a private
//! network behind a NAT router, and sites may use the same private range. A host is a container with systemd as its process 1,
//! its own network namespace and an overlay over one shared Debian root. What runs Terraform is the *controller*: a network
//! namespace on that internet which sees this machine's files.
//!
//! Everything needs root; `tests/setup` installs what it needs. Code map:
//!
//! * [`spec`]: what a lab consists of; pure data.
//! * `network`: namespaces, routers, NAT rules. `wan`: the state of the links between sites, and `hold` the process or thread
//!   that holds packets back (kernels of CI machines often have no netem).
//! * `image`: the shared Debian root. `machine`: boot, power, processes inside a host. `disk`: one that
//!   is slow. `cgroup`, `command`: what they stand on.
//! * [`Lab`]: brings all of it up, operates it, takes it down.

mod cgroup;
mod command;
mod disk;
mod hold;
mod image;
mod lab;
mod machine;
mod network;
mod operate;
pub mod spec;
mod wan;

pub use command::Output;
pub use hold::hold_packets;
pub use image::{cache_folder, private_key_file};
pub use lab::Lab;
pub use spec::{Builder, Hairpin, HostSpec, Init, Ipv6, Public, Site};
pub use wan::{CONTROLLER, Delay};

/// The password of the users `admin`, `ops` and `guest` on every host, for SSH and (for `ops`) for sudo.
pub const PASSWORD: &str = "lab-password";
