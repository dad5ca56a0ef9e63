//! Import: what the user says of a cluster that exists, and what its servers say themselves.
//!
//! Addresses and networks are the user's knowledge: no server knows how others see it. All else is on the servers: the
//! token, the domain, the options, the founding set, the authorities' certificates. Their private keys are not.

mod foreign;
pub mod given;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::etcd::{certificates, program, yaml};
use crate::host::{PRIVILEGE, Script};
use crate::membership::incarnation::Incarnation;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::value::{Value, from_value};
use crate::resource::cluster::servers::on_each;
use crate::resource::connection::ShownKeys;
use crate::resource::member::scheduled;
use crate::resource::road::Road;
use crate::resource::server::model::ServerModel;
use crate::topology::timing;

/// How long a server may take to answer.
const READ: Duration = Duration::from_secs(20);

/// What the servers say of a cluster.
pub struct Found {
    /// The attributes that `etcd_cluster` has and `etcd_member.cluster` takes from it.
    pub cluster: Value,
    /// What each server says of its own member.
    pub members: BTreeMap<String, FoundMember>,
}

/// What a server says of its member.
#[derive(Clone, Debug, Default)]
pub struct FoundMember {
    /// Its host key and that of its bastion, as `etcd_server` pins them.
    keys: ShownKeys,
    token: Option<String>,
    /// The object of Terraform's that it belongs to.
    pub object: Option<Incarnation>,
    /// The standing configuration.
    pub configuration: Option<String>,
    founding: Option<String>,
    authorities: BTreeMap<&'static str, String>,
    /// The executable that the service starts.
    pub executable: Option<String>,
    /// The version that it says it is.
    pub version: Option<String>,
    /// Where its data is to be, of a member that was made by other means; and the rest, which its configuration does not tell then.
    pub data_dir: Option<String>,
    /// Its further options.
    pub config: BTreeMap<String, String>,
    /// etcd's IDs, in hexadecimal.
    pub member_id: Option<String>,
    /// Of its cluster.
    pub cluster_id: Option<String>,
    /// As the member list has it.
    pub peer_url: Option<String>,
    /// As the member list has it.
    pub client_url: Option<String>,
    /// What its old certificate for clients is valid for, and a new one will not be.
    pub lost_names: Vec<String>,
    adopted_from: Option<String>,
    /// The member's `snapshots`.
    pub snapshots: Value,
}

/// Looks at a cluster of this provider's, or at one that was made by other means.
///
/// # Errors
/// If it can't be imported.
pub async fn find(road: &Road, given: &given::Given) -> Result<Found, Diagnostics> {
    match &given.adopted_from {
        Some(service) => foreign::look(road, given, service).await,
        None => read_back(road, &given.cluster, &given.servers).await,
    }
}

