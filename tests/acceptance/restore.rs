//! A cluster is founded from a snapshot, on other servers, and nobody of the old one can join it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};

use crate::access::{ACCESS, equip, is_on};
use crate::configuration::{Configuration, quoted};
use crate::fingerprint::Fingerprint;
use crate::outside::{ctl, eventually, member_list, one_cluster, status};
use crate::prefix;
use crate::rolling::started;
use crate::snapshots::{HOSTS, resource};
use crate::terraform::Terraform;
use crate::writer::Writer;

const OTHERS: [&str; 3] = ["a2", "b2", "c1"];

/// `restore` of this file.
pub fn restore(file: &Path, more: &str) -> String {
    format!("{{ snapshot_file = {}{more} }}", quoted(&file.display().to_string()))
}

/// The numbers of the keys that a writer wrote, as the member on this host has them at a revision, or now.
fn keys(lab: &Lab, host: &str, revision: Option<u64>) -> Result<BTreeSet<String>> {
    let at = revision.map_or(String::new(), |revision| format!(" --rev={revision}"));
    let text = ctl(lab, host, &format!("get --prefix --keys-only{at} written/"))?;
    Ok(text
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Founds a cluster on these hosts, and takes a snapshot of it while a client writes. What it returns: the snapshot, its revision, the keys
/// that were there at that revision, and the cluster's ID. `more`: what else the configuration has, such as [`ACCESS`].
pub fn with_snapshot(
    lab: &Lab,
    terraform: &Terraform<'_>,
    etcd: &str,
    more: &str,
) -> Result<(PathBuf, u64, BTreeSet<String>, u64)> {
    let path = terraform.work().join("main.db");
    let configuration = Configuration::new(lab, &HOSTS, etcd)?.render() + more;
    terraform.configure(&configuration)?;
    terraform.apply()?;
    if more == ACCESS {
        equip(lab, terraform, &HOSTS)?;
    }
    let writer = Writer::start(lab, &HOSTS)?;
    let arguments = format!("path = {}", quoted(&path.display().to_string()));
    terraform.write("main.tf", &(configuration + &resource(&arguments)))?;
    terraform.apply()?;
    let taken = terraform.attributes("etcd_snapshot.main")?;
    let revision = taken["revision"].as_u64().context("no revision")?;
    let before = keys(lab, "a1", Some(revision))?;
    let after = writer.acknowledged();
    eventually("more is written after it", || Ok(writer.acknowledged() > after + 10))?;
    writer.stop()?.nothing_lost()?;
    ensure!(before.len() > 10, "hardly anything was written: {}", before.len());
    ensure!(
        keys(lab, "a1", None)?.len() > before.len(),
        "nothing was written after it"
    );
    Ok((path, revision, before, status(lab, "a1")?.cluster_id))
}

/// With `access` control is on in the snapshot.
fn comes_back_elsewhere(test: &str, terraform: &str, etcd: &str, bump: Option<u64>, access: bool) -> Result<()> {
    let lab = Builder::standard(&prefix(test)).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    let first = Terraform::new(&lab, terraform)?;
    let also = if access { ACCESS } else { "" };
    let (file, revision, before, old) = with_snapshot(&lab, &first, etcd, also)?;
    // All of its servers are destroyed; a1 is only switched off, and comes back to life later.
    lab.power_off("a1")?;
    lab.power_off("b1")?;
    lab.exec("c1", "systemctl disable --now etcd-main; rm -rf /var/lib/etcd /etc/etcd /etc/systemd/system/etcd-main.service; systemctl daemon-reload")?
        .ok()?;

    let second = Terraform::new(&lab, terraform)?;
    let more = bump.map_or(String::new(), |bump| format!(", bump_revision = {bump}"));
    let configuration = Configuration::new(&lab, &OTHERS, etcd)?.cluster("restore", restore(&file, &more));
    second.configure(&(configuration.render() + also))?;
    let plan = second.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    ensure!(
        plan.contains(&format!("revision = {revision}")),
        "the plan does not say what it is: {plan}"
    );
    second.apply()?;
    let new = one_cluster(&lab, &OTHERS)?;
    ensure!(new != old, "it has the old one's ID");
    for host in OTHERS {
        ensure!(
            keys(&lab, host, None)? == before,
            "{host} does not hold what the snapshot holds"
        );
        let left = lab.exec(
            host,
            "ls -A /var/lib/etcd/main /var/lib/etcd-restore /etc/etcd/main/restore 2>&1 | grep -v 'cannot access'",
        )?;
        ensure!(
            !left.stdout.contains("restoring") && !left.stdout.contains("snapshot.db"),
            "{}",
            left.stdout
        );
    }
    let ids: BTreeSet<u64> = member_list(&lab, "a2")?.iter().map(|member| member.id).collect();
    for host in OTHERS {
        let state = second.attributes(&format!("etcd_member.this[{host:?}]"))?;
        let id = u64::from_str_radix(state["member_id"].as_str().context("no ID")?, 16)?;
        ensure!(ids.contains(&id), "the state has {id:x}");
    }
    second.nothing_to_do()?;
    if access {
        equip(&lab, &second, &OTHERS)?;
        is_on(&lab, &second, "b2", etcd)?;
    }
    if let Some(bump) = bump {
        let text = ctl(&lab, "a2", "endpoint status -w json")?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let now = value[0]["Status"]["header"]["revision"]
            .as_u64()
            .context("no revision")?;
        ensure!(
            now >= revision + bump,
            "the revision is {now}, of {revision} and {bump}"
        );
        ensure!(keys(&lab, "a2", Some(revision)).is_err(), "a watcher would not notice");
    }

    // An old member that comes back to life stays what it was: alone, without a quorum.
    lab.power_on("a1")?;
    eventually("the old member runs", || Ok(lab.exec("a1", "pgrep -x etcd")?.success()))?;
    let writer = Writer::start(&lab, &OTHERS)?;
    let begun = writer.acknowledged();
    eventually("the new cluster goes on beside it", || {
        Ok(writer.acknowledged() > begun + 200)
    })?;
    writer.stop()?.nothing_lost()?;
    ensure!(one_cluster(&lab, &OTHERS)? == new, "another cluster");
    ensure!(member_list(&lab, "a2")?.len() == 3, "{:?}", member_list(&lab, "a2")?);
    ensure!(ctl(&lab, "a1", "put old 1").is_err(), "the old member takes writes");

    // What it was founded from says nothing any more.
    fs::remove_file(&file)?;
    second.nothing_to_do()?;
    // And members are changed as ever.
    let mut configuration = Configuration::new(&lab, &OTHERS, etcd)?;
    if access {
        configuration = configuration.member("config", "{ \"snapshot-count\" = \"20000\" }");
    }
    let before = started(&lab, &OTHERS)?;
    second.write("main.tf", &(configuration.render() + also))?;
    second.apply()?;
    ensure!((started(&lab, &OTHERS)? != before) == access, "{before:?}");
    ensure!(one_cluster(&lab, &OTHERS)? == new, "another cluster");
    if access {
        is_on(&lab, &second, "b2", etcd)?;
    }
    second.nothing_to_do()
}

#[test]
fn a_lost_cluster_comes_back_elsewhere() -> Result<()> {
    comes_back_elsewhere("restore", "1.11", "3.6.16", Some(1_000_000), false)
}

#[test]
fn a_lost_cluster_of_the_oldest_etcd_comes_back_elsewhere() -> Result<()> {
    comes_back_elsewhere("restore-old", "1.15", "3.4.23", None, true)
}

#[test]
fn a_lost_cluster_of_the_newest_etcd_comes_back_elsewhere() -> Result<()> {
    comes_back_elsewhere("restore-new", "1.15", "3.7.3", None, true)
}

#[test]
fn what_is_no_whole_snapshot_is_refused_before_anything_is_touched() -> Result<()> {
    let lab = Builder::standard(&prefix("restore-bad")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let (file, ..) = with_snapshot(&lab, &terraform, "3.6.16", "")?;
    let kept = lab.known_hosts_file().with_file_name("kept.db");
    fs::copy(&file, &kept)?;
    terraform.destroy()?;
    HOSTS
        .iter()
        .try_for_each(|host| lab.exec(host, "rm -rf /var/lib/etcd")?.ok().map(drop))?;
    let whole = fs::read(&kept)?;
    let before = Fingerprint::take(&lab)?;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let bad = [
        ("flipped", flipped, "is damaged"),
        ("cut", whole[..whole.len() / 2].to_vec(), "is not whole"),
        ("copied", whole[..whole.len() - 32].to_vec(), "is not whole"),
        (
            "foreign",
            b"#!/bin/sh\necho no snapshot\n".repeat(1000),
            "is no snapshot of etcd",
        ),
        ("empty", Vec::new(), "is no snapshot of etcd"),
    ];
    for (name, bytes, words) in bad {
        let path = terraform.work().join(name);
        fs::write(&path, bytes)?;
        let configuration = Configuration::new(&lab, &HOSTS, "3.6.16")?.cluster("restore", restore(&path, ""));
        terraform.write("main.tf", &configuration.render())?;
        let complaints = terraform.complaints()?;
        crate::complaint::Complaint::expect(&complaints, "etcd_cluster.main", "restore", &[words])?;
    }
    before.unchanged(&lab)?;
    // One that goes bad between the plan and the apply.
    let path = terraform.work().join("later");
    fs::write(&path, &whole)?;
    let configuration = Configuration::new(&lab, &HOSTS, "3.6.16")?.cluster("restore", restore(&path, ""));
    terraform.write("main.tf", &configuration.render())?;
    terraform
        .run(&["plan", "-input=false", "-no-color", "-out=saved.plan"])?
        .ok()?;
    fs::write(&path, &whole[..whole.len() - 512])?;
    let said = terraform.run(&["apply", "-input=false", "-no-color", "saved.plan"])?;
    ensure!(
        !said.success() && said.stderr.contains("can't be restored"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    before.unchanged(&lab)
}
