//! Terraform's plugin protocol. Knows nothing of etcd.
//!
//! Blocks see [`value`], [`schema`], [`path`], [`diagnostics`] and the traits of [`block`]; everything else is the
//! road from those to Terraform: [`serve`] (the process), [`handshake`], [`listener`], [`tls`] and [`companions`]
//! (what go-plugin expects), [`service`] (the RPCs), [`plan`] and [`remembered`] (what the framework owes to every
//! block), [`codec`] and [`wire`] (values, schemas and diagnostics as messages), [`text`] (what of a text may reach a terminal), [`log`].

pub mod block;
pub mod codec;
pub mod companions;
pub mod diagnostics;
pub mod handshake;
pub mod listener;
pub mod log;
pub mod path;
pub mod plan;
pub mod proto;
pub mod remembered;
pub mod schema;
pub mod serve;
pub mod server;
pub mod service;
pub mod text;
pub mod tls;
pub mod value;
pub mod wire;
