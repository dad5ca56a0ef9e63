//! `etcd_server`: one machine that is reached over SSH. Touches nothing on it.

mod import;
pub mod model;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::host::{CloudInit, ConnectError, Facts, Host, InitSystem};
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, ImportRequest, ImportResponse, PlanRequest, PlanResponse, ReadRequest,
    ReadResponse, Resource,
};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema, Type};
use crate::plugin::value::{Value, from_value};
use crate::resource::blind::Unseen;
use crate::resource::connection::ShownKeys;
use crate::resource::road::{Road, RoadError};
use crate::resource::timeouts;
use model::ServerModel;

/// How long a machine may take to appear, by default.
const CREATE: Duration = Duration::from_secs(300);
/// How long an update waits for a machine that is where it was: it may be starting again.
const KNOWN: Duration = Duration::from_secs(60);
/// How long a refresh waits for a machine that does not answer.
const READ: Duration = Duration::from_secs(20);

/// The block.
pub struct ServerResource {
    road: Arc<Road>,
}

impl ServerResource {
    /// The block, with the provider's road to the servers.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    /// Connects and learns the facts, with the checks that need the machine. `patient` waits for a machine that is
    /// only just being created.
    async fn observe(&self, server: &ServerModel, patient: Option<Duration>) -> Result<Observed, Diagnostic> {
        let within = patient.unwrap_or(READ);
        let deadline = Instant::now() + within;
        let host = self
            .road
            .connect(server, within, patient.is_some())
            .await
            .map_err(|error| not_reached(server, &error))?;
        let facts = loop {
            let facts = host.facts().await.map_err(|error| {
                Diagnostic::error(format!("Server {} can't be used", server.name), error_chain(&error))
                    .at(Path::of("ssh"))
            })?;
            let starting = facts.cloud_init == Some(CloudInit::Running);
            if !starting || patient.is_none() {
                break facts;
            }
            if Instant::now() > deadline {
                return Err(Diagnostic::error(
                    format!("cloud-init has not finished on server {}", server.name),
                    format!(
                        "It was still running after {}. See `cloud-init status --long` there; a longer timeouts.create \
                         gives it more time.",
                        humantime::format_duration(within)
                    ),
                ));
            }
            self.road
                .pause(Duration::from_secs(2))
                .await
                .map_err(|error| not_reached(server, &error))?;
        };
        Ok(Observed { host, facts })
    }

    /// A machine that shows the key that was pinned is the same one, wherever it is now. Another one's key is looked up in
    /// known_hosts, as that of a new server.
    async fn same_or_other(
        &self,
        mut server: ServerModel,
        before: Option<&str>,
        within: Duration,
    ) -> Result<ServerModel, Diagnostic> {
        let (None, Some(before)) = (&server.host_key, before) else {
            return Ok(server);
        };
        server.host_key = Some(before.to_owned());
        match self.road.connect(&server, within, true).await {
            Ok(_) => {}
            Err(RoadError::Connect(ConnectError::HostKeyChanged { .. })) => server.host_key = None,
            Err(error) => return Err(not_reached(&server, &error)),
        }
        Ok(server)
    }

    /// A look without patience. A server that is down must not stop the others from being managed.
    async fn look(&self, server: &ServerModel) -> Result<Observed, Diagnostics> {
        if let Err(error) = self.road.connect(server, READ, false).await {
            let unseen = Unseen {
                road: &self.road,
                name: &server.name,
                server: Some(server),
                what: "What is known of it is as it was.".to_owned(),
            };
            return Err(unseen.explain(&error));
        }
        self.observe(server, None).await.map_err(|mut diagnostic| {
            diagnostic.severity = Severity::Warning;
            diagnostic.into()
        })
    }

