//! A cluster whose state is gone is taken over again, and nothing on any server changes for it.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};
use serde_json::Value;

use crate::configuration::{Configuration, quoted};
use crate::fingerprint::Fingerprint;
use crate::outside::one_cluster;
use crate::prefix;
use crate::terraform::Terraform;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
const ETCD: &str = "3.6.16";

/// The servers by name, as an import wants to have them, in HCL.
fn servers(lab: &Lab) -> Result<String> {
    let mut text = String::from("{\n");
    for host in HOSTS {
        let public = lab.public_address(host)?.context("no public address")?;
        let (network, private) = (lab.spec().site_of(host)?, lab.private_address(host)?);
        let _ = writeln!(
            text,
            "  {host} = {{ network = \"{network}\", private_address = \"{private}\", public_address = \"{public}\" }}"
        );
    }
    Ok(text + "}")
}

/// Import blocks for everything, by what `of` says of a block: its type, its name, and the place in HCL.
fn imports(lab: &Lab, member: &str, of: fn(&str, &str) -> String) -> Result<String> {
    let mut text = format!("locals {{\n  servers = {}\n}}\n", servers(lab)?);
    for host in HOSTS {
        let _ = writeln!(
            text,
            "import {{\n  to = etcd_server.{host}\n  {}\n}}",
            of("server", host)
        );
        let _ = writeln!(
            text,
            "import {{\n  to = {member}[{host:?}]\n  {}\n}}",
            of("member", host)
        );
    }
    let _ = writeln!(text, "import {{\n  to = etcd_cluster.main\n  {}\n}}", of("cluster", ""));
    Ok(text)
}

fn by_id(kind: &str, host: &str) -> String {
    match kind {
        "server" => format!("id = jsonencode(merge({{ name = {host:?} }}, local.servers.{host}))"),
        "cluster" => "id = jsonencode({ name = \"main\", servers = local.servers })".to_owned(),
        _ => format!("id = jsonencode({{ cluster = \"main\", server = {host:?}, servers = local.servers }})"),
    }
}

fn by_identity(kind: &str, host: &str) -> String {
    match kind {
        "server" => format!("identity = merge({{ name = {host:?} }}, local.servers.{host})"),
        "cluster" => "identity = { name = \"main\", servers = jsonencode(local.servers) }".to_owned(),
        _ => format!("identity = {{ cluster = \"main\", server = {host:?}, servers = jsonencode(local.servers) }}"),
    }
}

/// The private keys of the authorities, as the state has them, in the form that the provider takes.
fn keys(terraform: &Terraform) -> Result<String> {
    let authorities = terraform.attributes("etcd_cluster.main")?["certificate_authorities"].take();
    let key = |kind: &str| {
        let key: &Value = &authorities[kind]["private_key"];
        Ok::<_, anyhow::Error>(quoted(key.as_str().with_context(|| format!("no key for {kind}s"))?))
    };
    Ok(format!(
        "{{ main = {{ peer_private_key = {}, client_private_key = {} }} }}",
        key("peer")?,
        key("client")?
    ))
}

#[test]
fn a_cluster_whose_state_is_gone_is_taken_over() -> Result<()> {
    let lab = Builder::standard(&prefix("adopt")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &HOSTS, ETCD)?
        .member(
            "config",
            "{ \"quota-backend-bytes\" = \"4294967296\", \"snapshot-count\" = \"20000\" }",
        )
        .cluster("heartbeat_interval", "150")
        .cluster("election_timeout", "1500");
    terraform.configure(&configuration.render())?;
    terraform.apply()?;
    let id = one_cluster(&lab, &HOSTS)?;
    let configuration = configuration.provider("certificate_authorities", keys(&terraform)?);
    let before = Fingerprint::take(&lab)?;

    // Another address in the configuration is no other member.
    let text = configuration
        .render()
        .replace("\"etcd_member\" \"this\"", "\"etcd_member\" \"main\"");
    let moved = "moved {\n  from = etcd_member.this\n  to = etcd_member.main\n}\n";
    terraform.write("main.tf", &(text.clone() + moved))?;
    let applied = terraform.apply()?;
    ensure!(applied.contains("0 added, 0 changed, 0 destroyed"), "{applied}");
    before.unchanged(&lab)?;

    for (what, of) in [
        ("by ID", by_id as fn(&str, &str) -> String),
        ("by identity", by_identity),
    ] {
        // Forgotten, and nothing else.
        let mut provider = configuration.clone().only_servers();
        provider.servers.clear();
        let blocks = [
            "etcd_member.main",
            "etcd_cluster.main",
            "etcd_server.a1",
            "etcd_server.b1",
            "etcd_server.c1",
        ];
        let removed =
            blocks.map(|from| format!("removed {{\n  from = {from}\n  lifecycle {{\n    destroy = false\n  }}\n}}\n"));
        terraform.write("main.tf", &(provider.render() + &removed.concat()))?;
        terraform.apply()?;
        ensure!(terraform.state()?["values"].is_null(), "{what}: {}", terraform.state()?);
        before.unchanged(&lab)?;

        terraform.write("main.tf", &(text.clone() + &imports(&lab, "etcd_member.main", of)?))?;
        let applied = terraform.apply().context(what)?;
        ensure!(
            applied.contains("7 imported, 0 added, 0 changed, 0 destroyed"),
            "{what}: {applied}"
        );
        terraform.write("main.tf", &text)?;
        terraform.nothing_to_do().context(what)?;
        before.unchanged(&lab)?;
    }

    // It is a cluster like any other from then on.
    lab.exec("b1", "systemctl stop etcd-main; rm /etc/etcd/main/pki/peer.crt")?
        .ok()?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    ensure!(one_cluster(&lab, &HOSTS)? == id, "it is another cluster");
    Ok(())
}

/// Without the keys, which were in the lost state alone, nothing is made anew behind anybody's back.
#[test]
fn without_the_keys_of_its_authorities_a_cluster_keeps_them() -> Result<()> {
    let lab = Builder::standard(&prefix("adopt-keys")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.11")?;
    let configuration = Configuration::new(&lab, &HOSTS, ETCD)?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;
    let before = Fingerprint::take(&lab)?;
    let keys = keys(&terraform)?;
    terraform.forget()?;

    let imports = imports(&lab, "etcd_member.this", by_id)?;
    terraform.write("main.tf", &(configuration.render() + &imports))?;
    let applied = terraform.apply()?;
    ensure!(
        applied.contains("7 imported, 0 added, 0 changed, 0 destroyed")
            && applied.contains("The private keys of the authorities of main are not known"),
        "{applied}"
    );
    terraform.nothing_to_do()?;
    before.unchanged(&lab)?;

    // What needs a certificate says so; with the keys it goes on.
    lab.exec("a1", "rm /etc/etcd/main/pki/server.crt")?.ok()?;
    let said = terraform.apply_fails()?;
    ensure!(
        said.contains("the private key of the authority for clients is needed"),
        "{said}"
    );
    let with_keys = configuration.provider("certificate_authorities", keys);
    terraform.write("main.tf", &with_keys.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &HOSTS)?;

    // What is not there, or not this cluster's, can't be taken over.
    terraform.forget()?;
    let stranger = imports.replace("\"main\"", "\"other\"");
    terraform.write("main.tf", &(with_keys.render() + &stranger))?;
    let said = terraform.apply_fails()?;
    ensure!(said.contains("this provider made no cluster \"other\" there"), "{said}");
    Ok(())
}