/// Asks all servers of a cluster of this provider's.
async fn read_back(road: &Road, name: &str, servers: &Value) -> Result<Found, Diagnostics> {
    let mut models = BTreeMap::new();
    for (key, server) in servers.as_map().into_iter().flatten() {
        let model: ServerModel = from_value(server).map_err(|error| refused(name, &error.to_string()))?;
        models.insert(key.clone(), model);
    }
    let asked = on_each(road, &models, READ, false, |_, host| async move {
        let script = Script::new("reading back what the server knows of the cluster")
            .set("cluster", name)
            .line(PRIVILEGE)
            .line(program::SCRIPT)
            .line(include_str!("read_back.sh"));
        let output = host.run_checked(&script).await?;
        let text = |key: &str| output.value(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let decoded = |key: &str| output.text(key).map(str::to_owned);
        let authority = |kind: &'static str| Some((kind, decoded(kind)?));
        Ok(FoundMember {
            keys: ShownKeys::of(&host),
            token: text("token"),
            object: output.value("object").and_then(Incarnation::parse),
            configuration: decoded("config"),
            founding: decoded("founding"),
            authorities: ["peer-ca", "client-ca"].into_iter().filter_map(authority).collect(),
            executable: text("binary"),
            version: text("version"),
            adopted_from: text("adopted-from").filter(|name| given::is_service(name)),
            snapshots: scheduled::of_import(
                output.value("snapshots.schedule"),
                output.value("snapshots.keep"),
                output.value("snapshots.directory"),
            ),
            ..FoundMember::default()
        })
    })
    .await;
    let mut members = BTreeMap::new();
    let mut diagnostics = Diagnostics::new();
    for (server, outcome) in asked {
        match outcome {
            Ok(found) => drop(members.insert(server, found)),
            Err(error) => diagnostics.append(refused(name, &format!("Server {server} could not be asked: {error}"))),
        }
    }
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    let cluster = together(name, servers, &members).map_err(|problem| refused(name, &problem))?;
    Ok(Found { cluster, members })
}

/// The one error that an import has.
pub fn refused(what: &str, problem: &str) -> Diagnostics {
    Diagnostic::error(format!("{what} can't be imported"), problem).into()
}

/// What the servers say together; in words why that makes no cluster.
fn together(name: &str, servers: &Value, members: &BTreeMap<String, FoundMember>) -> Result<Value, String> {
    let tokens: BTreeSet<&String> = members.values().filter_map(|member| member.token.as_ref()).collect();
    let names = || members.keys().cloned().collect::<Vec<_>>().join(", ");
    let token = match tokens.into_iter().collect::<Vec<_>>()[..] {
        [token] => token.clone(),
        [] => {
            return Err(format!(
                "None of the servers {} has /etc/etcd/{name}/token, so this provider made no cluster {name:?} there. A new \
                 one is made by `terraform apply`, without an import. One that was made by other means is imported with \
                 adopted_from, the service that runs its members.",
                names()
            ));
        }
        _ => {
            let list = members
                .iter()
                .filter_map(|(server, member)| Some(format!("{server} has {}", member.token.as_ref()?)));
            return Err(format!(
                "The servers belong to different clusters of this name: {}.",
                list.collect::<Vec<_>>().join(", ")
            ));
        }
    };
    let configured = members
        .iter()
        .find_map(|(server, member)| Some((server, options(member.configuration.as_ref()?))));
    let Some((server, options)) = configured else {
        return Err(format!(
            "None of the servers {} has a member of the cluster {name:?}.",
            names()
        ));
    };
    let text = |key: &str| options.get(key).and_then(serde_json::Value::as_str);
    let url = text("initial-advertise-peer-urls").unwrap_or_default();
    let (scheme, place) = url.split_once("://").unwrap_or_default();
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    let Some(domain) = host.strip_prefix(&format!("{server}.")) else {
        return Err(format!(
            "The member on server {server} has the peer URL {url:?}, and a member of this provider's has its own name in it. Is \
             the key of each server its name?"
        ));
    };
    let authority = |kind: &'static str| {
        let certificate = members.values().find_map(|member| member.authorities.get(kind));
        let certificate = certificate.map(String::as_str);
        Value::object([
            ("certificate", certificate.into()),
            ("trusted", certificate.into()),
            ("private_key", Value::Null),
        ])
    };
    let secured = scheme == "https";
    let several = |text: &String| certificates::count(text) > 1;
    if members
        .values()
        .flat_map(|member| member.authorities.values())
        .any(several)
    {
        return Err(
            "Its members trust more than one authority: these were being replaced when the state was lost. Which step that had \
             come to is in no file, so such a cluster can't be imported. Restore a backup of the state."
                .to_owned(),
        );
    }
    let authorities = if secured {
        Value::object([("peer", authority("peer-ca")), ("client", authority("client-ca"))])
    } else {
        Value::Null
    };
    let tls = if secured {
        Value::Null
    } else {
        Value::object([("enabled", false.into())])
    };
    let number = |key: &str, default: u32| {
        let number = options.get(key).and_then(serde_json::Value::as_i64);
        Value::from(number.unwrap_or_else(|| i64::from(default)))
    };
    let adopted_from = members.values().find_map(|member| member.adopted_from.clone());
    // Nobody founded here what was taken over.
    let founders = match adopted_from {
        Some(_) => Vec::new(),
        None => founders(members).into_iter().map(Value::from).collect(),
    };
    let mut servers = servers.clone();
    for (server, member) in members {
        let mut with_key = servers.get(server).clone();
        member.keys.pin(&mut with_key);
        servers.set(server, with_key);
    }
    Ok(Value::object([
        ("name", name.into()),
        ("servers", servers),
        ("tls", tls),
        ("token", token.into()),
        ("domain", domain.into()),
        (
            "heartbeat_interval",
            number("heartbeat-interval", timing::DEFAULT.heartbeat_ms),
        ),
        (
            "election_timeout",
            number("election-timeout", timing::DEFAULT.election_ms),
        ),
        ("founders", founders.into()),
        ("certificate_authorities", authorities),
        ("adopted_from", adopted_from.into()),
    ]))
}

/// The founding set: what the founders once started with, or all that there are.
fn founders(members: &BTreeMap<String, FoundMember>) -> Vec<String> {
    let founding = members
        .values()
        .find_map(|member| member.founding.as_ref())
        .map(|text| options(text));
    let founding = founding
        .as_ref()
        .and_then(|options| options.get("initial-cluster")?.as_str());
    let mut names: Vec<String> = match founding {
        Some(text) => text
            .split(',')
            .filter_map(|one| Some(one.split_once('=')?.0.to_owned()))
            .collect(),
        None => members.keys().cloned().collect(),
    };
    names.sort();
    names
}

fn options(text: &str) -> yaml::Options {
    yaml::options(text).unwrap_or_default()
}

#[cfg(test)]
mod tests;
