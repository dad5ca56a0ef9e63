//! The ephemeral resources: what is read for the length of a run, and stored nowhere.

pub mod k3s_kubeconfig;
