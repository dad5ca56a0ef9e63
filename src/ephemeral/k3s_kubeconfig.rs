//! `etcd_k3s_kubeconfig`: what `kubectl` and other providers need to reach a k3s cluster, read from a server and stored nowhere.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::host::Script;
use crate::plugin::block::{Context, Deferral, Ephemeral, Opened};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::{Value, from_value};
use crate::resource::k3s::API_PORT;
use crate::resource::k3s::model::K3sClusterModel;
use crate::resource::road::Road;
use crate::resource::server::model as server;

const WITHIN: Duration = Duration::from_secs(30);

/// The block.
pub struct K3sKubeconfig {
    road: Arc<Road>,
}

impl K3sKubeconfig {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    async fn look(&self, config: &Value) -> Result<(String, String), Diagnostic> {
        let cluster: K3sClusterModel = from_value(config.get("cluster"))
            .map_err(|error| Diagnostic::error("The cluster can't be read", error.to_string()))?;
        let given = config.get("server").as_str().unwrap_or_default();
        let name = given.rsplit('/').next().unwrap_or(given);
        let failed = |detail: String| {
            Diagnostic::error(format!("There is no kubeconfig from server {name}"), detail).at(Path::of("server"))
        };
        let Some(server) = cluster.servers.get(name) else {
            return Err(failed("It is none of the cluster's servers.".to_owned()));
        };
        let host = self
            .road
            .connect(server, WITHIN, false)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let script = Script::new("reading the kubeconfig").line("tell_file kubeconfig /etc/rancher/k3s/k3s.yaml");
        let output = host
            .run_checked(&script)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let text = output.text("kubeconfig").map(str::to_owned);
        let text = text.ok_or_else(|| failed(
                "/etc/rancher/k3s/k3s.yaml is not there: k3s has not run. If this very run brings it there, this block has to wait for it: \
                 server = etcd_k3s_server.<name>.id."
                    .to_owned(),
            ))?;
        let address = server.ssh_address();
        let url = match address.parse() {
            Ok(address) => format!("https://{}", std::net::SocketAddr::new(address, API_PORT)),
            Err(_) => format!("https://{address}:{API_PORT}"),
        };
        Ok((text.replace(&format!("https://127.0.0.1:{API_PORT}"), &url), url))
    }
}

#[async_trait]
impl Ephemeral for K3sKubeconfig {
    fn name(&self) -> &'static str {
        "etcd_k3s_kubeconfig"
    }

    fn schema(&self) -> Schema {
        let cluster = vec![
            Attribute::string("name").required().describe("Its name."),
            Attribute::map_of("servers", server::element_attributes())
                .required()
                .describe("Its servers by name."),
        ];
        Schema {
            version: 0,
            description: "What kubectl and other providers need to reach a k3s cluster as its administrator, read from a server and stored nowhere.",
            attributes: vec![
                Attribute::object("cluster", cluster).required().describe("Its cluster: `etcd_k3s_cluster.<name>`."),
                Attribute::string("server").required().describe(
                    "The server that it is read from, and through which it leads: `etcd_k3s_server.<name>.id`, which is not known before k3s is there, or a \
                     key of the cluster's `servers`.",
                ),
                Attribute::string("url").computed().describe("Where it leads."),
                Attribute::string("kubeconfig").computed().sensitive().describe("The whole of it, in YAML."),
            ],
        }
    }

    fn defers(&self, _config: &Value) -> Option<Deferral> {
        self.road.defers()
    }

    async fn open(&self, _context: &Context, config: Value) -> Opened {
        match self.look(&config).await {
            Ok((kubeconfig, url)) => {
                let mut result = config;
                result.set("url", url);
                result.set("kubeconfig", kubeconfig);
                Opened {
                    result,
                    ..Opened::default()
                }
            }
            Err(diagnostic) => Diagnostics::from(diagnostic).into(),
        }
    }
}