    async fn create_or_update(&self, request: ApplyRequest) -> ApplyResponse {
        let mut diagnostics = Diagnostics::new();
        let patience = timeouts::get(&request.planned, "create", CREATE);
        // A machine that was there is not being created.
        let stays = !request.prior.is_null() && !model::is_elsewhere(&request.prior, &request.planned);
        let patience = if stays { patience.min(KNOWN) } else { patience };
        let state = match from_value::<ServerModel>(&request.planned.unknown_as_null()) {
            Err(error) => {
                diagnostics.push(Diagnostic::error(
                    "The plan of the server can't be read",
                    error.to_string(),
                ));
                request.prior
            }
            Ok(mut server) => {
                // It is right for a bastion of this name alone, so it may stay where the server is another machine.
                if server.bastion_host_key.is_none() {
                    server.bastion_host_key = request.prior.get("bastion_host_key").as_str().map(str::to_owned);
                }
                // The key that an earlier apply pinned is planned again, unless it may be another machine.
                let before = request.prior.get("host_key").as_str();
                let observed = match self.same_or_other(server.clone(), before, patience).await {
                    Ok(server) => self.observe(&server, Some(patience)).await,
                    Err(diagnostic) => Err(diagnostic),
                };
                match observed {
                    Ok(observed) => {
                        diagnostics.append(check(&server, &observed.facts));
                        // Nothing was touched: a server that fails its checks is as if it had not been tried.
                        if diagnostics.has_errors() {
                            request.prior
                        } else {
                            diagnostics.append(observed.unused_lines(&server));
                            let promised = request.planned.get("bastion_host_key").clone();
                            let mut state = observed.into_state(request.planned, &server);
                            // A bastion that became another one since the refresh is for the next refresh to pin.
                            if !promised.is_unknown() {
                                state.set("bastion_host_key", promised);
                            }
                            state
                        }
                    }
                    Err(diagnostic) => {
                        diagnostics.push(diagnostic);
                        request.prior
                    }
                }
            }
        };
        ApplyResponse {
            state,
            private: Vec::new(),
            diagnostics,
        }
    }
}

struct Observed {
    host: Host,
    facts: Facts,
}

impl Observed {
    /// A machine that is believed although a known_hosts file meant to say more about it.
    fn unused_lines(&self, server: &ServerModel) -> Diagnostics {
        let lines: Vec<&str> = self.host.unused_lines().collect();
        if lines.is_empty() {
            return Diagnostics::new();
        }
        let detail = format!(
            "host_key_checking is accept_new, so the key that it showed was pinned. These lines are about it or its bastion and were not used:\n{}",
            lines.join("\n")
        );
        Diagnostic::warning(
            format!("The host key of server {} was not checked", server.name),
            detail,
        )
        .at(Path::of("ssh").attribute("host_key"))
        .into()
    }

    fn into_state(self, mut state: Value, server: &ServerModel) -> Value {
        let facts = self.facts;
        state.set("id", server.name.as_str());
        ShownKeys::of(&self.host).pin(&mut state);
        state.set("os", facts.os_name.as_str());
        state.set("arch", facts.arch.as_str());
        state.set("init_system", init_system_name(&facts.init_system));
        // What is on the loopback interface comes and goes with services, such as a translation of k3s' own.
        let own: Option<IpAddr> = server.private_address.parse().ok();
        let is_its = |address: &IpAddr| Some(*address) == own || !facts.on_loopback.contains(address);
        let all = facts.addresses.iter().copied();
        let mut addresses: Vec<IpAddr> = all.filter(is_global).filter(is_its).collect();
        // In a fixed order: interfaces that come up in another one are no change.
        addresses.sort_unstable();
        addresses.dedup();
        let addresses: Vec<Value> = addresses.iter().map(|address| address.to_string().into()).collect();
        state.set("addresses", addresses);
        state
    }
}

/// Whether an address means the same machine to others: not loopback, not link-local.
fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// The checks that need the machine's facts.
fn check(server: &ServerModel, facts: &Facts) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let private: Option<IpAddr> = server.private_address.parse().ok();
    if private.is_some_and(|address| !facts.addresses.contains(&address)) {
        let found: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
        diagnostics.push(
            Diagnostic::error(
                format!(
                    "Server {} does not have the address {}",
                    server.name, server.private_address
                ),
                format!(
                    "None of its interfaces has it. Its addresses are: {}. Either private_address is wrong, or the SSH \
                     connection leads to another machine.",
                    found.join(", ")
                ),
            )
            .at(Path::of("private_address")),
        );
    }
    if !facts.has_systemd() {
        diagnostics.push(Diagnostic::error(
            format!("Server {} does not run systemd", server.name),
            format!(
                "Its first process is {}. Members run as systemd services, so a server needs systemd.",
                init_system_name(&facts.init_system)
            ),
        ));
    }
    diagnostics
}

