//! `etcd_server`: facts, and wrong input that is told before anything is done.

use anyhow::Result;
use etcd_lab::{Builder, Lab, PASSWORD};

use crate::configuration::{Configuration, quoted};
use crate::terraform::{Terraform, VERSIONS};

fn servers(lab: &Lab, hosts: &[&str]) -> Result<Configuration> {
    Ok(Configuration::new(lab, hosts, "3.6.16")?.only_servers())
}

#[test]
fn facts_are_learned_and_nothing_is_touched() -> Result<()> {
    let lab = Builder::standard("server").only(&["a1", "b1", "c1"]).up()?;
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
fn users_with_and_without_sudo() -> Result<()> {
    let lab = Builder::standard("sudo").only(&["a1"]).up()?;
    let try_as = |user: &str, sudo: Option<&str>| -> Result<Terraform> {
        let mut configuration =
            servers(&lab, &["a1"])?
                .ssh("user", quoted(user))
                .server("a1", "timeouts", "{ create = \"5s\" }");
        if let Some(password) = sudo {
            configuration = configuration.ssh("sudo", format!("{{ password = {} }}", quoted(password)));
        }
        let terraform = Terraform::new(&lab, "1.11")?;
        terraform.configure(&configuration.render())?;
        Ok(terraform)
    };
    try_as("root", None)?.apply()?;
    try_as("admin", None)?.apply()?;
    try_as("ops", Some(PASSWORD))?.apply()?;
    for (user, password) in [("ops", None), ("ops", Some("wrong")), ("guest", Some(PASSWORD))] {
        let said = try_as(user, password)?.apply_fails()?;
        assert!(said.contains("a1") && said.contains("sudo"), "{user}: {said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
    Ok(())
}

#[test]
fn a_server_that_is_not_what_was_said() -> Result<()> {
    let lab = Builder::standard("wrong").only(&["a1"]).up()?;
    let refused = |change: &dyn Fn(Configuration) -> Configuration| -> Result<String> {
        let terraform = Terraform::new(&lab, "1.15")?;
        let configuration = servers(&lab, &["a1"])?.server("a1", "timeouts", "{ create = \"5s\" }");
        terraform.configure(&change(configuration).render())?;
        terraform.apply_fails()
    };
    let elsewhere = refused(&|c| c.server("a1", "private_address", quoted("10.0.0.99")))?;
    assert!(
        elsewhere.contains("10.0.0.99") && elsewhere.contains("private_address"),
        "{elsewhere}"
    );
    let unreachable = refused(&|c| c.server("a1", "public_address", quoted("203.0.113.99")))?;
    assert!(unreachable.contains("203.0.113.99"), "{unreachable}");

    lab.change_host_key("a1")?;
    let changed = refused(&|c| c)?;
    assert_eq!(changed.matches("SHA256:").count(), 2, "both fingerprints: {changed}");
    Ok(())
}
