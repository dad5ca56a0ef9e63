//! What a configuration says about a k3s server, and the files that follow from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Deserialize;

use crate::etcd::yaml;
use crate::membership::k3s::shared::Shared;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::{Attribute, Schema, Type};
use crate::plugin::value::Value;
use crate::resource::cluster::model::text_map;
use crate::resource::k3s::model::{self, K3sClusterModel};
use crate::resource::reference::remember_cluster;
use crate::resource::timeouts;
use crate::topology::{Server, ServerName, Topology, Translation};

/// A server as plan and state have it; everything known that is needed.
#[derive(Clone, Debug, Deserialize)]
pub struct K3sServerModel {
    /// Its cluster.
    pub cluster: K3sClusterModel,
    /// The name of its server.
    pub server: String,
    /// What `k3s --version` is to say.
    #[serde(default)]
    pub version: Option<String>,
    /// Where the program comes from.
    pub install: Install,
    /// Further options.
    #[serde(default)]
    pub config: Option<BTreeMap<String, String>>,
    /// What becomes of the data when it is destroyed.
    #[serde(default)]
    pub on_destroy: Option<String>,
    /// The program on the server.
    #[serde(default)]
    pub binary: Option<String>,
}

/// The attribute `install`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Install {
    /// A file on the server.
    pub host_path: Option<String>,
    /// A local file.
    pub upload: Option<String>,
    /// What the server fetches.
    pub url: Option<String>,
    /// Its checksum.
    pub sha256: Option<String>,
}

impl K3sServerModel {
    /// Whether k3s runs etcd.
    pub fn has_etcd(&self) -> bool {
        self.cluster.datastore.is_none()
    }

    /// Whether it runs pods.
    pub fn has_agent(&self) -> bool {
        let off = self.config.as_ref().and_then(|config| config.get("disable-agent"));
        off.is_none_or(|off| off != "true")
    }

    /// The name of its Kubernetes node.
    pub fn node(&self) -> &str {
        let named = self.config.as_ref().and_then(|config| config.get("node-name"));
        named.map_or(self.server.as_str(), String::as_str)
    }
}

/// Where the program is on the server, for this checksum.
pub fn installed_at(sha256: &str) -> String {
    format!("/usr/local/lib/etcd-k3s/{}/k3s", sha256.get(..16).unwrap_or(sha256))
}

/// Options that this provider sets, or that would break what it does.
const OWNED: &[(&str, &str)] = &[
    ("token", "it comes from the cluster"),
    ("token-file", "the token comes from the cluster"),
    ("agent-token", "agents join with the cluster's token"),
    ("agent-token-file", "agents join with the cluster's token"),
    (
        "etcd-s3-secret-key",
        "plans and state show options; k3s takes it from a Secret (etcd-s3-config-secret), or from a file of yours in /etc/rancher/k3s/config.yaml.d",
    ),
    (
        "etcd-s3-session-token",
        "plans and state show options; k3s takes it from a Secret (etcd-s3-config-secret), or from a file of yours in /etc/rancher/k3s/config.yaml.d",
    ),
    ("server", "servers join through whichever server is up"),
    (
        "cluster-init",
        "the cluster is founded once, by the server that is created first",
    ),
    (
        "cluster-reset",
        "it is no option for a service; run `k3s server --cluster-reset` by hand",
    ),
    (
        "cluster-reset-restore-path",
        "it is no option for a service; run `k3s server --cluster-reset` by hand",
    ),
    ("node-ip", "it is the address of the server's etcd member"),
    ("node-external-ip", "it is the server's public_address"),
    ("advertise-address", "it follows from the server's addresses"),
    ("data-dir", "it is /var/lib/rancher/k3s"),
    ("config", "it is /etc/rancher/k3s/config.yaml"),
    ("write-kubeconfig", "it is /etc/rancher/k3s/k3s.yaml"),
    ("https-listen-port", "it is 6443"),
    (
        "bind-address",
        "the server is reached at its private and its public address",
    ),
    ("disable-etcd", "a server without etcd is none of this cluster's"),
    ("disable-apiserver", "the server could not be joined through"),
    ("datastore-endpoint", "it comes from the cluster's `datastore`"),
    ("datastore-cafile", "it comes from the cluster's `datastore`"),
    ("datastore-certfile", "it comes from the cluster's `datastore`"),
    ("datastore-keyfile", "it comes from the cluster's `datastore`"),
    ("vpn-auth", "addresses would be those of the VPN"),
    ("vpn-auth-file", "addresses would be those of the VPN"),
];

