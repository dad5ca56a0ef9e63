//! The loops that change a cluster's members: observe, decide, perform, one step at a time. [`crate::membership`] decides. A backend
//! performs: etcd under systemd, k3s, or the simulated servers of the tests. The tests drive the loops that ship.

pub mod leave;
pub mod limits;
pub mod session;
pub mod turn;

#[cfg(test)]
mod world;
