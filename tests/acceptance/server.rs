//! `etcd_server`: facts, and wrong input that is told before anything is done.

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, HostSpec, Lab, PASSWORD, Site};

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

#[test]
fn the_first_key_of_a_bastion_is_pinned_and_a_revoked_key_is_refused() -> Result<()> {
    let lab = Builder::new(&prefix("bastion-pin"))
        .site(Site::new("A", [10, 0, 0, 1], 24, [203, 0, 113, 10]))
        .host(HostSpec::new("door", "A", [10, 0, 0, 2]).one_to_one([203, 0, 113, 12]))
        .host(HostSpec::new("i1", "A", [10, 0, 0, 11]).forwarded(&[(2380, 2380)]))
        .up()?;
    let known_hosts = lab.known_hosts_file().with_file_name("own-known");
    let behind = |more: &str| format!("{{ host = \"10.0.0.11\", bastion = {{ host = \"203.0.113.12\"{more} }} }}");
    let configuration = servers(&lab, &["i1"])?
        .ssh("host_key_checking", quoted("accept_new"))
        .ssh("known_hosts_file", quoted(&known_hosts.display().to_string()))
        .server("i1", "ssh", behind(""));
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;
    let pinned = || -> Result<String> {
        let server = terraform.attributes("etcd_server.i1")?;
        Ok(server["bastion_host_key"].as_str().unwrap_or_default().to_owned())
    };
    let first = format!("203.0.113.12 {}", lab.host_key("door")?);
    ensure!(pinned()? == first, "{} is pinned", pinned()?);
    terraform.nothing_to_do()?;

    // Another machine at the bastion's place: refused before anything is offered to it.
    lab.change_host_key("door")?;
    let changed = configuration.clone().server("i1", "client_port", "2378");
    terraform.write("main.tf", &changed.render())?;
    let words = ["i1", "its bastion", "HAS CHANGED", "it showed SHA256:"];
    Complaint::expect(&terraform.complaints()?, "etcd_server.i1", "ssh", &words)?;
    ensure!(pinned()? == first, "the new key was pinned");

    // The new key is said to be right, once.
    let second = lab.host_key("door")?;
    let said = behind(&format!(", host_key = {}", quoted(&second)));
    terraform.write("main.tf", &changed.clone().server("i1", "ssh", said).render())?;
    terraform.apply()?;
    ensure!(pinned()? == format!("203.0.113.12 {second}"), "{} is pinned", pinned()?);
    terraform.nothing_to_do()?;
    terraform.write("main.tf", &changed.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;

    // The keys that the state has pinned are revoked.
    let again = changed.server("i1", "client_port", "2377");
    terraform.write("main.tf", &again.render())?;
    for key in [lab.host_key("i1")?, second] {
        std::fs::write(&known_hosts, format!("# lost\n@revoked * {key}\n"))?;
        let place = format!("{}:2", known_hosts.display());
        let words = ["marked as revoked", &place];
        Complaint::expect(&terraform.complaints()?, "etcd_server.i1", "ssh", &words)?;
    }
    std::fs::write(&known_hosts, "@revoked * nonsense\n")?;
    let words = ["may revoke a host key and can't be read", "own-known:1"];
    Complaint::expect(&terraform.complaints()?, "etcd_server.i1", "ssh", &words)?;
    std::fs::remove_file(&known_hosts)?;
    terraform.apply()?;
    Ok(())
}

#[test]
fn a_line_about_a_server_that_cannot_be_used_is_told() -> Result<()> {
    let lab = Builder::standard(&prefix("unused-line")).only(&["a1"]).up()?;
    let known_hosts = lab.known_hosts_file().with_file_name("own-known");
    std::fs::write(&known_hosts, format!("@cert-authority * {}\n", lab.host_key("a1")?))?;
    let configuration = servers(&lab, &["a1"])?.ssh("known_hosts_file", quoted(&known_hosts.display().to_string()));
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&configuration.clone().server("a1", "ssh", "{}").render())?;
    let words = ["is not known", "own-known:1", "host certificates can't be checked"];
    Complaint::expect(&terraform.complaints()?, "etcd_server.a1", "ssh", &words)?;
    terraform.write(
        "main.tf",
        &configuration.ssh("host_key_checking", quoted("accept_new")).render(),
    )?;
    let said = terraform.apply()?;
    ensure!(
        said.contains("The host key of server a1 was not checked") && said.contains("own-known:1"),
        "{said}"
    );
    let said = terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    ensure!(!said.contains("was not checked"), "it is pinned by now: {said}");
    Ok(())
}
