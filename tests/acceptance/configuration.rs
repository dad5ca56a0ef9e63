//! The configuration of a cluster as a user writes it, with places where a test can put something else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use etcd_lab::{Lab, private_key_file};

/// What `main.tf` says. The values are HCL expressions.
#[derive(Clone)]
pub struct Configuration {
    /// Arguments of the provider beside `ssh`.
    pub provider: BTreeMap<String, String>,
    /// Arguments of the provider's `ssh`.
    pub ssh: BTreeMap<String, String>,
    /// Arguments of each `etcd_server`, by its name.
    pub servers: BTreeMap<String, BTreeMap<String, String>>,
    /// Arguments of `etcd_cluster.main`.
    pub cluster: BTreeMap<String, String>,
    /// Arguments of every `etcd_member`.
    pub member: BTreeMap<String, String>,
    /// The servers that have a member, if not all of them.
    pub members: Option<Vec<String>>,
    /// Whether there are a cluster and members at all, or servers alone.
    pub only_servers: bool,
}

/// An HCL string.
pub fn quoted(text: &str) -> String {
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
            .replace("${", "$${")
    )
}

impl Configuration {
    /// The cluster `main` of these hosts of the lab, entered as `admin`, with the etcd `version` that lies on every host.
    pub fn new(lab: &Lab, hosts: &[&str], version: &str) -> Result<Self> {
        let mut servers = BTreeMap::new();
        for host in hosts {
            let site = lab.spec().site_of(host)?;
            let mut arguments = BTreeMap::from([
                ("name".to_owned(), quoted(host)),
                ("network".to_owned(), quoted(&site)),
                (
                    "private_address".to_owned(),
                    quoted(&lab.private_address(host)?.to_string()),
                ),
            ]);
            if let Some(public) = lab.public_address(host)? {
                arguments.insert("public_address".to_owned(), quoted(&public.to_string()));
            }
            servers.insert((*host).to_owned(), arguments);
        }
        let pairs = |pairs: &[(&str, String)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect()
        };
        Ok(Self {
            provider: BTreeMap::new(),
            ssh: pairs(&[
                ("user", quoted("admin")),
                ("private_key_file", quoted(&private_key_file().display().to_string())),
                (
                    "known_hosts_file",
                    quoted(&lab.known_hosts_file().display().to_string()),
                ),
            ]),
            servers,
            cluster: pairs(&[("name", quoted("main"))]),
            member: pairs(&[
                ("version", quoted(version)),
                (
                    "binary",
                    format!("{{ host_path = {} }}", quoted(&format!("/opt/etcd/{version}"))),
                ),
            ]),
            members: None,
            only_servers: false,
        })
    }

    /// The same with servers alone.
    pub fn only_servers(mut self) -> Self {
        self.only_servers = true;
        self
    }

    /// The same with members on these servers only.
    pub fn members_on(mut self, servers: &[&str]) -> Self {
        self.members = Some(servers.iter().map(|server| (*server).to_owned()).collect());
        self
    }

    /// Sets an argument of the provider's `ssh`.
    pub fn ssh(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.ssh.insert(name.into(), expression.into());
        self
    }

    /// Sets an argument of one server.
    pub fn server(mut self, server: &str, name: &str, expression: impl Into<String>) -> Self {
        self.servers
            .entry(server.into())
            .or_default()
            .insert(name.into(), expression.into());
        self
    }

    /// Removes an argument of one server.
    pub fn without(mut self, server: &str, name: &str) -> Self {
        self.servers.entry(server.into()).or_default().remove(name);
        self
    }

    /// Sets an argument of the provider.
    pub fn provider(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.provider.insert(name.into(), expression.into());
        self
    }

    /// Sets an argument of the cluster.
    pub fn cluster(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.cluster.insert(name.into(), expression.into());
        self
    }

    /// Sets an argument of every member.
    pub fn member(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.member.insert(name.into(), expression.into());
        self
    }

    /// The text of `main.tf`. Each server is a block of its own, so that a test can leave out or repeat what it wants.
    pub fn render(&self) -> String {
        let mut text =
            String::from("terraform {\n  required_providers {\n    etcd = { source = \"crossnet/etcd\" }\n  }\n}\n");
        let _ = writeln!(
            text,
            "provider \"etcd\" {{\n{}  ssh = {{\n{}  }}\n}}",
            arguments(&self.provider, "  "),
            arguments(&self.ssh, "    ")
        );
        for (label, server) in &self.servers {
            let _ = writeln!(
                text,
                "resource \"etcd_server\" \"{label}\" {{\n{}}}",
                arguments(server, "  ")
            );
        }
        if self.only_servers {
            return text;
        }
        let servers: Vec<_> = self
            .servers
            .keys()
            .map(|name| format!("{name} = etcd_server.{name}"))
            .collect();
        let all = || self.servers.keys().cloned().collect();
        let members: Vec<String> = self.members.clone().unwrap_or_else(all);
        let names: Vec<_> = members.iter().map(|name| quoted(name)).collect();
        let cluster = arguments(&self.cluster, "  ");
        let _ = writeln!(
            text,
            "resource \"etcd_cluster\" \"main\" {{\n{cluster}  servers = {{ {} }}\n}}",
            servers.join(", ")
        );
        let member = arguments(&self.member, "  ");
        let _ = writeln!(
            text,
            "resource \"etcd_member\" \"this\" {{\n  for_each = toset([{}])\n  cluster = etcd_cluster.main\n  server = each.key\n{member}}}",
            names.join(", ")
        );
        text
    }
}

fn arguments(all: &BTreeMap<String, String>, indent: &str) -> String {
    all.iter().fold(String::new(), |text, (name, value)| {
        text + indent + name + " = " + value + "\n"
    })
}
