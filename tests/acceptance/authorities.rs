//! Certificate authorities of the user's own, and no TLS at all.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::complaint::Complaint;
use crate::configuration::{Configuration, quoted};
use crate::fingerprint::Fingerprint;
use crate::outside::{eventually, heard_from, one_cluster};
use crate::prefix;
use crate::terraform::{OPENTOFU, Terraform};

const HOSTS: [&str; 2] = ["a1", "b1"];

/// Makes the authorities `peer` and `client`, a `.crt` and a `.key` each, in the folder.
pub fn make_authorities(folder: &Path) -> Result<()> {
    for name in ["peer", "client"] {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args([
                "-nodes",
                "-days",
                "30",
                "-subj",
                &format!("/CN={name} authority of ours"),
            ])
            .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
            .arg("-keyout")
            .arg(folder.join(format!("{name}.key")))
            .arg("-out")
            .arg(folder.join(format!("{name}.crt")))
            .output()?;
        ensure!(
            made.status.success(),
            "openssl: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
    Ok(())
}

/// Forms the cluster, wants its members to hold to the authorities in Terraform's folder, and destroys it.
fn forms(lab: &Lab, terraform: &Terraform, before: &Fingerprint) -> Result<()> {
    terraform.apply()?;
    one_cluster(lab, &HOSTS)?;
    terraform.nothing_to_do()?;
    let state = fs::read_to_string(terraform.work().join("terraform.tfstate"))?;
    for authority in ["peer", "client"] {
        let certificate = fs::read_to_string(terraform.work().join(format!("{authority}.crt")))?;
        let key = fs::read_to_string(terraform.work().join(format!("{authority}.key")))?;
        let middle = key.lines().nth(1).context("a key of one line")?;
        ensure!(
            !state.contains(middle),
            "the key of the {authority} authority is in the state"
        );
        for host in HOSTS {
            let there = lab.read_file(host, &format!("/etc/etcd/main/pki/{authority}-ca.crt"))?;
            ensure!(
                there.trim() == certificate.trim(),
                "{host} trusts another {authority} authority"
            );
            let found = lab.exec(
                host,
                &format!("grep -rlF {} /etc /var/lib/etcd /run /tmp", quoted(middle)),
            )?;
            ensure!(
                found.stdout.is_empty(),
                "the authority's key is on {host}: {}",
                found.stdout
            );
        }
    }
    ensure!(!state.contains("PRIVATE KEY"), "a private key is in the state");
    terraform.destroy()?;
    before.unchanged(lab)
}

#[test]
fn authorities_of_the_users_own() -> Result<()> {
    of_the_users_own("authorities", "1.15")
}

#[test]
fn authorities_of_the_users_own_with_opentofu() -> Result<()> {
    of_the_users_own("authorities-tofu", OPENTOFU)
}

fn of_the_users_own(test: &str, terraform: &str) -> Result<()> {
    let lab = Builder::standard(&prefix(test)).only(&HOSTS).up()?;
    let before = Fingerprint::take(&lab)?;
    let terraform = Terraform::new(&lab, terraform)?;
    make_authorities(&terraform.work())?;
    let base = Configuration::new(&lab, &HOSTS, "3.6.16")?
        .member("on_destroy", quoted("delete_data"))
        .cluster(
            "tls",
            "{\n    peer_ca_certificate = file(\"peer.crt\")\n    client_ca_certificate = file(\"client.crt\")\n  }",
        );

    // No key at all: the members can't be given certificates, and that is said before etcd is touched.
    terraform.configure(&base.render())?;
    Complaint::expect(
        &terraform.complaints()?,
        "etcd_member.this[\"a1\"]",
        "cluster",
        &["authority", "certificate_authorities", "_wo"],
    )?;

    let keys = "{ main = { peer_private_key = file(\"peer.key\"), client_private_key = file(\"client.key\") } }";
    terraform.write(
        "main.tf",
        &base.clone().provider("certificate_authorities", keys).render(),
    )?;
    forms(&lab, &terraform, &before).context("keys given to the provider")?;

    let members = base
        .member("peer_ca_private_key_wo", "file(\"peer.key\")")
        .member("client_ca_private_key_wo", "file(\"client.key\")");
    terraform.write("main.tf", &members.render())?;
    forms(&lab, &terraform, &before).context("keys given to the members")
}

#[test]
fn without_tls() -> Result<()> {
    let lab = Builder::standard(&prefix("no-tls")).only(&HOSTS).up()?;
    let before = Fingerprint::take(&lab)?;
    let terraform = Terraform::new(&lab, "1.11")?;
    let configuration = Configuration::new(&lab, &HOSTS, "3.6.16")?
        .member("on_destroy", quoted("delete_data"))
        .cluster("tls", "{ enabled = false }");
    terraform.configure(&configuration.render())?;
    let said = terraform.apply()?;
    ensure!(said.contains("without TLS"), "no warning in:\n{said}");
    one_cluster(&lab, &HOSTS)?;
    for host in HOSTS {
        eventually(&format!("{host} hears from its peer"), || {
            Ok(heard_from(&lab, host)?.len() == 1)
        })?;
        let text = lab.read_file(host, "/etc/etcd/main/etcd.yaml")?;
        ensure!(!text.contains("https://"), "{host}:\n{text}");
        // Without TLS never on all addresses.
        let listening = lab.exec(host, "ss -Hltn 'sport = :2379' | awk '{print $4}'")?.stdout;
        ensure!(
            !["0.0.0.0:", "*:", "[::]:"].iter().any(|all| listening.contains(all)),
            "{host} listens on {listening}"
        );
    }
    terraform.nothing_to_do()?;
    terraform.destroy()?;
    before.unchanged(&lab)
}
