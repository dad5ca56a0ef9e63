//! `etcd_cluster_status`: how a cluster is, member by member and link by link. It looks, and changes nothing.

mod look;
mod report;
mod schema;
mod snapshots;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;

use crate::plugin::block::{Context, DataResponse, DataSource};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Schema;
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::model::{self, ClusterModel};
use crate::resource::durations::WAIT;
use crate::resource::road::Road;

/// How long one server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The block.
pub struct ClusterStatus {
    road: Arc<Road>,
}

impl ClusterStatus {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }
}

#[async_trait]
impl DataSource for ClusterStatus {
    fn name(&self) -> &'static str {
        "etcd_cluster_status"
    }

    fn schema(&self) -> Schema {
        schema::schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        model::topology(config.get("cluster"), &Path::of("cluster"), &mut diagnostics);
        if let Err(error) = timeout(config) {
            diagnostics.push(error);
        }
        diagnostics
    }

    async fn read(&self, _context: &Context, config: Value) -> DataResponse {
        let mut diagnostics = Diagnostics::new();
        let topology = model::topology(config.get("cluster"), &Path::of("cluster"), &mut diagnostics);
        let cluster = from_value::<ClusterModel>(config.get("cluster"));
        let (topology, cluster, within) = match (topology, cluster, timeout(&config)) {
            (Some(topology), Ok(cluster), Ok(within)) => (topology, cluster, within),
            (_, Err(error), _) => {
                diagnostics
                    .push(Diagnostic::error("The cluster can't be read", error.to_string()).at(Path::of("cluster")));
                return failed(config, diagnostics);
            }
            (_, _, Err(error)) => {
                diagnostics.push(error);
                return failed(config, diagnostics);
            }
            (None, ..) => return failed(config, diagnostics),
        };
        let looked = topology.servers().keys().map(|name| {
            let (cluster, topology) = (&cluster, &topology);
            async move {
                (
                    name.clone(),
                    look::look(&self.road, cluster, topology, name, within).await,
                )
            }
        });
        let looks = join_all(looked).await.into_iter().collect();
        DataResponse {
            state: report::report(config, &topology, &looks),
            diagnostics,
        }
    }
}

fn failed(config: Value, diagnostics: Diagnostics) -> DataResponse {
    DataResponse {
        state: config,
        diagnostics,
    }
}

fn timeout(config: &Value) -> Result<Duration, Diagnostic> {
    let Some(text) = config.get("timeout").as_str() else {
        return Ok(TIMEOUT);
    };
    WAIT.read(text, "Invalid time-out", Path::of("timeout"))
}
