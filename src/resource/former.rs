//! A look at a member that another service runs: what it was started with, and where its data is. Changes nothing.

use std::net::IpAddr;

use crate::etcd::former::{Former, StartedWith};
use crate::etcd::layout::Layout;
use crate::etcd::program;
use crate::etcd::version::Version;
use crate::host::{Host, Output, PRIVILEGE, RunError, Script};
use crate::resource::server::model::ServerModel;
use crate::topology::ClusterName;

/// What a server says of it.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The token that this provider has left there.
    pub token: Option<String>,
    /// Whether there is a service of that name.
    pub loaded: bool,
    /// The process that runs.
    pub process: Option<String>,
    /// The executable that runs.
    pub executable: Option<String>,
    /// The version that this says it is; empty where it is no etcd.
    pub version: String,
    /// What it was started with.
    pub started_with: StartedWith,
    /// Its data directory, links followed.
    pub data: Option<String>,
    /// Whether its data can be renamed to where the provider would have it.
    pub movable: bool,
    /// Folders above it that another user can't pass through, and that are not the member's to open.
    pub closed: Vec<String>,
    /// Units that are active, and would be stopped with the service or start it again.
    pub tied: Vec<String>,
    /// Whether the service of this provider's runs it.
    pub ours: bool,
}

/// Looks at what runs under `service`, or under the service that this provider would run it by.
///
/// # Errors
/// If the script can't run.
pub async fn look(host: &Host, cluster: &str, service: &str) -> Result<Sight, RunError> {
    let script = Script::new("looking at the member's former service")
        .set("cluster", cluster)
        .set("former", service)
        .line(PRIVILEGE)
        .line(program::SCRIPT)
        .line(include_str!("process_file.sh"))
        .line(include_str!("former.sh"));
    let mut sight = sight(&host.run_checked(&script).await?);
    let (Ok(options), Some(_)) = (sight.started_with.options(), &sight.executable) else {
        return Ok(sight);
    };
    let name = options.get("name").map_or("default", String::as_str);
    let data = options
        .get("data-dir")
        .cloned()
        .unwrap_or_else(|| format!("{name}.etcd"));
    let script = Script::new("looking at the member's data directory")
        .set("cluster", cluster)
        .set("former", service)
        .set("data", data)
        .line(include_str!("former_data.sh"));
    let output = host.run_checked(&script).await?;
    sight.data = output.value("data").map(str::to_owned);
    sight.movable = output.value("movable").is_some();
    sight.closed = output.values("closed").map(str::to_owned).collect();
    Ok(sight)
}

fn sight(output: &Output) -> Sight {
    let text = |key: &str| output.value(key).filter(|text| !text.is_empty()).map(str::to_owned);
    let decoded = |key: &str| output.text(key).map(str::to_owned);
    let lines = |key: &str| decoded(key).map(|text| text.lines().map(str::to_owned).collect());
    Sight {
        token: text("token"),
        loaded: output.value("load") == Some("loaded"),
        process: text("process"),
        executable: text("executable"),
        version: text("version").unwrap_or_default(),
        started_with: StartedWith {
            arguments: lines("arguments").unwrap_or_default(),
            environment: lines("environment").unwrap_or_default(),
            file: decoded("file"),
        },
        data: None,
        movable: false,
        closed: Vec::new(),
        tied: output.values("tied").map(str::to_owned).collect(),
        ours: output.value("ours").is_some(),
    }
}

