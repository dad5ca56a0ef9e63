//! What plans of this process give the servers of a cluster that all of them must have alike. Terraform plans server by server; whoever is
//! planned later learns of the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::membership::k3s::shared::Shared;

/// Of all clusters.
#[derive(Default)]
pub struct Alike {
    clusters: Mutex<HashMap<String, BTreeMap<String, Shared>>>,
}

impl Alike {
    /// Another run begins.
    pub fn forget(&self) {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Notes what a server is to have, and says what the others are.
    pub fn note(&self, cluster: &str, server: &str, own: &Shared) -> BTreeMap<String, Shared> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = clusters.entry(cluster.to_owned()).or_default();
        servers.insert(server.to_owned(), own.clone());
        let others = servers.iter().filter(|(name, _)| *name != server);
        others.map(|(name, one)| (name.clone(), one.clone())).collect()
    }
}