/// The file with k3s' options, without secrets. `None` where the server is none of the topology's.
pub fn configuration(
    server: &K3sServerModel,
    topology: &Topology,
    translation: Option<&Translation>,
) -> Option<String> {
    let name = ServerName::parse(&server.server).ok()?;
    let place = topology.servers().get(&name)?;
    let own = match translation {
        Some(all) => all.members().get(&name)?.to_string(),
        None => place.private_address.to_string(),
    };
    let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut set = |option: &str, value: String| {
        options.insert(option.to_owned(), vec![value]);
    };
    set("node-name", server.node().to_owned());
    set("node-ip", own);
    set("token-file", TOKEN.to_owned());
    if let Some(public) = place.public_address {
        set("node-external-ip", public.to_string());
    }
    // The same on all servers, whatever addresses they have: k3s has none join that differs.
    if topology.servers().values().any(|other| other.network != place.network) {
        set("flannel-external-ip", "true".to_owned());
        set("flannel-backend", "wireguard-native".to_owned());
    }
    if let Some(datastore) = &server.cluster.datastore {
        set("datastore-endpoint", datastore.endpoint.clone());
        for (option, file) in [
            ("datastore-cafile", &datastore.ca_file),
            ("datastore-certfile", &datastore.cert_file),
            ("datastore-keyfile", &datastore.key_file),
        ] {
            if let Some(file) = file {
                set(option, file.clone());
            }
        }
    }
    let own = |place: &Server| {
        {
            [Some(place.private_address), place.public_address]
                .into_iter()
                .flatten()
        }
        .collect()
    };
    let names: Vec<IpAddr> = translation.map_or_else(|| own(place), |all| all.subject_alternative_names(&name));
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    for (option, value) in server.config.iter().flatten() {
        let values = listed(value);
        if option == "tls-san" {
            names.extend(
                values
                    .into_iter()
                    .filter(|one| !names.contains(one))
                    .collect::<Vec<_>>(),
            );
        } else {
            options.insert(option.clone(), values);
        }
    }
    options.insert("tls-san".to_owned(), names);
    let mut text = String::from("# Managed by Terraform.\n");
    for (option, values) in options {
        match values.as_slice() {
            [one] if option != "tls-san" => {
                let _ = writeln!(text, "{option}: {}", yaml(one));
            }
            all => {
                let _ = writeln!(text, "{option}:");
                for one in all {
                    let _ = writeln!(text, "- {}", yaml(one));
                }
            }
        }
    }
    Some(text)
}

/// Where the token is.
pub const TOKEN: &str = "/etc/rancher/k3s/etcd-k3s.token";
/// Where the options are.
pub const CONFIGURATION: &str = "/etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml";

/// What of a file of options all servers must have alike.
pub fn shared(configuration: &str) -> Shared {
    let read = yaml::options(configuration).unwrap_or_default();
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let options = read.iter().map(|(option, value)| {
        let values = match value {
            serde_json::Value::Array(all) => all.iter().map(text).collect(),
            one => vec![text(one)],
        };
        (option.clone(), values)
    });
    Shared::of(&options.collect())
}

