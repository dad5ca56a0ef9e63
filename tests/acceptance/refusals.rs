//! Wrong input: each with the right words on the right attribute, and nothing changed on any server.

use std::process::Stdio;

use anyhow::{Context, Result};
use etcd_lab::{Builder, HostSpec, Lab, PASSWORD};

use crate::complaint::Complaint;
use crate::configuration::{Configuration, quoted};
use crate::fingerprint::Fingerprint;
use crate::outside::eventually;
use crate::prefix;
use crate::terraform::{OPENTOFU, Terraform};

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
const CLUSTER: &str = "etcd_cluster.main";

/// Configurations of one lab that are to be refused.
pub struct Wrong<'a> {
    lab: &'a Lab,
    /// Where they are applied.
    pub terraform: Terraform<'a>,
}

impl<'a> Wrong<'a> {
    /// With a configuration that is good.
    pub fn new(lab: &'a Lab, terraform: &str, good: &Configuration) -> Result<Self> {
        let terraform = Terraform::new(lab, terraform)?;
        terraform.configure(&good.render())?;
        Ok(Self { lab, terraform })
    }

    /// Applies from an empty state, wants an error with the words on the attribute of the block at `address`, and the hosts as
    /// they were.
    pub fn refused(
        &self,
        what: &str,
        configuration: &Configuration,
        address: &str,
        attribute: &str,
        words: &[&str],
    ) -> Result<()> {
        let refused = || {
            let before = Fingerprint::take(self.lab)?;
            self.terraform.forget()?;
            self.terraform.write("main.tf", &configuration.render())?;
            let complaints = self.terraform.complaints()?;
            Complaint::expect(&complaints, address, attribute, words)?;
            before.unchanged(self.lab)
        };
        refused().with_context(|| what.to_owned())
    }
}

/// All servers with little patience, and an `ssh` that an error about the connection can point to.
fn impatient(lab: &Lab) -> Result<Configuration> {
    HOSTS
        .iter()
        .try_fold(Configuration::new(lab, &HOSTS, "3.6.16")?, |all, host| {
            let own = format!("{{ port = {} }}", lab.ssh_port(host)?);
            Ok(all
                .server(host, "ssh", own)
                .server(host, "timeouts", "{ create = \"15s\" }"))
        })
}

#[test]
fn what_the_configuration_gets_wrong() -> Result<()> {
    let lab = Builder::standard(&prefix("wrong-plan")).only(&HOSTS).up()?;
    let good = Configuration::new(&lab, &HOSTS, "3.6.16")?;
    let wrong = Wrong::new(&lab, "1.11", &good)?;
    let member = "etcd_member.this";
    wrong.refused(
        "two servers of one name",
        &good.clone().server("b1", "name", quoted("a1")),
        CLUSTER,
        "servers",
        &["2 servers are named a1"],
    )?;
    wrong.refused(
        "two that look the same from a third",
        &good.clone().server("b1", "public_address", quoted("203.0.113.11")),
        CLUSTER,
        "servers",
        &["from c1", "a1", "b1", "203.0.113.11"],
    )?;
    wrong.refused(
        "no public address",
        &good
            .clone()
            .without("b1", "public_address")
            .server("b1", "ssh", "{ host = \"203.0.113.21\" }"),
        CLUSTER,
        "servers",
        &["b1", "public_address"],
    )?;
    wrong.refused(
        "an address that is none",
        &good.clone().server("b1", "private_address", quoted("10.0.0.300")),
        "etcd_server.b1",
        "private_address",
        &["10.0.0.300"],
    )?;
    wrong.refused(
        "etcd too old",
        &good.clone().member("version", quoted("3.3.27")),
        member,
        "version",
        &["3.3.27", "3.4"],
    )?;
    wrong.refused(
        "an option that is ours",
        &good.clone().member("config", "{ \"initial-cluster\" = \"x\" }"),
        member,
        "config",
        &["initial-cluster", "servers"],
    )?;
    wrong.refused(
        "an option that is none",
        &good.clone().member("config", "{ \"no-such-option\" = \"x\" }"),
        member,
        "config",
        &["no-such-option"],
    )?;
    wrong.refused(
        "a checksum that is none",
        &good.clone().member(
            "binary",
            "{ url = \"http://203.0.113.100/etcd.tar.gz\", sha256 = \"12\" }",
        ),
        member,
        "binary",
        &["\"12\"", "SHA-256", "64"],
    )
}

