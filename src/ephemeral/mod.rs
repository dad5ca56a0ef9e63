//! The ephemeral resources, one file each: what is there for as long as a run lasts.

pub mod client_certificate;
pub mod k3s_kubeconfig;
pub mod tunnel;