fn not_reached(server: &ServerModel, error: &RoadError) -> Diagnostic {
    let path = match error {
        RoadError::Connect(ConnectError::HostKeyChanged { .. } | ConnectError::HostKeyUnknown { .. }) => {
            Path::of("ssh").attribute("host_key")
        }
        _ => Path::of("ssh"),
    };
    Diagnostic::error(format!("Server {} can't be reached", server.name), error_chain(error)).at(path)
}

/// An error with all its causes.
fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

#[async_trait]
impl Resource for ServerResource {
    fn name(&self) -> &'static str {
        "etcd_server"
    }

    fn schema(&self) -> Schema {
        let mut attributes = model::attributes();
        if let Some(name) = attributes.iter_mut().find(|attribute| attribute.name == "name") {
            name.requires_replace = true;
        }
        let fact = |name, description| Attribute::string(name).computed().use_state().describe(description);
        attributes.extend([
            fact("id", "The name."),
            fact(
                "host_key",
                "The host key that it showed, pinned from the first connection on.",
            ),
            fact(
                "bastion_host_key",
                "The host key that its bastion showed, pinned from the first connection on, with the bastion's name as in a known_hosts file. \
                 Null without a bastion.",
            ),
            fact("os", "The operating system."),
            fact("arch", "The processor architecture in Go's words, such as `amd64`."),
            fact("init_system", "The init system, such as `systemd`."),
            Attribute::list("addresses", Type::String)
                .computed()
                .use_state()
                .describe("The IP addresses on its interfaces. Of those on its loopback interface, only `private_address`."),
            timeouts::attribute(&[(
                "create",
                "How long to wait for a machine that is only just being created. Default: `5m`.",
            )]),
        ]);
        Schema {
            version: 0,
            description: "A machine that is reached over SSH and may carry an etcd member. Creating it connects, checks \
                          what only the machine knows, and pins its host key; nothing on the machine is changed.",
            attributes,
        }
    }

    fn identity(&self) -> Vec<Attribute> {
        import::identity()
    }

    async fn import(&self, _context: &Context, request: ImportRequest) -> ImportResponse {
        self.take_over(&request).await
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        let mut diagnostics = timeouts::validate(config);
        model::to_topology(config, &Path::root(), &mut diagnostics);
        diagnostics
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let mut planned = request.planned;
        if model::is_elsewhere(&request.prior, &planned) {
            // It may be another machine, with another key. Whether that one is right known_hosts says, as for a new server.
            for fact in ["host_key", "bastion_host_key", "os", "arch", "init_system", "addresses"] {
                planned.set(fact, Value::Unknown);
            }
        } else if !request.prior.is_null() {
            planned.set("bastion_host_key", model::planned_bastion_key(&request.prior, &planned));
        }
        PlanResponse {
            planned,
            requires_replace: Vec::new(),
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        let mut diagnostics = Diagnostics::new();
        let state = match from_value::<ServerModel>(&request.state) {
            Ok(server) => match self.look(&server).await {
                Ok(observed) => observed.into_state(request.state, &server),
                Err(found) => {
                    diagnostics.append(found);
                    request.state
                }
            },
            Err(error) => {
                diagnostics.push(Diagnostic::error(
                    "The state of the server can't be read",
                    error.to_string(),
                ));
                request.state
            }
        };
        ReadResponse {
            state,
            private: request.private,
            diagnostics,
        }
    }

    async fn create(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        self.create_or_update(request).await
    }

    async fn update(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        self.create_or_update(request).await
    }

    async fn delete(&self, _context: &Context, _request: ApplyRequest) -> ApplyResponse {
        ApplyResponse {
            state: Value::Null,
            private: Vec::new(),
            diagnostics: Diagnostics::new(),
        }
    }
}

fn init_system_name(init_system: &InitSystem) -> String {
    match init_system {
        InitSystem::Systemd { .. } => "systemd".to_owned(),
        InitSystem::Other(name) => name.clone(),
    }
}
