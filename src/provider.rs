//! The provider's schema and the registry of its blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::action::compact::Compact;
use crate::action::defragment::Defragment;
use crate::action::disarm_alarms::DisarmAlarms;
use crate::action::move_leader::MoveLeader;
use crate::action::restart::Restart;
use crate::action::snapshot::Snapshot;
use crate::data_source::cluster_status::ClusterStatus;
use crate::ephemeral::client_certificate::ClientCertificate;
use crate::ephemeral::k3s_kubeconfig::K3sKubeconfig;
use crate::ephemeral::tunnel::Tunnel;
use crate::function::{InitialCluster, PeerAddresses, TopologyDiagram};
use crate::list::cluster::Clusters;
use crate::plugin::block::{Action, Context, DataSource, Deferral, Ephemeral, Function, List, Provider, Resource};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::{Value, from_value};
use crate::resource::auth::AuthResource;
use crate::resource::client_certificate::ClientCertificateResource;
use crate::resource::cluster::ClusterResource;
use crate::resource::connection::{self, ConfigError, SshConfig};
use crate::resource::k3s_cluster::K3sClusterResource;
use crate::resource::k3s_server::K3sServerResource;
use crate::resource::member::MemberResource;
use crate::resource::road::{AuthorityKeys, Road};
use crate::resource::role::RoleResource;
use crate::resource::server::ServerResource;
use crate::resource::snapshot::SnapshotResource;
use crate::resource::user::UserResource;

/// The provider.
#[must_use]
pub fn provider() -> impl Provider {
    let road = Arc::new(Road::default());
    Etcd {
        resources: vec![
            Box::new(ServerResource::new(Arc::clone(&road))),
            Box::new(ClusterResource::new(Arc::clone(&road))),
            Box::new(MemberResource::new(Arc::clone(&road))),
            Box::new(SnapshotResource::new(Arc::clone(&road))),
            Box::new(RoleResource::new(Arc::clone(&road))),
            Box::new(UserResource::new(Arc::clone(&road))),
            Box::new(AuthResource::new(Arc::clone(&road))),
            Box::new(ClientCertificateResource::new(Arc::clone(&road))),
            Box::new(K3sClusterResource::new(Arc::clone(&road))),
            Box::new(K3sServerResource::new(Arc::clone(&road))),
        ],
        data_sources: vec![Box::new(ClusterStatus::new(Arc::clone(&road)))],
        functions: vec![
            Box::new(InitialCluster),
            Box::new(PeerAddresses),
            Box::new(TopologyDiagram),
        ],
        actions: vec![
            Box::new(Compact::new(Arc::clone(&road))),
            Box::new(Defragment::new(Arc::clone(&road))),
            Box::new(DisarmAlarms::new(Arc::clone(&road))),
            Box::new(MoveLeader::new(Arc::clone(&road))),
            Box::new(Restart::new(Arc::clone(&road))),
            Box::new(Snapshot::new(Arc::clone(&road))),
        ],
        ephemerals: vec![
            Box::new(ClientCertificate::new(Arc::clone(&road))),
            Box::new(Tunnel::new(Arc::clone(&road))),
            Box::new(K3sKubeconfig::new(Arc::clone(&road))),
        ],
        lists: vec![Box::new(Clusters::new(Arc::clone(&road)))],
        road,
    }
}

struct Etcd {
    road: Arc<Road>,
    resources: Vec<Box<dyn Resource>>,
    data_sources: Vec<Box<dyn DataSource>>,
    functions: Vec<Box<dyn Function>>,
    actions: Vec<Box<dyn Action>>,
    ephemerals: Vec<Box<dyn Ephemeral>>,
    lists: Vec<Box<dyn List>>,
}

