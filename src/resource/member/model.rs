//! What a configuration says about a member.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::scheduled::{self, ScheduledModel};
use crate::etcd::config::{OptionError, check_option, owned_option};
use crate::etcd::layout::hidden_above;
use crate::etcd::release::{Arch, Sha256Sum, carried_sum};
use crate::etcd::version::Version;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema, Type};
use crate::plugin::value::Value;
use crate::resource::cluster::model::{self as cluster, ClusterModel};
use crate::resource::durations::MEMBER_RENEWAL;
use crate::resource::reference::remember_cluster;
use crate::resource::server::model::ServerModel;
use crate::resource::timeouts;

/// A member as plan and state have it; everything known that is needed.
#[derive(Clone, Debug, Deserialize)]
pub struct MemberModel {
    /// Its cluster.
    pub cluster: ClusterModel,
    /// The name of its server.
    pub server: String,
    /// The version of etcd.
    pub version: String,
    /// Where the binaries come from.
    #[serde(default)]
    pub binary: Option<BinaryModel>,
    /// Its data directory.
    #[serde(default)]
    pub data_dir: Option<String>,
    /// Further options of etcd.
    #[serde(default)]
    pub config: Option<BTreeMap<String, String>>,
    /// What becomes of the data when it is destroyed.
    #[serde(default)]
    pub on_destroy: Option<String>,
    /// How long before their end certificates are issued anew.
    #[serde(default)]
    pub renew_before: Option<String>,
    /// Snapshots that its server takes by itself.
    #[serde(default)]
    pub snapshots: Option<ScheduledModel>,
    /// What `net.ipv4.tcp_retries2` of its server is to be.
    #[serde(default)]
    pub tcp_retries2: Option<i64>,
    /// etcd's ID of it, in hexadecimal; none where it may have another one by now.
    #[serde(default)]
    pub member_id: Option<String>,
    /// The SHA-256 of its program, as the last apply left it.
    #[serde(default)]
    pub binary_sha256: Option<String>,
    /// The serial numbers of its certificates.
    #[serde(default)]
    pub certificate_serials: Option<BTreeMap<String, Option<String>>>,
}

/// The attribute `binary`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BinaryModel {
    /// A file or folder that is on the server.
    pub host_path: Option<String>,
    /// A local file or folder.
    pub upload: Option<String>,
    /// An archive that the server fetches.
    pub url: Option<String>,
    /// Its checksum.
    pub sha256: Option<String>,
}

impl MemberModel {
    /// Its server.
    pub fn server(&self) -> Option<&ServerModel> {
        self.cluster.servers.get(&self.server)
    }

