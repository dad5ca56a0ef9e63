//! A Terraform and OpenTofu provider that forms and runs etcd clusters across networks.
//!
//! The code map, from the inside out:
//!
//! * [`topology`]: PURE. Servers, networks, addresses; who dials whom by which address.
//! * [`membership`]: PURE. What was observed and what is wanted, to the next step.
//! * [`access`]: PURE. Users, roles and their keys: the calls from what there is to what is wanted.
//! * [`plugin`]: Terraform's protocol. Knows nothing of etcd.
//! * [`host`]: the only road to a machine (SSH).
//! * [`etcd`]: the road to etcd: its API, configuration, certificates, releases.
//! * [`resource`], [`data_source`], [`action`], [`ephemeral`], [`list`], [`function`]: one file per block.
//! * [`provider`]: the provider's schema and the registry of blocks.

pub mod access;
pub mod action;
pub mod data_source;
pub mod ephemeral;
pub mod etcd;
pub mod function;
pub mod host;
pub mod list;
pub mod membership;
pub mod plugin;
pub mod provider;
pub mod reconcile;
pub mod resource;
pub mod topology;