#[async_trait]
impl Provider for Etcd {
    fn schema(&self) -> Schema {
        let authority = vec![
            Attribute::string("peer_private_key")
                .sensitive()
                .describe("The private key of the authority for peers, in PEM."),
            Attribute::string("client_private_key")
                .sensitive()
                .describe("The private key of the authority for clients, in PEM."),
        ];
        Schema {
            version: 0,
            description: "Forms and runs etcd clusters whose servers stand in different networks, over SSH and without a VPN.",
            attributes: vec![
                Attribute::object("ssh", connection::provider_attributes()).describe("How servers are reached."),
                Attribute::bool("allow_unreachable").describe(
                    "Whether a refresh goes on if no server of a cluster can be reached, as after the loss of all its machines, and \
                     a plan if a server refuses the login. Without it that is an error: nothing would be known of the cluster, or of that server. Also from `ETCD_ALLOW_UNREACHABLE`. Default: false.",
                ),
                Attribute::map_of("certificate_authorities", authority).describe(
                    "Private keys of certificate authorities of your own, by the name of the cluster, whose certificates \
                     are in the cluster's `tls`. Provider configurations are never stored.",
                ),
            ],
        }
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match ssh_config(config) {
            Some(Err(diagnostic)) => diagnostic.into(),
            _ => Diagnostics::new(),
        }
    }

    async fn configure(&self, context: &Context, config: &Value) -> Diagnostics {
        let Some(ssh) = ssh_config(config) else {
            // Known only after apply: blocks say so if they need a server before.
            return Diagnostics::new();
        };
        let authorities = config.get("certificate_authorities");
        let authorities = if authorities.is_wholly_known() && !authorities.is_null() {
            from_value::<BTreeMap<String, AuthorityKeys>>(authorities)
        } else {
            Ok(BTreeMap::new())
        };
        match (ssh, authorities) {
            (Ok(ssh), Ok(authorities)) => {
                let faults = ssh.faults();
                let allowed = allows_unreachable(config);
                self.road.configure(ssh, authorities, allowed, context.stop.clone());
                faults.map_or_else(Diagnostics::new, |error| invalid(&error).into())
            }
            (Err(diagnostic), _) => diagnostic.into(),
            (_, Err(error)) => Diagnostic::error("Invalid certificate authorities", error.to_string())
                .at(Path::of("certificate_authorities"))
                .into(),
        }
    }

    fn defers(&self) -> Option<Deferral> {
        self.road.defers()
    }

    fn new_run(&self) {
        self.road.new_run();
    }

    fn resources(&self) -> &[Box<dyn Resource>] {
        &self.resources
    }

    fn data_sources(&self) -> &[Box<dyn DataSource>] {
        &self.data_sources
    }

    fn ephemerals(&self) -> &[Box<dyn Ephemeral>] {
        &self.ephemerals
    }

    fn functions(&self) -> &[Box<dyn Function>] {
        &self.functions
    }

    fn actions(&self) -> &[Box<dyn Action>] {
        &self.actions
    }

    fn lists(&self) -> &[Box<dyn List>] {
        &self.lists
    }
}

/// What `allow_unreachable` or its environment variable says.
fn allows_unreachable(config: &Value) -> bool {
    let variable = || std::env::var("ETCD_ALLOW_UNREACHABLE").is_ok_and(|text| text == "true");
    config.get("allow_unreachable").as_bool().unwrap_or_else(variable)
}

fn invalid(error: &ConfigError) -> Diagnostic {
    let ssh = Path::of("ssh");
    let at = match error {
        ConfigError::Duration { name, .. } => ssh.attribute(name),
        ConfigError::KeyFile { .. } => ssh.attribute("private_key_file"),
        ConfigError::Value { .. } => ssh,
    };
    Diagnostic::error("Invalid SSH configuration", error.to_string()).at(at)
}

/// The SSH configuration with the environment; `None` while something in it is unknown.
fn ssh_config(config: &Value) -> Option<Result<SshConfig, Diagnostic>> {
    let ssh = config.get("ssh");
    if !ssh.is_wholly_known() {
        return None;
    }
    let parsed = if ssh.is_null() {
        Ok(SshConfig::default())
    } else {
        from_value::<SshConfig>(ssh)
    };
    let unreadable = |detail: String| Diagnostic::error("Invalid SSH configuration", detail).at(Path::of("ssh"));
    let parsed = parsed.map_err(|error| unreadable(error.to_string()));
    Some(parsed.and_then(|ssh| {
        ssh.with_environment(|name| std::env::var(name).ok())
            .map_err(|error| invalid(&error))
    }))
}