impl Sight {
    /// The member, if it can be taken over: a list of what stands in the way, else.
    ///
    /// # Errors
    /// All obstacles, in words.
    pub fn member(&self, service: &str, server: &ServerModel) -> Result<(Former, Version), Vec<String>> {
        if !self.loaded && !self.ours {
            return Err(vec![format!("there is no service {service}")]);
        }
        let Some(executable) = &self.executable else {
            return Err(vec![format!("the service {service} does not run")]);
        };
        if self.version.is_empty() {
            let problem = format!("the service {service} runs {executable}, which does not say that it is etcd");
            return Err(vec![problem]);
        }
        let version = Version::parse(&self.version).map_err(|error| vec![error.to_string()])?;
        let options = self
            .started_with
            .options()
            .map_err(|error| vec![format!("its configuration file is no YAML ({error})")])?;
        let former = Former::of(&options, &version)
            .map_err(|obstacles| obstacles.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let mut obstacles = misplaced(&former, server);
        if !self.ours && !self.tied.is_empty() {
            obstacles.push(format!(
                "{service} can't be stopped alone: {} would be stopped with it, or start it again (RequiredBy, BoundBy, ConsistsOf or \
                 TriggeredBy in `systemctl show {service}`). Untie them first, as with Wants in place of Requires",
                self.tied.join(", ")
            ));
        }
        if obstacles.is_empty() {
            Ok((former, version))
        } else {
            Err(obstacles)
        }
    }
}

impl Sight {
    /// Where its data is to be: where it is, or where the provider would have it. In words why neither will do.
    ///
    /// # Errors
    /// If it can't stay and can't be renamed.
    pub fn data_dir(&self, cluster: &ClusterName) -> Result<String, String> {
        let data = self
            .data
            .as_deref()
            .ok_or("its data directory holds no write-ahead log")?;
        let why = match (Layout::new(cluster, Some(data)), self.closed.first()) {
            (Ok(layout), None) => return Ok(layout.data_dir().to_string()),
            (Err(error), _) => error.to_string(),
            (Ok(_), Some(closed)) => format!("{data:?} is below {closed}, which no other user may pass through"),
        };
        if self.movable {
            return Ok(format!("/var/lib/etcd/{cluster}"));
        }
        Err(format!(
            "its data can't stay where it is ({why}), and can't be renamed to /var/lib/etcd/{cluster}, which is on another file system \
             or holds something already. Move it by hand first, with that member stopped"
        ))
    }
}

/// Where it listens that the provider would not look for it, or have it listen.
fn misplaced(former: &Former, server: &ServerModel) -> Vec<String> {
    let addresses: Vec<IpAddr> = server.private_address.parse().into_iter().collect();
    let mut obstacles = Vec::new();
    for (what, urls, port, attribute) in [
        ("peers", &former.listen_peer, server.peer_port, "peer_port"),
        ("clients", &former.listen_client, server.client_port, "client_port"),
    ] {
        let ports: Vec<String> = urls.iter().map(|url| url.port.to_string()).collect();
        if !urls.iter().any(|url| url.port == port) {
            obstacles.push(format!(
                "it listens for {what} on port {}, and the server's {attribute} is {port}",
                ports.join(", ")
            ));
        } else if !urls.iter().any(|url| url.port == port && url.takes(&addresses)) {
            obstacles.push(format!(
                "it listens for {what} neither on the server's private_address {} nor on its loopback, so it can't be reached \
                 through the server itself",
                server.private_address
            ));
        }
    }
    obstacles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight() -> Sight {
        let words = "etcd --name n1 --data-dir /srv/etcd --listen-peer-urls http://10.0.0.11:2380 \
                     --listen-client-urls http://10.0.0.11:2379";
        Sight {
            loaded: true,
            executable: Some("/usr/bin/etcd".into()),
            version: "3.5.30".into(),
            started_with: StartedWith {
                arguments: words.split_whitespace().map(str::to_owned).collect(),
                ..StartedWith::default()
            },
            data: Some("/srv/etcd".into()),
            ..Sight::default()
        }
    }

    fn server() -> ServerModel {
        ServerModel {
            name: "a1".into(),
            network: "a".into(),
            private_address: "10.0.0.11".into(),
            public_address: None,
            egress_addresses: None,
            peer_port: 2380,
            client_port: 2379,
            ssh: None,
            host_key: None,
            bastion_host_key: None,
        }
    }

    fn said(sight: &Sight, server: &ServerModel) -> String {
        sight.member("etcd.service", server).unwrap_err().join("; ")
    }

    #[test]
    fn what_a_server_shows_is_a_member_or_says_why_not() {
        let (former, version) = sight().member("etcd.service", &server()).unwrap();
        assert!(!former.tls && version.to_string() == "3.5.30");
        let none = Sight::default();
        assert_eq!(said(&none, &server()), "there is no service etcd.service");
        let stopped = Sight { loaded: true, ..none };
        assert_eq!(said(&stopped, &server()), "the service etcd.service does not run");
        let other = Sight {
            version: String::new(),
            ..sight()
        };
        assert!(said(&other, &server()).contains("runs /usr/bin/etcd, which does not say that it is etcd"));
        let old = Sight {
            version: "3.3.27".into(),
            ..sight()
        };
        assert!(said(&old, &server()).contains("too old"));
        let tied = Sight {
            tied: vec!["kube-apiserver.service".into()],
            ..sight()
        };
        assert!(said(&tied, &server()).contains("kube-apiserver.service would be stopped with it"));
        let elsewhere = ServerModel {
            client_port: 4001,
            private_address: "10.0.0.12".into(),
            ..server()
        };
        let said = said(&sight(), &elsewhere);
        assert!(
            said.contains("for clients on port 2379, and the server's client_port is 4001"),
            "{said}"
        );
        assert!(
            said.contains("for peers neither on the server's private_address 10.0.0.12"),
            "{said}"
        );
    }

    #[test]
    fn data_stays_or_is_renamed_or_neither_in_words() {
        let cluster = ClusterName::parse("main").unwrap();
        assert_eq!(sight().data_dir(&cluster).as_deref(), Ok("/srv/etcd"));
        let shared = Sight {
            data: Some("/var/lib/etcd".into()),
            ..sight()
        };
        assert!(
            shared
                .data_dir(&cluster)
                .unwrap_err()
                .contains("the system uses this folder")
        );
        let movable = Sight {
            movable: true,
            ..shared
        };
        assert_eq!(movable.data_dir(&cluster).as_deref(), Ok("/var/lib/etcd/main"));
        let closed = Sight {
            closed: vec!["/srv".into()],
            ..sight()
        };
        assert!(
            closed
                .data_dir(&cluster)
                .unwrap_err()
                .contains("below /srv, which no other user")
        );
        let lost = Sight { data: None, ..sight() };
        assert!(lost.data_dir(&cluster).unwrap_err().contains("no write-ahead log"));
    }
}