    /// etcd's ID of it, where it is known and matters: where the member list may not have its name.
    pub fn id(&self) -> Option<u64> {
        self.cluster.adopted_from.as_ref()?;
        u64::from_str_radix(self.member_id.as_deref()?, 16).ok()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> String {
        self.data_dir
            .clone()
            .unwrap_or_else(|| default_data_dir(&self.cluster.name))
    }

    /// How long before their end certificates are issued anew.
    pub fn renew_before(&self) -> time::Duration {
        self.renew_before.as_deref().and_then(window).unwrap_or(RENEW_BEFORE)
    }

    /// Whether it founds the cluster.
    pub fn is_founder(&self) -> bool {
        self.founders().contains(&self.server)
    }

    /// The servers that found the cluster.
    pub fn founders(&self) -> BTreeSet<String> {
        self.cluster.founders()
    }

    /// Whether the cluster's servers are those that found it.
    pub fn has_its_founders(&self) -> bool {
        self.cluster.servers.keys().eq(&self.founders())
    }

    /// The founders whose servers are the cluster's still.
    pub fn remaining_founders(&self) -> BTreeSet<String> {
        let mut founders = self.founders();
        founders.retain(|founder| self.cluster.servers.contains_key(founder));
        founders
    }
}

/// How long before their end certificates are issued anew, unless the configuration says otherwise.
const RENEW_BEFORE: time::Duration = time::Duration::days(60);

/// What `tcp_retries2` may be.
const RETRIES: std::ops::RangeInclusive<i64> = 3..=15;

/// A duration such as `60d`.
fn window(text: &str) -> Option<time::Duration> {
    time::Duration::try_from(MEMBER_RENEWAL.parse(text).ok()?).ok()
}

/// How long before their end a block wants certificates issued anew; `None` while that is not known.
pub fn renew_before(block: &Value) -> Option<time::Duration> {
    window(block.get("renew_before").as_str()?)
}

/// Where a member's data is unless the configuration says otherwise.
pub fn default_data_dir(cluster: &str) -> String {
    format!("/var/lib/etcd/{cluster}")
}

/// The schema.
pub fn schema() -> Schema {
    let mut cluster_attributes = cluster::shared_attributes();
    cluster_attributes.extend([
        Attribute::string("token").describe("Its token."),
        Attribute::string("domain").describe("The domain of its members' names."),
        Attribute::number("heartbeat_interval").describe("etcd's heartbeat interval in ms."),
        Attribute::number("election_timeout").describe("etcd's election timeout in ms."),
        Attribute::list("founders", Type::String).describe("The servers that found the cluster."),
        Attribute::map("source_addresses", Type::List(Box::new(Type::String)))
            .describe("Addresses that servers were seen to come from, and that are none of their own."),
        Attribute::string("adopted_from").describe("The service that ran its members before this provider did."),
        Attribute::object("certificate_authorities", cluster::authority_attributes(true))
            .describe("Its certificate authorities. Private keys are write-only: never in this resource's state."),
    ]);
    let fact = |name, description| Attribute::string(name).computed().use_state().describe(description);
    Schema {
        version: 0,
        description: "The etcd that runs on one server of a cluster.",
        attributes: remember_cluster(vec![
            Attribute::object("cluster", cluster_attributes).required().describe("Its cluster: `etcd_cluster.<name>`."),
            Attribute::string("server")
                .required()
                .requires_replace()
                .describe("The server that it runs on: a key of the cluster's `servers`."),
            Attribute::string("version").required().describe("The version of etcd, such as `3.6.5`."),
            Attribute::object("binary", vec![
                Attribute::string("host_path").describe(
                    "A file `etcd`, or a folder with it, that is on the server already. No other user than root may be able to change it.",
                ),
                Attribute::string("upload").describe(
                    "A local file `etcd`, or a folder with `etcd`, `etcdctl` and `etcdutl`, that is copied to the server.",
                ),
                Attribute::string("url").describe("An archive (`.tar.gz`) that the server fetches itself."),
                Attribute::string("sha256").describe(
                    "A SHA-256 in hexadecimal: of the archive, or of the program `etcd` with `upload` and `host_path`. `url` needs it for \
                     versions that the provider carries no checksum of.",
                ),
            ])
            .describe(
                "Where the binaries come from. Default: the official release of `version`, which the server fetches \
                 itself. The checksums of known releases come with the provider.",
            ),
            Attribute::string("data_dir").or_computed().use_state().requires_replace().describe(
                "Its data directory. Default: `/var/lib/etcd/<cluster>`.",
            ),
            Attribute::map("config", Type::String).describe(
                "Further options of etcd by their flags' names, without dashes in front, such as \
                 `{ \"quota-backend-bytes\" = \"8589934592\" }`.",
            ),
            Attribute::string("on_destroy").default("keep_data").describe(
                "What becomes of the data when the member is destroyed: `keep_data` (the default) renames the directory, \
                 `delete_data` deletes it, and the `snapshots` on the server.",
            ),
            Attribute::string("renew_before").default("60d").describe(
                "How long before they end certificates are issued anew, by the next apply and without a restart: a duration such as \
                 `720h`, from `0s` to `182d`, half of the certificates' lifetime. Default: `60d`.",
            ),
            Attribute::number("tcp_retries2").describe(
                "`net.ipv4.tcp_retries2` of its server, 3 to 15: how often Linux sends again what a peer does not acknowledge before it \
                 gives the connection up. With `5` that takes some 15 seconds instead of 15 minutes, after which members whose connections \
                 fell silent dial each other anew. It is the whole server's, for all its connections. Default: as it is.",
            ),
            scheduled::attribute(),
            Attribute::string("peer_ca_private_key_wo").sensitive().write_only().describe(
                "The private key of your own authority for peers, in PEM. Never stored.",
            ),
            Attribute::string("client_ca_private_key_wo").sensitive().write_only().describe(
                "The private key of your own authority for clients, in PEM. Never stored.",
            ),
            fact("id", "Cluster and server: `<cluster>/<server>`."),
            fact("member_id", "etcd's ID of the member, in hexadecimal."),
            fact("cluster_id", "etcd's ID of the cluster, in hexadecimal: the same for all its members."),
            fact("peer_url", "Its peer URL, the same text on every server."),
            fact("client_url", "Its client URL."),
            fact("initial_cluster", "Its own `initial-cluster`: the peer URLs by the addresses that it dials."),
            fact("configuration", "Its configuration file, as it is on the server."),
            fact("service", "What its service does: `running`, `stopped` or `failed`; `restarting` if it ends again and again; `silent` if it runs and does not answer, though the others have a quorum; `learner` for a member that runs and does not vote yet."),
            fact("running_version", "The version that runs."),
            fact("binary_sha256", "The SHA-256 of its program `etcd`, as the last apply left it. Another program there shows in `drift`."),
            Attribute::map("drift", Type::String).computed().describe(
                "What differs on the server from what the last apply left there, by file or part, and has no attribute of \
                 its own. Empty when nothing does; the next apply mends it.",
            ),
            Attribute::object("certificate_expiry", vec![
                Attribute::string("peer").computed().describe("Of the certificate that it shows to peers that dial it."),
                Attribute::string("peer_client").computed().describe("Of the certificate that it shows to peers it dials."),
                Attribute::string("client").computed().describe("Of the certificate that it shows to clients."),
            ])
            .computed()
            .use_state()
            .describe("When its certificates expire, in RFC 3339. Null without TLS."),
            Attribute::object("certificate_serials", vec![
                Attribute::string("peer").computed().describe("Of the certificate that it shows to peers that dial it."),
                Attribute::string("peer_client").computed().describe("Of the certificate that it shows to peers it dials."),
                Attribute::string("client").computed().describe("Of the certificate that it shows to clients."),
                Attribute::string("operator").computed().describe("Of the certificate of etcd's user root on its server."),
            ])
            .computed()
            .use_state()
            .describe("The serial numbers of its certificates in hexadecimal, for `tls.revoked` of the cluster. Null without TLS."),
            timeouts::attribute(&[
                ("create", "How long founding may take. Default: `5m`."),
                ("update", "How long a change may take. Default: `5m`."),
                ("delete", "How long leaving may take. Default: `2m`."),
            ]),
        ]),
    }
}

/// Checks what the configuration alone tells.
pub fn validate(config: &Value) -> Diagnostics {
    let mut diagnostics = timeouts::validate(config);
    let version = match config.get("version").as_str().map(Version::parse) {
        Some(Ok(version)) => {
            if let Some(warning) = version.warning() {
                let text = warning.to_string();
                diagnostics.push(Diagnostic::warning("Consider another version of etcd", text).at(Path::of("version")));
            }
            Some(version)
        }
        Some(Err(error)) => {
            diagnostics.push(Diagnostic::error("Invalid version of etcd", error.to_string()).at(Path::of("version")));
            None
        }
        None => None,
    };
    validate_options(config, version.as_ref(), &mut diagnostics);
    validate_binary(config.get("binary"), version.as_ref(), &mut diagnostics);
    scheduled::validate(config, &mut diagnostics);
    if let Some(directory) = config.get("data_dir").as_str().filter(|path| !is_plain_absolute(path)) {
        diagnostics.push(
            Diagnostic::error(
                "Invalid data directory",
                format!("{directory:?} has to be an absolute path below the root, without spaces, quotes or \"..\"."),
            )
            .at(Path::of("data_dir")),
        );
    }
    if let Some(choice) = config
        .get("on_destroy")
        .as_str()
        .filter(|choice| !["keep_data", "delete_data"].contains(choice))
    {
        diagnostics.push(
            Diagnostic::error(
                "Invalid on_destroy",
                format!("{choice:?} is neither \"keep_data\" nor \"delete_data\"."),
            )
            .at(Path::of("on_destroy")),
        );
    }
    let retries = config.get("tcp_retries2");
    if !retries.is_null() && !retries.is_unknown() && !retries.as_i64().is_some_and(|number| RETRIES.contains(&number))
    {
        let text = "It has to be a whole number from 3 to 15: with fewer, connections over a link that loses packets would be given up, \
                    and 15 is what Linux has by default.";
        diagnostics.push(Diagnostic::error("Invalid tcp_retries2", text).at(Path::of("tcp_retries2")));
    }
    if let Some(text) = config.get("renew_before").as_str() {
        let read = MEMBER_RENEWAL.read(text, "Invalid renew_before", Path::of("renew_before"));
        diagnostics.append(read.err().into_iter().collect());
    }
    diagnostics
}

fn validate_options(config: &Value, version: Option<&Version>, diagnostics: &mut Diagnostics) {
    for (key, value) in config.get("config").as_map().into_iter().flatten() {
        let problem = match (version, value.as_str()) {
            (Some(version), Some(text)) => check_option(key, text, version).err(),
            _ => owned_option(key).map(|owned| OptionError::Owned {
                key: key.clone(),
                owned,
            }),
        };
        if let Some(problem) = problem {
            let at = Path::of("config").key(key);
            diagnostics.push(Diagnostic::error("Invalid option of etcd", problem.to_string()).at(at));
        }
    }
}

fn validate_binary(binary: &Value, version: Option<&Version>, diagnostics: &mut Diagnostics) {
    if binary.is_null() || !binary.is_wholly_known() {
        return;
    }
    let given: Vec<&str> = ["host_path", "upload", "url"]
        .into_iter()
        .filter(|name| !binary.get(name).is_null())
        .collect();
    let at = Path::of("binary");
    let mut wrong = |at: Path, text: String| diagnostics.push(Diagnostic::error("Invalid binary", text).at(at));
    if given.len() > 1 {
        wrong(
            at.clone(),
            format!(
                "Only one of host_path, upload and url can be set, but these are: {}.",
                given.join(", ")
            ),
        );
    }
    let sum = binary.get("sha256").as_str();
    if given.is_empty() && sum.is_none() {
        wrong(
            at.clone(),
            "One of host_path, upload, url and sha256 has to be set. For the official release leave binary out.".into(),
        );
    }
    let known = version.is_none_or(|version| carried_sum(version, Arch::Amd64).is_some());
    if binary.get("url").as_str().is_some() && sum.is_none() && !known {
        let text = "url needs the sha256 of the archive: the provider carries no checksum of this version.";
        wrong(at.attribute("sha256"), text.into());
    }
    if let Some(sum) = sum.filter(|sum| Sha256Sum::parse(sum).is_err()) {
        wrong(
            at.attribute("sha256"),
            format!("{sum:?} is not a SHA-256: it has to be 64 hexadecimal digits."),
        );
    }
    if let Some(url) = binary.get("url").as_str()
        && !["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
    {
        wrong(
            at.attribute("url"),
            format!("{url:?} has to begin with https:// or http://."),
        );
    }
    let place = binary.get("host_path").as_str();
    if let Some((path, hidden)) = place.and_then(|path| Some((path, hidden_above(path)?))) {
        wrong(
            at.attribute("host_path"),
            format!(
                "{path:?} is in {hidden}, which the member's service can't see: etcd would not start. Copy etcd to another folder of root's, \
                 /usr/local/lib/etcd for example, and name that."
            ),
        );
    }
    if let Some(path) = binary.get("host_path").as_str().filter(|path| !is_plain_absolute(path)) {
        wrong(
            at.attribute("host_path"),
            format!("{path:?} has to be an absolute path without spaces or quotes."),
        );
    }
}

/// Whether a path can stand in a unit file and a shell script without doubt.
fn is_plain_absolute(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(&byte);
    path.len() > 1 && path.starts_with('/') && path.bytes().all(plain) && !path.split('/').any(|part| part == "..")
}
