//! Somebody changes things on the servers: the plan shows exactly that, and one apply mends it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};
use serde_json::Value;

use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

const THREE: [&str; 3] = ["a1", "b1", "c1"];
const ETCD: &str = "3.6.16";

/// What a plan changes: attributes by resource, with what they are and what they are to be.
type Changes = BTreeMap<String, BTreeMap<String, (Value, Value)>>;

/// A cluster that somebody plays with.
struct Toy<'a> {
    lab: &'a Lab,
    terraform: Terraform<'a>,
}

impl<'a> Toy<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let terraform = Terraform::new(lab, "1.15")?;
        terraform.configure(&Configuration::new(lab, &THREE, ETCD)?.render())?;
        terraform.apply()?;
        terraform.nothing_to_do()?;
        Ok(Self { lab, terraform })
    }

    fn on(&self, host: &str, script: &str) -> Result<String> {
        self.lab.exec(host, script)?.ok().context(script.to_owned())
    }

    /// What a plan would change.
    fn changes(&self) -> Result<Changes> {
        self.terraform
            .run(&["plan", "-input=false", "-out=the.plan"])?
            .ok()
            .context("terraform plan")?;
        let plan: Value = serde_json::from_str(&self.terraform.run(&["show", "-json", "the.plan"])?.ok()?)?;
        let mut changes = Changes::new();
        for resource in plan["resource_changes"].as_array().into_iter().flatten() {
            let change = &resource["change"];
            let address = resource["address"].as_str().unwrap_or_default();
            if change["actions"] == serde_json::json!(["no-op"]) {
                continue;
            }
            ensure!(
                change["actions"] == serde_json::json!(["update"]),
                "{address}: {change}"
            );
            let unknown = |name: &str| change["after_unknown"][name] == Value::Bool(true);
            let names = change["before"].as_object().context("no state")?.keys();
            let changed = names.filter(|name| change["before"][*name] != change["after"][*name] || unknown(name));
            let changed = changed
                .map(|name| {
                    (
                        name.clone(),
                        (change["before"][name].clone(), change["after"][name].clone()),
                    )
                })
                .collect();
            changes.insert(address.to_owned(), changed);
        }
        Ok(changes)
    }

    /// Wants the plan to change these attributes of this one resource, and nothing else; returns what they are now.
    fn only(&self, address: &str, attributes: &[&str]) -> Result<BTreeMap<String, Value>> {
        let mut changes = self.changes()?;
        let of_it = changes.remove(address).unwrap_or_default();
        let names: Vec<&str> = of_it.keys().map(String::as_str).collect();
        ensure!(
            changes.is_empty() && names == attributes,
            "{attributes:?} of {address} were to change, and these do: {of_it:#?}, and {changes:#?}"
        );
        Ok(of_it.into_iter().map(|(name, (before, _))| (name, before)).collect())
    }

    /// Applies, and wants all to be well.
    fn mended(&self) -> Result<()> {
        self.terraform.apply()?;
        self.terraform.nothing_to_do()?;
        one_cluster(self.lab, &THREE)?;
        Ok(())
    }

    fn restarts(&self) -> Result<Vec<String>> {
        let script = "systemctl show -p MainPID -p ActiveEnterTimestamp etcd-main";
        THREE.iter().map(|host| self.on(host, script)).collect()
    }
}

fn member(server: &str) -> String {
    format!("etcd_member.this[{server:?}]")
}

/// What a service that is stopped, disabled or without certificates needs is no restart of the others.
#[test]
fn services_files_and_hosts_are_mended() -> Result<()> {
    let lab = Builder::standard(&prefix("drift")).only(&THREE).up()?;
    let toy = Toy::new(&lab)?;
    let running = toy.restarts()?;

    // A plan and an apply without changes write nothing on any server. (/run and /var/log change with every login.)
    for host in THREE {
        toy.on(host, "touch /run/marker; sleep 0.05; touch /run/marker")?;
    }
    toy.terraform.nothing_to_do()?;
    ensure!(
        toy.terraform.apply()?.contains("No changes"),
        "an apply changes something"
    );
    for host in THREE {
        let script = "find / -xdev -newercm /run/marker -not -path /run -not -path '/var/lib/etcd/main/*' -not -path '/var/log/*' -not -path '/proc/*' -not -path '/sys/*'";
        let written = toy.on(host, script)?;
        ensure!(written.is_empty(), "written on {host}:\n{written}");
    }

    // The service is disabled, and its guard and one key are deleted, while it runs.
    toy.on("b1", "systemctl disable --quiet etcd-main; rm /etc/etcd/main/guard")?;
    toy.on("b1", "rm /etc/etcd/main/pki/server.key")?;
    // Without the key it takes part in the cluster, and answers no client.
    let before = toy.only(
        &member("b1"),
        &["certificate_expiry", "certificate_serials", "drift", "service"],
    )?;
    ensure!(before["service"] == "silent", "{before:#?}");
    let drift = &before["drift"];
    ensure!(
        *drift
            == serde_json::json!({
                "start at boot": "is switched off",
                "/etc/etcd/main/guard": "is missing",
                "/etc/etcd/main/pki/server.key": "is missing",
            }),
        "{drift}"
    );
    toy.mended()?;
    toy.on(
        "b1",
        "systemctl is-enabled --quiet etcd-main && test -x /etc/etcd/main/guard",
    )?;

    // The hosts block, where what puts it back is stopped: a changed address, a strange line; and no block at all on another server.
    let edit =
        |script: &str| format!("cp /etc/hosts /tmp/hosts && sed '{script}' /tmp/hosts >/etc/hosts && rm /tmp/hosts");
    for host in ["a1", "c1"] {
        toy.on(host, "systemctl stop etcd-hosts@main.path etcd-hosts@main.service")?;
    }
    toy.on(
        "a1",
        &edit(r"s/^203.0.113.21 b1/203.0.113.99 b1/; s/^# END etcd/10.9.9.9 stranger\n&/"),
    )?;
    toy.on("c1", &edit("/^# BEGIN etcd/,/^# END etcd/d"))?;
    let before = toy.only("etcd_cluster.main", &["members"])?;
    let seen = |server: &str| before["members"][server]["addresses"].clone();
    ensure!(
        seen("a1")["b1"] == "203.0.113.99" && seen("a1")["stranger"] == "10.9.9.9",
        "{before:#?}"
    );
    ensure!(seen("c1") == serde_json::json!({}), "{before:#?}");
    toy.mended()?;
    ensure!(
        toy.restarts()? == running,
        "a member was restarted: {:?}",
        toy.restarts()
    );

    // The service is stopped, and its certificate for peers is gone.
    toy.on("c1", "systemctl stop etcd-main; rm /etc/etcd/main/pki/peer.crt")?;
    let before = toy.only(
        &member("c1"),
        &["certificate_expiry", "certificate_serials", "drift", "service"],
    )?;
    ensure!(before["service"] == "stopped", "{before:#?}");
    ensure!(
        before["drift"] == serde_json::json!({"/etc/etcd/main/pki/peer.crt": "is missing"}),
        "{before:#?}"
    );
    toy.mended()?;

    // All are stopped, and come back one after the other.
    for host in THREE {
        toy.on(host, "systemctl stop etcd-main")?;
    }
    toy.terraform
        .run(&["apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=1"])?
        .ok()?;
    toy.mended()?;
    let founders = toy.terraform.attributes("etcd_cluster.main")?["founders"].clone();
    ensure!(founders == serde_json::json!(THREE), "the founding set is {founders}");
    Ok(())
}

