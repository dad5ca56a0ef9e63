//! The only road to a machine: SSH.
//!
//! A [`Target`] says where a machine is and who may enter it. [`Hosts`] keeps one SSH connection for each target and
//! hands out [`Host`]s. A [`Host`] runs [`Script`]s as root (one after the other, one round trip each), uploads large
//! files, opens TCP tunnels and tells [`Facts`].
//!
//! Nothing in here knows of etcd or Terraform.
//!
//! From the inside out:
//!
//! * [`shell`], [`script`], `answers`, `output`, `files`, `framing`, `marks`, [`said`], [`known_hosts`], `identity`, [`methods`], [`facts`],
//!   `clock`: PURE. Quoting, scripts and their answers, the conversation with the root shell, host keys, keys of an agent, the handshake's
//!   methods, what a machine says about itself.
//! * `link`: one thread for each connection, which owns libssh2's session and carries all its channels.
//! * `root_shell`: the shell that runs scripts, one at a time.
//! * `connecting`: from a target to an authenticated link, through bastions, with patience.
//! * [`hosts`]: the pool, and what a caller does with a host.

mod answers;
mod authentication;
mod clock;
mod connecting;
mod errors;
pub mod facts;
mod files;
pub mod framing;
pub mod hosts;
mod identity;
pub mod known_hosts;
mod link;
pub mod marks;
pub mod methods;
mod mounts;
mod output;
mod privilege;
#[cfg(feature = "acceptance")]
mod recorded;
mod root_shell;
pub mod said;
pub mod script;
mod secret;
pub mod shell;
mod target;
mod upload;

pub use answers::{AnswerFault, FUNCTIONS as ANSWERS};
pub use clock::ClockOffset;
pub use errors::{ConnectError, RootError, RunError, TunnelError, UploadError};
pub use facts::{CloudInit, Facts, InitSystem};
pub use files::{Contents, FileSpec};
pub use hosts::{ConnectOptions, Host, Hosts, Tunnel};
pub use identity::Identity;
pub use known_hosts::HostKey;
pub use mounts::MOUNTS;
pub use output::Output;
pub use privilege::PRIVILEGE;
pub use script::Script;
pub use secret::Secret;
pub use target::{Credential, HostKeyPolicy, Sudo, Target};
pub use upload::{Upload, UploadOutcome};