#[test]
fn what_a_server_is_not() -> Result<()> {
    let lab = Builder::standard(&prefix("wrong-server"))
        .only(&HOSTS)
        .host(
            HostSpec::new("bare", "A", [10, 0, 0, 4])
                .one_to_one([203, 0, 113, 14])
                .ssh_only(),
        )
        .up()?;
    let good = impatient(&lab)?;
    let wrong = Wrong::new(&lab, OPENTOFU, &good)?;
    wrong.refused(
        "an address that is not on the machine",
        &good.clone().server("b1", "private_address", quoted("10.0.0.99")),
        "etcd_server.b1",
        "private_address",
        &["b1", "10.0.0.99", "10.0.0.11"],
    )?;
    wrong.refused(
        "a host that is not there",
        &good.clone().server("b1", "public_address", quoted("203.0.113.99")),
        "etcd_server.b1",
        "ssh",
        &["b1", "203.0.113.99"],
    )?;
    let stranger = tempfile::tempdir()?;
    let key = stranger.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()?;
    anyhow::ensure!(made.success(), "ssh-keygen: {made}");
    wrong.refused(
        "a key that opens nothing",
        &good.clone().ssh("private_key_file", quoted(&key.display().to_string())),
        "etcd_server.a1",
        "ssh",
        &["admin@203.0.113.11", "authentication failed", "publickey"],
    )?;
    for (what, user, password, word) in [
        (
            "no sudo rights",
            "guest",
            Some(PASSWORD),
            "sudo doesn't let the user become root",
        ),
        (
            "a wrong sudo password",
            "ops",
            Some("wrong"),
            "sudo did not accept the password",
        ),
        ("no sudo password", "ops", None, "sudo asks for a password"),
    ] {
        let mut configuration = good.clone().ssh("user", quoted(user));
        if let Some(password) = password {
            configuration = configuration.ssh("sudo", format!("{{ password = {} }}", quoted(password)));
        }
        wrong.refused(
            what,
            &configuration,
            "etcd_server.a1",
            "ssh",
            &[&format!("{user}@"), word],
        )?;
    }
    let bare = Configuration::new(&lab, &["bare"], "3.6.16")?;
    wrong.refused(
        "no systemd",
        &bare,
        "etcd_server.bare",
        "resource",
        &["bare", "systemd"],
    )?;
    lab.change_host_key("b1")?;
    wrong.refused(
        "a changed host key",
        &good,
        "etcd_server.b1",
        "ssh",
        &["b1", "HAS CHANGED", "expected SHA256:", "it showed SHA256:"],
    )
}

#[test]
fn what_stands_in_the_way() -> Result<()> {
    let lab = Builder::standard(&prefix("wrong-host")).only(&HOSTS).up()?;
    let good = impatient(&lab)?;
    let wrong = Wrong::new(&lab, "1.15", &good)?;

    let mut listener = lab
        .command_on("b1", "nc")?
        .args(["-l", "-k", "-p", "2380"])
        .stdin(Stdio::null())
        .spawn()?;
    eventually("nc listens", || {
        Ok(!lab.exec("b1", "ss -Hltn 'sport = :2380'")?.stdout.is_empty())
    })?;
    wrong.refused("a port that is taken", &good, CLUSTER, "servers", &["b1", "2380", "nc"])?;
    lab.exec("b1", "pkill -x nc")?;
    listener.wait()?;

    lab.write_file("c1", "/var/lib/etcd/main/member/wal/0.wal", b"somebody else's")?;
    wrong.refused("foreign data", &good, CLUSTER, "servers", &["c1", "/var/lib/etcd/main"])?;
    lab.exec("c1", "rm -r /var/lib/etcd")?.ok()?;

    // A server that is there when it is looked at, and gone when the cluster is to be founded.
    lab.power_off("b1")?;
    wrong.refused(
        "a server that is down",
        &good,
        "etcd_server.b1",
        "ssh",
        &["b1", "203.0.113.21"],
    )
}
