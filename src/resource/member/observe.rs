//! What one server holds of its member.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::model::MemberModel;
use crate::etcd::layout::Layout;
use crate::host::{Host, Output, RunError, Script, Secret};
use crate::membership::member::{Data, Service};

/// What was seen on the server.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The token of the founding permit.
    pub permit: Option<String>,
    /// The token that is written down.
    pub token: Option<String>,
    /// The data directory.
    pub data: Data,
    /// The service.
    pub service: Service,
    /// Whether the service starts at boot.
    pub enabled: bool,
    /// The file that the running process was started from.
    pub executable: Option<String>,
    /// Another process that has one of the member's ports.
    pub port_taken: Option<(u16, String)>,
    /// SHA-256 of the files that were asked for, by path.
    pub files: BTreeMap<String, String>,
    /// The processor, as `uname -m` says.
    pub machine: String,
    /// Where the binary is, links followed.
    pub binary_path: Option<String>,
    /// The version that the binary says it is; empty where the path is there and is no etcd.
    pub binary: Option<String>,
    /// The configuration file.
    pub configuration: Option<String>,
    /// Certificates in PEM, by file name without ending.
    pub certificates: BTreeMap<String, String>,
    /// The key of the member's certificate for clients, where it was asked for.
    pub key: Option<Secret>,
}

impl Seen {
    /// Whether nothing of the member is there.
    pub fn is_nothing(&self) -> bool {
        self.data == Data::Empty && self.configuration.is_none() && self.service == Service::Stopped
    }
}

/// Observes. Changes nothing.
///
/// # Errors
/// If the script can't run.
pub async fn observe(
    host: &Host,
    member: &MemberModel,
    layout: &Layout,
    binary: &str,
    files: &[String],
    with_key: bool,
) -> Result<Seen, RunError> {
    let script = Script::new("observing the member");
    let script = append(script, member, layout, binary, files, with_key);
    Ok(seen(&host.run_checked(&script).await?))
}

/// A script that observes when it has done what it did before: a round trip less. [`seen`] reads its output.
pub fn append(
    script: Script,
    member: &MemberModel,
    layout: &Layout,
    binary: &str,
    files: &[String],
    with_key: bool,
) -> Script {
    let ports = member
        .server()
        .map(|server| format!("{} {}", server.peer_port, server.client_port))
        .unwrap_or_default();
    script
        .set("cluster", &member.cluster.name)
        .set("data", layout.data_dir().as_str())
        .set("unit", layout.unit_name())
        .set("ports", ports)
        .set("binary", binary)
        .set("files", files.join(" "))
        .set("with_key", if with_key { "yes" } else { "no" })
        .line(include_str!("../ports.sh"))
        .line(include_str!("../await_start.sh"))
        .line(include_str!("observe.sh"))
}

/// What an observing script found.
pub fn seen(output: &Output) -> Seen {
    let text = |key: &str| output.value(key).map(str::to_owned);
    let decoded = |key: &str| output.value(key).and_then(decode);
    let service = match (output.value("unit.ActiveState"), output.value("unit.MainPID")) {
        (Some("active" | "activating" | "reloading"), Some(pid)) if pid != "0" => Service::Running,
        (Some("failed"), _) => Service::Failed,
        _ => Service::Stopped,
    };
    let names = ["peer", "peer-client", "server", "peer-ca", "client-ca"];
    Seen {
        permit: text("permit"),
        token: text("token"),
        data: match output.value("data") {
            Some("member") => Data::Member,
            Some("other") => Data::Other,
            _ => Data::Empty,
        },
        service,
        enabled: output.value("unit.UnitFileState") == Some("enabled"),
        executable: text("executable"),
        port_taken: output.value("port").and_then(|line| {
            let (port, process) = line.split_once(' ')?;
            Some((port.parse().ok()?, process.to_owned()))
        }),
        files: output
            .values("file")
            .filter_map(|line| line.split_once(' '))
            .map(|(sum, path)| (path.to_owned(), sum.to_owned()))
            .collect(),
        machine: text("machine").unwrap_or_default(),
        binary_path: text("binary-path"),
        binary: text("binary"),
        configuration: decoded("config"),
        certificates: names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), decoded(&format!("certificate.{name}"))?)))
            .collect(),
        key: decoded("key").map(Secret::new),
    }
}

fn decode(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}
