//! Terraform's plugin protocol. Knows nothing of etcd.

pub mod block;
pub mod diagnostics;
pub mod path;
pub mod schema;
pub mod value;