/// The elements of a list in JSON, or the text itself.
fn listed(value: &str) -> Vec<String> {
    let Ok(serde_json::Value::Array(all)) = serde_json::from_str(value) else {
        return vec![value.to_owned()];
    };
    let text = |one: &serde_json::Value| match one {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    all.iter().map(text).collect()
}

/// A text in YAML: what JSON makes of it.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The schema.
pub fn schema() -> Schema {
    let mut cluster = model::shared_attributes();
    cluster.extend([
        Attribute::string("pool").describe("Its pool of addresses."),
        Attribute::string("id").describe("Its ID."),
        Attribute::string("token")
            .write_only()
            .sensitive()
            .describe("Its token. Write-only: it is in the cluster's state and in no other."),
        text_map("addresses").describe("The addresses of its members."),
        Attribute::string("service").describe("The service that is started after the translation."),
    ]);
    let computed = |name| Attribute::string(name).computed();
    Schema {
        version: 0,
        description: "A k3s server, with the etcd in it or with one outside of it.",
        attributes: remember_cluster(vec![
            Attribute::object("cluster", cluster).required().describe("Its cluster: `etcd_k3s_cluster.<name>`."),
            Attribute::string("server")
                .required()
                .requires_replace()
                .describe("The server that it runs on: a key of the cluster's `servers`."),
            Attribute::object(
                "install",
                vec![
                    Attribute::string("host_path").describe("The program `k3s` where it is on the server already. No other user than root may be able to change it."),
                    Attribute::string("upload").describe("The program `k3s` beside Terraform, which is copied to the server."),
                    Attribute::string("url").describe("The program `k3s` where the server fetches it itself."),
                    Attribute::string("sha256").describe("Its SHA-256 in hexadecimal; required with `url`."),
                ],
            )
            .required()
            .describe(
                "Where k3s comes from: one of `host_path`, `upload`, or `url` with `sha256`. Another program restarts the servers one at a time, \
                 the leader last.",
            ),
            Attribute::string("version").describe(
                "What `k3s --version` says of the program, such as `v1.36.3+k3s1`: another one is refused, and a program that was exchanged in its \
                 place is noticed.",
            ),
            Attribute::map("config", Type::String).describe(
                "Options of `k3s server` by their names, without dashes in front, such as `{ \"disable\" = jsonencode([\"traefik\"]) }`. Lists \
                 are written with `jsonencode`.",
            ),
            Attribute::string("on_destroy").default("keep_data").describe(
                "What becomes of `/var/lib/rancher/k3s` when the server is destroyed: `keep_data` (the default) renames it, `delete_data` deletes it.",
            ),
            Attribute::string("token_wo").write_only().sensitive().describe(
                "The cluster's token, where that does not keep it (`token_wo` there). Never stored.",
            ),
            computed("id").use_state().describe("Cluster and server: `<cluster>/<server>`. Not known before k3s is there."),
            computed("binary").describe("The program on the server."),
            computed("configuration").describe("Its options, as they are on the server; the token is in a file of its own."),
            computed("member_address").use_state().describe("The address of its etcd member. Null with a `datastore`."),
            computed("url").describe("Where agents, `kubectl` and other servers reach it."),
            computed("service").describe("What its service does: `running`, `starting`, `stopped` or `failed`; `learner` while its etcd does not vote; `removed` if its member was taken out of the cluster by other means; `taken-over` if another object of Terraform's has it."),
            computed("running_version").describe("The version that runs."),
            computed("kubeconfig").use_state().sensitive().describe("What `kubectl` needs to reach the cluster as its administrator, through this server."),
            computed("join_token").use_state().sensitive().describe(
                "The token for agents, which also tells them the cluster's certificate authority. Null with `token_wo`.",
            ),
            timeouts::attribute(&[
                ("create", "How long it may take to start and become a voter. Default: `10m`."),
                ("update", "How long a restart may take, waiting for its turn included. Default: `10m`."),
                ("delete", "How long leaving may take. Default: `2m`."),
            ]),
        ]),
    }
}

/// What the configuration alone tells.
pub fn validate(config: &Value) -> Diagnostics {
    let mut diagnostics = timeouts::validate(config);
    let at = Path::of("install");
    let given = |name: &str| !config.at(&["install", name]).is_null();
    let ways = { ["host_path", "upload", "url"].into_iter() }
        .filter(|way| given(way))
        .count();
    let install = config.get("install");
    if install.as_map().is_some() && ways != 1 {
        let detail = "Give one of host_path, upload, or url with sha256.";
        diagnostics.push(Diagnostic::error("Where does k3s come from?", detail).at(at.clone()));
    }
    if given("url") != given("sha256") {
        let detail = "What is fetched is compared with sha256, which belongs to url and to nothing else.";
        diagnostics.push(Diagnostic::error("url and sha256 go together", detail).at(at.attribute("sha256")));
    }
    if let Some(sum) = config.at(&["install", "sha256"]).as_str()
        && let Err(error) = crate::etcd::release::Sha256Sum::parse(sum)
    {
        diagnostics.push(Diagnostic::error("Invalid sha256", error.to_string()).at(at.attribute("sha256")));
    }
    for (option, value) in config.get("config").as_map().into_iter().flatten() {
        let at = Path::of("config").key(option);
        let plain = option.trim_end_matches('+');
        if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == plain) {
            diagnostics
                .push(Diagnostic::error(format!("{plain} can't be set"), format!("In this provider {why}.")).at(at));
        } else if plain != option
            || !option
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            let detail = format!(
                "{option:?} is no option of k3s: write its name as in `k3s server --help`, without dashes in front."
            );
            diagnostics.push(Diagnostic::error("Invalid option", detail).at(at));
        } else if plain == "etcd-arg" && value.as_str().is_some_and(|value| value.contains("force-new-cluster")) {
            let detail = "force-new-cluster makes a second cluster of the data at every start.";
            diagnostics.push(Diagnostic::error("Invalid option", detail).at(at));
        }
    }
    if let Some(mode) = config.get("on_destroy").as_str()
        && !["keep_data", "delete_data"].contains(&mode)
    {
        let detail = format!("{mode:?} is neither keep_data nor delete_data.");
        diagnostics.push(Diagnostic::error("Invalid on_destroy", detail).at(Path::of("on_destroy")));
    }
    diagnostics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::value::from_value;
    use crate::topology::Pool;

    fn server(config: &[(&str, &str)]) -> (K3sServerModel, Topology) {
        let place = |name: &str, network: &str, private: &str, public: &str| {
            Value::object([
                ("name", name.into()),
                ("network", network.into()),
                ("private_address", private.into()),
                ("public_address", public.into()),
                ("peer_port", 2380.into()),
                ("client_port", 2379.into()),
            ])
        };
        let cluster = Value::object([
            ("name", "main".into()),
            (
                "servers",
                Value::object([
                    ("a1", place("a1", "a", "10.0.0.11", "203.0.113.11")),
                    ("b1", place("b1", "b", "10.0.0.11", "203.0.113.21")),
                ]),
            ),
        ]);
        let topology = model::topology(&cluster, &Path::root(), &mut Diagnostics::new()).unwrap();
        let config = { config.iter() }.map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        let block = Value::object([
            ("cluster", cluster),
            ("server", "b1".into()),
            ("install", Value::object([("host_path", "/opt/k3s".into())])),
            ("config", Value::Map(config.collect())),
        ]);
        (from_value(&block).unwrap(), topology)
    }

    #[test]
    fn the_file_has_what_the_recipe_says() {
        let (server, topology) = server(&[
            ("disable", r#"["traefik","servicelb"]"#),
            ("tls-san", "k3s.example.org"),
            ("flannel-backend", "vxlan"),
        ]);
        let pool = Pool::parse(model::POOL).unwrap();
        let all = Translation::new(&topology, pool, &BTreeMap::new(), &[]).unwrap();
        insta::assert_snapshot!(configuration(&server, &topology, Some(&all)).unwrap());
    }

    #[test]
    fn what_is_owned_is_refused_by_name() {
        let config = |option: &str| {
            Value::object([
                ("install", Value::object([("host_path", "/k3s".into())])),
                ("config", Value::object([(option, "x".into())])),
            ])
        };
        assert!(validate(&config("disable")).is_empty());
        for option in [
            "server",
            "cluster-init",
            "node-ip",
            "token",
            "agent-token",
            "server+",
            "No Option",
        ] {
            assert!(validate(&config(option)).has_errors(), "{option}");
        }
        let both = Value::object([(
            "install",
            Value::object([("host_path", "/k3s".into()), ("url", "x".into())]),
        )]);
        assert_eq!(validate(&both).iter().count(), 2);
    }
}
