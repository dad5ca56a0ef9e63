//! Wrong input, each with the right words, and nothing changed on any server.

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, HostSpec, Lab, Site};

use crate::configuration::{Configuration, quoted};
use crate::outside::leftovers;
use crate::terraform::Terraform;

/// Applies, wants it refused with every one of `words`, and nothing of ours on the hosts.
fn refused(lab: &Lab, configuration: &Configuration, words: &[&str]) -> Result<()> {
    let before: Vec<String> = lab
        .hosts()
        .iter()
        .map(|host| leftovers(lab, host))
        .collect::<Result<_>>()?;
    let terraform = Terraform::new(lab, "1.15")?;
    terraform.configure(&configuration.render())?;
    let said = terraform.apply_fails()?;
    for word in words {
        ensure!(said.contains(word), "no {word:?} in:\n{said}");
    }
    let after: Vec<String> = lab
        .hosts()
        .iter()
        .map(|host| leftovers(lab, host))
        .collect::<Result<_>>()?;
    ensure!(before == after, "something was left: {before:?} then {after:?}");
    // What was made (servers, for instance) must go away again. Where the plan was refused already there is nothing, and
    // Terraform would refuse to destroy with such a configuration, too.
    if terraform.run(&["state", "list"])?.stdout.is_empty() {
        return Ok(());
    }
    terraform.destroy().context("after the refusal").map(drop)
}

#[test]
fn what_the_configuration_gets_wrong() -> Result<()> {
    let hosts = ["a1", "b1", "c1"];
    let lab = Builder::standard("wrong-plan").only(&hosts).up()?;
    let good = Configuration::new(&lab, &hosts, "3.6.16")?;
    let check = |what: &str, configuration: Configuration, words: &[&str]| {
        refused(&lab, &configuration, words).context(what.to_owned())
    };
    check(
        "two servers of one name",
        good.clone().server("b1", "name", quoted("a1")),
        &["a1"],
    )?;
    check(
        "two that look the same",
        good.clone().server("b1", "public_address", quoted("203.0.113.11")),
        &["a1", "b1", "203.0.113.11"],
    )?;
    let nowhere = good
        .clone()
        .without("b1", "public_address")
        .server("b1", "ssh", "{ host = \"203.0.113.21\" }");
    check("no public address", nowhere, &["b1", "public_address"])?;
    check(
        "too old",
        good.clone().member("version", quoted("3.3.27")),
        &["3.3.27", "version"],
    )?;
    check(
        "an option of ours",
        good.clone().member("config", "{ \"initial-cluster\" = \"x\" }"),
        &["initial-cluster", "config"],
    )?;
    check(
        "an option that is none",
        good.member("config", "{ \"no-such-option\" = \"x\" }"),
        &["no-such-option"],
    )
}

#[test]
fn what_only_the_hosts_know() -> Result<()> {
    let hosts = ["a1", "b1", "c1"];
    let lab = Builder::standard("wrong-host").only(&hosts).up()?;
    let good = Configuration::new(&lab, &hosts, "3.6.16")?;
    let check = |what: &str, configuration: &Configuration, words: &[&str]| {
        refused(&lab, configuration, words).context(what.to_owned())
    };

    let mut listener = lab.command_on("b1", "nc")?;
    let mut listener = listener
        .args(["-l", "-k", "-p", "2380"])
        .stdin(std::process::Stdio::null())
        .spawn()?;
    check("port taken", &good, &["b1", "2380"])?;
    lab.exec("b1", "pkill -x nc")?;
    listener.wait()?;

    lab.write_file("c1", "/var/lib/etcd/main/member/wal/0.wal", b"somebody else's")?;
    check("foreign data", &good, &["c1", "/var/lib/etcd/main"])?;
    lab.exec("c1", "rm -r /var/lib/etcd")?.ok()?;

    lab.power_off("b1")?;
    let quick = ["a1", "b1", "c1"].iter().fold(good.clone(), |all, host| {
        all.server(host, "timeouts", "{ create = \"5s\" }")
    });
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&quick.render())?;
    let said = terraform.apply_fails()?;
    ensure!(said.contains("b1"), "{said}");
    for host in ["a1", "c1"] {
        ensure!(
            leftovers(&lab, host)?.is_empty(),
            "founded without b1: {}",
            leftovers(&lab, host)?
        );
    }
    Ok(())
}

#[test]
fn a_host_without_systemd() -> Result<()> {
    let lab = Builder::new("wrong-init")
        .site(Site::new("A", [10, 0, 0, 1], 24, [203, 0, 113, 10]))
        .host(
            HostSpec::new("bare", "A", [10, 0, 0, 4])
                .one_to_one([203, 0, 113, 12])
                .ssh_only(),
        )
        .up()?;
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(&Configuration::new(&lab, &["bare"], "3.6.16")?.render())?;
    let said = terraform.apply_fails()?;
    ensure!(said.contains("bare") && said.contains("systemd"), "{said}");
    Ok(())
}
