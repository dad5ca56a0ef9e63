//! `etcd_server`: facts, and wrong input that is told before anything is done.

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab, PASSWORD};

use crate::complaint::Complaint;
use crate::configuration::{Configuration, quoted};
use crate::prefix;
use crate::terraform::{Terraform, VERSIONS};

fn servers(lab: &Lab, hosts: &[&str]) -> Result<Configuration> {
    Ok(Configuration::new(lab, hosts, "3.6.16")?.only_servers())
}

#[test]
fn facts_are_learned_and_nothing_is_touched() -> Result<()> {
    let lab = Builder::standard(&prefix("server")).only(&["a1", "b1", "c1"]).up()?;
    for version in VERSIONS {
        let terraform = Terraform::new(&lab, version)?;
        terraform.configure(&servers(&lab, &["a1", "b1", "c1"])?.render())?;
        terraform.apply()?;
        let a1 = terraform.attributes("etcd_server.a1")?;
        assert_eq!(a1["os"], "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(a1["init_system"], "systemd");
        assert_eq!(a1["host_key"].as_str(), Some(lab.host_key("a1")?.as_str()));
        terraform.nothing_to_do()?;
        terraform.destroy()?;
    }
    Ok(())
}

#[test]
fn every_way_in() -> Result<()> {
    let lab = Builder::standard(&prefix("ways")).only(&["a1"]).up()?;
    let by_key = |user: &str| -> Result<Configuration> { Ok(servers(&lab, &["a1"])?.ssh("user", quoted(user))) };
    let by_password = |user: &str| -> Result<Configuration> {
        let mut configuration = by_key(user)?.ssh("password", quoted(PASSWORD));
        configuration.ssh.remove("private_key_file");
        Ok(configuration)
    };
    let sudo = format!("{{ password = {} }}", quoted(PASSWORD));
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(&by_key("root")?.render())?;
    for (what, configuration) in [
        ("root", by_key("root")?),
        ("sudo without a password", by_key("admin")?),
        ("sudo with a password of its own", by_key("ops")?.ssh("sudo", sudo)),
        ("sudo with the password that opens SSH too", by_password("ops")?),
    ] {
        terraform.forget()?;
        terraform.write("main.tf", &configuration.render())?;
        terraform.apply().context(what)?;
    }
    Ok(())
}

#[test]
fn the_first_host_key_is_pinned() -> Result<()> {
    let lab = Builder::standard(&prefix("accept-new")).only(&["a1"]).up()?;
    let mut configuration = servers(&lab, &["a1"])?
        .ssh("host_key_checking", quoted("accept_new"))
        .server("a1", "ssh", "{}");
    let nothing_known = lab.known_hosts_file().with_file_name("nothing-known");
    configuration
        .ssh
        .insert("known_hosts_file".into(), quoted(&nothing_known.display().to_string()));
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;
    let first = lab.host_key("a1")?;
    ensure!(terraform.attributes("etcd_server.a1")?["host_key"] == first.as_str());
    terraform.nothing_to_do()?;

    lab.change_host_key("a1")?;
    terraform.write("main.tf", &configuration.server("a1", "client_port", "2378").render())?;
    Complaint::expect(
        &terraform.complaints()?,
        "etcd_server.a1",
        "ssh",
        &["a1", "HAS CHANGED", "expected SHA256:", "it showed SHA256:"],
    )?;
    ensure!(
        terraform.attributes("etcd_server.a1")?["host_key"] == first.as_str(),
        "the new key was pinned"
    );
    Ok(())
}
