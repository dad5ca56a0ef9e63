//! `ephemeral "etcd_tunnel"`: a port or a socket on the machine that runs Terraform, through SSH to a healthy member's port for clients, for
//! as long as the run lasts. It ends with the process at the latest.

mod forward;
mod listener;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::plugin::block::{Context, Deferral, Ephemeral, Opened};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema};
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::model::{self, ClusterModel};
use crate::resource::durations::WAIT;
use crate::resource::road::Road;
use forward::Forward;
use listener::Listener;

/// How long a healthy member is waited for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The block.
pub struct Tunnel {
    road: Arc<Road>,
    /// Those that are open, by what their private data say.
    open: Mutex<HashMap<String, DropGuard>>,
    numbers: AtomicU64,
}

impl Tunnel {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self {
            road,
            open: Mutex::default(),
            numbers: AtomicU64::default(),
        }
    }

    async fn start(&self, context: &Context, mut config: Value) -> Result<Opened, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let at = Path::of("cluster");
        let trouble = |summary: &str, detail: String| Diagnostic::error(summary, detail).at(Path::of("cluster"));
        let topology = model::topology(config.get("cluster"), &at, &mut diagnostics);
        let cluster = from_value::<ClusterModel>(config.get("cluster"))
            .map_err(|error| trouble("The cluster can't be read", error.to_string()))?;
        let Some(topology) = topology else {
            return Err(diagnostics);
        };
        let within = timeout(&config)?;
        let tls = cluster
            .certificate_authorities
            .as_ref()
            .map(|all| all.client.trusted().to_owned());
        let forward = Arc::new(Forward::new(Arc::clone(&self.road), cluster, topology, within));
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let healthy = tokio::select! {
            healthy = forward.first_look() => healthy,
            () = context.stop.cancelled() => return Err(trouble("No tunnel", "Stopped on request.".to_owned()).into()),
        };
        if let Err(why) = healthy {
            // A plan opens it too, perhaps the one that is to bring the members back.
            let detail = format!(
                "No member answers as one of a quorum ({why}). The tunnel is open, and its connections wait for one. Where members are created \
                 in the same apply, have it wait for them: depends_on = [etcd_member.<name>]."
            );
            let summary = "There is nobody to tunnel to now";
            diagnostics.push(Diagnostic::warning(summary, detail).at(Path::of("cluster")));
        }
        let private = config.get("unix_socket").as_bool() == Some(true);
        if tls.is_none() && !private {
            diagnostics.push(open_to_all(
                config.at(&["cluster", "name"]).as_str().unwrap_or_default(),
            ));
        }
        let no_place = |error: std::io::Error| trouble("No place to listen at", error.to_string());
        let listener = if private {
            Listener::socket()
        } else {
            Listener::port().await
        };
        let listener = listener.map_err(no_place)?;
        let address = listener.address().map_err(no_place)?;
        tokio::spawn(Arc::clone(&forward).watch(ended.clone()));
        tokio::spawn(forward.accept(listener, ended));
        let number = self.numbers.fetch_add(1, Ordering::Relaxed).to_string();
        self.all().insert(number.clone(), guard);
        let scheme = match (private, tls.is_some()) {
            (true, _) => "unix",
            (false, true) => "https",
            (false, false) => "http",
        };
        config.set("endpoint", format!("{scheme}://{address}"));
        config.set("address", address);
        config.set("server_name", tls.is_some().then_some("localhost"));
        config.set("ca_pem", tls);
        Ok(Opened {
            result: config,
            private: number.into_bytes(),
            diagnostics,
            ..Opened::default()
        })
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, DropGuard>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without TLS nothing but the place keeps others out.
fn open_to_all(cluster: &str) -> Diagnostic {
    let detail = format!(
        "Cluster {cluster} has no TLS. Every user of the machine that runs Terraform can read and write its keys through the tunnel's port \
         while the run lasts. Set unix_socket = true, or turn TLS on."
    );
    Diagnostic::warning("The tunnel is open to every local user", detail).at(Path::of("unix_socket"))
}

fn timeout(config: &Value) -> Result<Duration, Diagnostic> {
    let Some(text) = config.get("timeout").as_str() else {
        return Ok(TIMEOUT);
    };
    WAIT.read(text, "Invalid time-out", Path::of("timeout"))
}

#[async_trait]
impl Ephemeral for Tunnel {
    fn name(&self) -> &'static str {
        "etcd_tunnel"
    }

    fn schema(&self) -> Schema {
        let mut cluster = model::shared_attributes();
        cluster.extend(model::attributes_without_keys());
        cluster.push(Attribute::string("adopted_from").describe("The service that ran its members before."));
        Schema {
            version: 0,
            description: "A port or a socket on the machine that runs Terraform, through SSH to a healthy member's port for clients, for as long as the run lasts.",
            attributes: vec![
                Attribute::object("cluster", cluster)
                    .required()
                    .describe("The cluster: `etcd_cluster.<name>`."),
                Attribute::string("timeout").describe(
                    "How long a healthy member is waited for, at first and with every connection, from `1s` to `7d`. Default: `30s`.",
                ),
                Attribute::bool("unix_socket").describe(
                    "Whether to listen at a socket in a folder that only the user who runs Terraform can enter, in place of a port on \
                     127.0.0.1, which every user of the machine can connect to. Default: false.",
                ),
                Attribute::string("address")
                    .computed()
                    .describe("Where to connect to, such as `127.0.0.1:40123`, or the path of the socket."),
                Attribute::string("endpoint").computed().describe(
                    "The same as an endpoint of etcd, such as `https://127.0.0.1:40123` or `unix:///tmp/etcd-tunnel-x1y2z3/localhost`.",
                ),
                Attribute::string("server_name").computed().describe(
                    "A name that every member's certificate is good for, where a client wants one. Null without TLS.",
                ),
                Attribute::string("ca_pem")
                    .computed()
                    .describe("What the client is to trust, in PEM. Null without TLS."),
            ],
        }
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        model::topology(config.get("cluster"), &Path::of("cluster"), &mut diagnostics);
        diagnostics.append(timeout(config).err().into_iter().collect());
        diagnostics
    }

    fn defers(&self, _config: &Value) -> Option<Deferral> {
        self.road.defers()
    }

    async fn open(&self, context: &Context, config: Value) -> Opened {
        self.start(context, config).await.unwrap_or_else(Opened::from)
    }

    async fn close(&self, _context: &Context, private: Vec<u8>) -> Diagnostics {
        // Whoever drops the guard ends the listener and every stream.
        self.all().remove(String::from_utf8_lossy(&private).as_ref());
        Diagnostics::new()
    }
}