/// Somebody takes a member out with etcdctl: its data is kept aside, and it joins anew.
#[test]
fn a_member_that_was_removed_by_hand_joins_anew() -> Result<()> {
    let lab = Builder::standard(&prefix("drift-removed")).only(&THREE).up()?;
    let toy = Toy::new(&lab)?;
    ctl(&lab, "a1", "put before removed")?;
    let id = toy.terraform.attributes(&member("b1"))?["member_id"].clone();
    let id = id.as_str().context("no member ID")?;
    // etcd takes nobody out before the others have been connected for five seconds ("unhealthy cluster").
    eventually("etcd takes b1 out", || {
        Ok(ctl(&lab, "a1", &format!("member remove {id}")).is_ok())
    })?;
    eventually("b1 ends by itself", || {
        Ok(!lab.exec("b1", "systemctl is-active --quiet etcd-main")?.success())
    })?;
    let before = toy.only(&member("b1"), &["drift", "member_id", "service"])?;
    ensure!(
        before["drift"] == serde_json::json!({"member list": "was removed from the cluster"}),
        "{before:#?}"
    );
    toy.mended()?;
    ensure!(
        toy.terraform.attributes(&member("b1"))?["member_id"] != id,
        "it is the old member"
    );
    toy.on("b1", "ls -d /var/lib/etcd/main.removed-*/member/wal")?;
    let list = ctl(&lab, "b1", "member list")?;
    ensure!(list.lines().count() == 3 && !list.contains("true"), "{list}");
    Ok(())
}

/// The configuration and the unit were edited and are in force: what heals them restarts the members one after the other.
#[test]
fn what_needs_a_restart_is_mended_under_a_quorum() -> Result<()> {
    let lab = Builder::standard(&prefix("drift-restart")).only(&THREE).up()?;
    let toy = Toy::new(&lab)?;
    let writer = Writer::start(&lab, &THREE)?;
    let edit = "sed -i 's/^heartbeat-interval: 100$/heartbeat-interval: 150/' /etc/etcd/main/etcd.yaml";
    toy.on("a1", &format!("{edit}; systemctl restart etcd-main"))?;
    eventually("a1 is back", || Ok(status(&lab, "a1").is_ok()))?;
    toy.on("b1", "sed -i 's/^LimitNOFILE=.*/LimitNOFILE=1024/' /etc/systemd/system/etcd-main.service; systemctl daemon-reload; systemctl restart etcd-main")?;
    eventually("b1 is back", || Ok(status(&lab, "b1").is_ok()))?;

    let mut changes = toy.changes()?;
    let a1 = changes.remove(&member("a1")).unwrap_or_default();
    let b1 = changes.remove(&member("b1")).unwrap_or_default();
    ensure!(changes.is_empty(), "{changes:#?}");
    ensure!(a1.keys().eq(["configuration"]), "{a1:#?}");
    ensure!(
        a1["configuration"]
            .0
            .as_str()
            .is_some_and(|text| text.contains("heartbeat-interval: 150")),
        "{a1:#?}"
    );
    ensure!(b1.keys().eq(["drift"]), "{b1:#?}");
    ensure!(
        b1["drift"].0 == serde_json::json!({"/etc/systemd/system/etcd-main.service": "differs"}),
        "{b1:#?}"
    );
    let c1 = toy.on("c1", "systemctl show -p MainPID etcd-main")?;
    toy.mended()?;
    let limit = toy.on("b1", "grep 'Max open files' /proc/$(pgrep -xo etcd)/limits")?;
    ensure!(!limit.contains(" 1024 "), "{limit}");
    ensure!(
        c1 == toy.on("c1", "systemctl show -p MainPID etcd-main")?,
        "c1 was restarted too"
    );
    let written = writer.stop()?;
    eprintln!("{written}");
    written.nothing_lost()
}
