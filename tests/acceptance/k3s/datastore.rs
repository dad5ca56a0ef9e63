//! The other way: k3s without an etcd of its own, on one of `etcd_member`s.

use std::process::{Child, Stdio};

use sha2::{Digest as _, Sha256};

use super::*;

const HOSTS: [&str; 2] = ["a1", "b1"];

/// Serves the program to hosts that fetch it themselves.
struct WebServer {
    process: Child,
    url: String,
    sha256: String,
}

impl WebServer {
    fn start(lab: &Lab) -> Result<Self> {
        let program = program();
        let sha256 = format!("{:x}", Sha256::digest(std::fs::read(&program)?));
        let address = lab.controller_address();
        let folder = program.parent().context("the program is in no folder")?;
        let name = program
            .file_name()
            .context("the program has no name")?
            .to_string_lossy();
        let url = format!("http://{address}:8000/{name}");
        let process = lab
            .controller("python3")
            .args(["-m", "http.server", "--bind", &address.to_string(), "--directory"])
            .arg(folder)
            .arg("8000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the web server")?;
        let server = Self { process, url, sha256 };
        eventually("the web server answers", || {
            Ok(lab.exec(HOSTS[0], &format!("curl -sfI {}", server.url))?.success())
        })?;
        Ok(server)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn k3s_runs_on_members_of_an_etcd_cluster() -> Result<()> {
    let lab = lab("k3s-store", &HOSTS)?;
    let web = WebServer::start(&lab)?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let pki = "/etc/etcd/main/pki";
    let mut k3s = K3s::new(&lab, &HOSTS)?.cluster(
        "datastore",
        format!(
            "{{ endpoint = \"https://127.0.0.1:2379\", ca_file = \"{pki}/client-ca.crt\", cert_file = \"{pki}/server.crt\", key_file = \"{pki}/server.key\" }}"
        ),
    );
    k3s = k3s
        .cluster("token_wo", quoted("a-token-that-is-in-no-state"))
        .server("token_wo", quoted("a-token-that-is-in-no-state"))
        .server("depends_on", "[etcd_member.this]")
        .server(
            "install",
            format!(
                "{{\n    url = {}\n    sha256 = {}\n  }}",
                quoted(&web.url),
                quoted(&web.sha256)
            ),
        );
    k3s.more = format!(
        "resource \"etcd_cluster\" \"main\" {{\n  name = \"main\"\n  servers = {{ a1 = etcd_server.a1, b1 = etcd_server.b1 }}\n}}\n\
         resource \"etcd_member\" \"this\" {{\n  for_each = toset([\"a1\", \"b1\"])\n  cluster = etcd_cluster.main\n  server = each.key\n  version = \"{ETCD}\"\n  \
         binary = {{ host_path = \"/opt/etcd/{ETCD}\" }}\n}}\n"
    );
    terraform.configure(&k3s.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    for host in HOSTS {
        ensure!(lab.exec(host, "systemctl is-active k3s")?.success());
        ensure!(
            !lab.exec(host, "nft list table ip etcd_k3s_main")?.success(),
            "{host} translates"
        );
        ensure!(
            !lab.exec(host, "test -e /var/lib/rancher/k3s/server/db/etcd")?.success(),
            "{host} has an etcd of k3s' own"
        );
    }
    let state = std::fs::read_to_string(terraform.work().join("terraform.tfstate"))?;
    ensure!(
        !state.contains("a-token-that-is-in-no-state"),
        "the token is in the state"
    );
    // k3s' keys are in the cluster of the members.
    let keys = crate::outside::ctl(&lab, "b1", "get --prefix --keys-only --limit 20 /")?;
    ensure!(keys.contains("/bootstrap/") || keys.contains("/registry/"), "{keys}");
    terraform.destroy()?;
    for host in HOSTS {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "{host} has {left}");
    }
    Ok(())
}
