//! Servers, networks and addresses: who dials whom by which address.
//!
//! Pure: nothing here reads a file, a clock or a socket, and nothing here knows Terraform.
//!
//! * [`names`]: the newtypes that everything else is spelled in.
//! * [`server`]: one server as the user describes it.
//! * [`cluster`]: a set of servers that was checked as a whole ([`Topology`]), and every server's [`View`] of it.
//! * [`diagram`]: a picture of it, as Mermaid and SVG.
//! * [`dialled`]: what comes of dialling a server from another one.
//! * [`hosts_block`]: the guarded block in the hosts file that makes a view real.
//! * [`failure_domains`]: which networks a cluster can lose.
//! * [`translation`]: addresses for an etcd that knows no names, and the rules that give it a view all the same.
//! * [`measured`]: numbers that servers say.
//! * [`timing`]: heartbeat and election timeout, from round trips.
//! * [`error`]: everything that can be wrong with a topology, by server and field.

pub mod cluster;
pub mod diagram;
pub mod dialled;
pub mod error;
pub mod failure_domains;
pub mod hosts_block;
pub mod measured;
pub mod names;
pub mod server;
pub mod timing;
pub mod translation;

pub use cluster::{Scheme, Topology, View};
pub use dialled::Dialled;
pub use error::{AddressField, ServerField, TopologyError, ViewError};
pub use failure_domains::{FailureDomains, quorum};
pub use names::{ClusterName, ClusterToken, Domain, NameError, NetworkName, ServerName};
pub use server::{Server, address};
pub use timing::Timing;
pub use translation::{Pool, Translation, TranslationError};

#[cfg(test)]
mod tests;
