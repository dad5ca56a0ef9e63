//! The majority of a cluster's servers is gone for good: it goes on from what one member has.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};

use crate::access::{ACCESS, equip, is_on};
use crate::complaint::Complaint;
use crate::configuration::{Configuration, quoted};
use crate::outside::{ctl, eventually, member_list, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
const AFTER: [&str; 3] = ["a1", "a2", "b2"];
/// Has etcd write nothing into its database before it has to.
const LAZY: &str = "{ \"backend-batch-interval\" = \"600s\", \"backend-batch-limit\" = \"1000000\" }";

/// Has a server forget that it was one of a cluster.
pub const FORGET: &str = "systemctl disable --now etcd-main etcd-hosts@main.path; userdel etcd-main; rm -rf /var/lib/etcd /etc/etcd /etc/systemd/system/etcd-main.service /etc/systemd/system/etcd-hosts@main.*; \
     systemctl daemon-reload; sed -i '/^# BEGIN etcd cluster/,/^# END etcd cluster/d' /etc/hosts";

/// `recovery` from `survivor` without `lost`, in the words that it takes.
pub fn recovery(survivor: &str, lost: &[&str]) -> String {
    let names: Vec<String> = lost.iter().map(|name| quoted(name)).collect();
    let words = format!(
        "main goes on from {survivor}, and what only {} had is lost",
        lost.join(", ")
    );
    format!(
        "{{ survivor = {}, lost = [{}], accept_data_loss = {} }}",
        quoted(survivor),
        names.join(", "),
        quoted(&words)
    )
}

/// Wants the cluster to be complained of in these words.
fn complains(complaints: &[Complaint], words: &str) -> Result<()> {
    let said = { complaints.iter() }.any(|one| one.address == "etcd_cluster.main" && one.text.contains(words));
    ensure!(said, "nobody says {words:?}: {complaints:#?}");
    Ok(())
}

/// What the member on this host has, by itself.
fn keys(lab: &Lab, host: &str) -> Result<BTreeSet<String>> {
    let text = ctl(lab, host, "get --prefix --keys-only --consistency=s written/")?;
    Ok(text
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Whether anything that was written is in the member's database, or all of it in its log alone.
fn is_in_database(lab: &Lab, host: &str) -> Result<bool> {
    let look = "grep -qa written/1 /var/lib/etcd/main/member/snap/db";
    Ok(lab.exec(host, look)?.success())
}

/// Crashes the member, so that what was written is in its log alone.
fn crash(lab: &Lab, host: &str) -> Result<()> {
    lab.exec(host, "systemctl kill --signal=KILL etcd-main; systemctl stop etcd-main")?
        .ok()?;
    ensure!(!is_in_database(lab, host)?, "the database was written in the meantime");
    Ok(())
}

/// With `harder` access control is on, and the survivor crashes.
fn goes_on(test: &str, terraform: &str, etcd: &str, harder: bool) -> Result<()> {
    let lab = Builder::standard(&prefix(test)).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    let terraform = Terraform::new(&lab, terraform)?;
    let of = |hosts: &[&str]| -> Result<Configuration> {
        let configuration = Configuration::new(&lab, hosts, etcd)?;
        Ok(if harder {
            configuration.member("config", LAZY)
        } else {
            configuration
        })
    };
    let also = if harder { ACCESS } else { "" };
    terraform.configure(&(of(&HOSTS)?.render() + also))?;
    terraform.apply()?;
    if harder {
        equip(&lab, &terraform, &["a1", "a2", "b1", "b2", "c1"])?;
    }
    let old = one_cluster(&lab, &HOSTS)?;
    let writer = Writer::start(&lab, &HOSTS)?;
    eventually("some of it is written", || Ok(writer.acknowledged() > 100))?;

    // Nothing of it as long as there may be a quorum.
    let wanted = of(&AFTER)?.cluster("recovery", recovery("a1", &["b1", "c1"]));
    terraform.write("main.tf", &(wanted.render() + also))?;
    let complaints = terraform.complaints()?;
    ensure!(
        complaints
            .iter()
            .any(|one| one.text.contains("is not lost") || one.text.contains("answers")),
        "{complaints:#?}"
    );
    ensure!(one_cluster(&lab, &HOSTS)? == old, "something was changed");
    writer.stop()?.nothing_lost()?;
    let writer = Writer::start(&lab, &HOSTS)?;
    eventually("more of it is written", || Ok(writer.acknowledged() > 100))?;
    // That an entry is committed is on the disk with the next entry: a crash may take that of the last ones.
    let before = keys(&lab, "a1")?;
    eventually("some more is on a1", || Ok(keys(&lab, "a1")?.len() > before.len() + 30))?;
    lab.power_off("b1")?;
    lab.power_off("c1")?;
    writer.stop().ok();
    let before = if harder { before } else { keys(&lab, "a1")? };
    ensure!(before.len() > 200, "{} keys", before.len());
    if harder {
        crash(&lab, "a1")?;
    }

    // In other words it is not done either.
    let careless = wanted.clone().cluster(
        "recovery",
        "{ survivor = \"a1\", lost = [\"b1\", \"c1\"], accept_data_loss = \"yes\" }",
    );
    terraform.write("main.tf", &(careless.render() + also))?;
    let complaints = terraform.complaints()?;
    complains(&complaints, "main goes on from a1, and what only b1, c1 had is lost")?;

    terraform.write("main.tf", &(wanted.render() + also))?;
    let said = terraform.apply()?;
    ensure!(said.contains("Member b1 was forgotten"), "{said}");
    let new = one_cluster(&lab, &AFTER)?;
    ensure!(new != old, "it has the old one's ID");
    for host in AFTER {
        let after = keys(&lab, host)?;
        ensure!(
            after.is_superset(&before),
            "{host} lacks {:?}",
            before.difference(&after).take(3)
        );
    }
    terraform.nothing_to_do()?;
    if harder {
        is_on(&lab, &terraform, "b2", etcd)?;
    }
    let aside = lab.exec("a1", "ls -d /var/lib/etcd/main/member.before-*")?.ok()?;
    ensure!(aside.lines().count() == 1, "its old data is not aside: {aside}");
    for host in AFTER {
        let state = terraform.attributes(&format!("etcd_member.this[{host:?}]"))?;
        let seen = status(&lab, host)?;
        ensure!(state["member_id"] == format!("{:x}", seen.member_id), "{state:#}");
        ensure!(state["cluster_id"] == format!("{new:x}"), "{state:#}");
    }

    // The old ones come back to life, even as a quorum of what they were: they are another cluster.
    lab.power_on("b1")?;
    lab.power_on("c1")?;
    for host in ["b1", "c1"] {
        eventually("the old member runs", || Ok(lab.exec(host, "pgrep -x etcd")?.success()))?;
    }
    let writer = Writer::start(&lab, &AFTER)?;
    eventually("the new one goes on beside them", || Ok(writer.acknowledged() > 300))?;
    writer.stop()?.nothing_lost()?;
    ensure!(one_cluster(&lab, &AFTER)? == new, "another cluster");
    let names: BTreeSet<String> = member_list(&lab, "a1")?.into_iter().map(|member| member.name).collect();
    ensure!(
        names == AFTER.iter().map(|name| (*name).to_owned()).collect(),
        "{names:?}"
    );

    // What was done stands in the state, and taking it out changes nothing.
    terraform.write("main.tf", &(of(&AFTER)?.render() + also))?;
    terraform.apply()?;
    ensure!(one_cluster(&lab, &AFTER)? == new, "another cluster");
    terraform.nothing_to_do().context("after recovery was taken out")
}

#[test]
fn a_lost_majority_is_survived() -> Result<()> {
    goes_on("quorum", "1.11", "3.6.16", false)
}

#[test]
fn a_survivor_that_crashed_goes_on_with_its_access_control() -> Result<()> {
    goes_on("quorum-crash", "1.15", "3.5.30", true)
}

/// A survivor that crashed with all that was written in its log alone.
fn the_log_is_read(lab: &Lab, etcd: &str, tls: bool) -> Result<()> {
    let terraform = Terraform::new(lab, "1.15")?;
    let of = |hosts: &[&str]| -> Result<Configuration> {
        let configuration = Configuration::new(lab, hosts, etcd)?.member("config", LAZY);
        let configuration = configuration.member("on_destroy", quoted("delete_data"));
        Ok(configuration.cluster("tls", format!("{{ enabled = {tls} }}")))
    };
    terraform.configure(&of(&HOSTS)?.render())?;
    terraform.apply()?;
    let all: BTreeSet<String> = (0..2000).map(|number| format!("written/{number}")).collect();
    for some in all.iter().collect::<Vec<_>>().chunks(100) {
        let puts: String = some
            .iter()
            .map(|key| format!("put {key} {}\n", "x".repeat(500)))
            .collect();
        ctl(lab, "b1", &format!("txn <<'END'\n\n{puts}\n\nEND"))?;
    }
    eventually("all of it is on a1", || Ok(keys(lab, "a1")? == all))?;
    // That an entry is committed is on the disk with the next entry.
    ctl(lab, "b1", "put next 1")?;
    eventually("the next is on a1", || {
        Ok(!ctl(lab, "a1", "get --consistency=s next")?.is_empty())
    })?;
    lab.power_off("b1")?;
    lab.power_off("c1")?;
    crash(lab, "a1")?;
    let wanted = of(&["a1"])?.cluster("recovery", recovery("a1", &["b1", "c1"]));
    terraform.write("main.tf", &wanted.render())?;
    let begun = Instant::now();
    terraform.apply()?;
    eprintln!(
        "recovered from the log of etcd {etcd}, TLS {tls}, in {:.1?}",
        begun.elapsed()
    );
    let after = keys(lab, "a1")?;
    ensure!(after == all, "{} of {} are left", after.len(), all.len());
    // What was for one start only is gone.
    let once = lab.exec("a1", "ls /etc/etcd/main/snapshot.yaml; ss -Hltn sport = :23790")?;
    ensure!(once.stdout.trim().is_empty(), "{}", once.stdout);
    terraform.nothing_to_do()?;
    terraform.destroy()?;
    for host in ["b1", "c1"] {
        lab.power_on(host)?;
        lab.exec(host, FORGET)?.ok()?;
    }
    lab.exec("a1", "rm -rf /var/lib/etcd")?.ok().map(drop)
}

#[test]
fn a_survivors_log_is_read_to_its_end() -> Result<()> {
    let lab = Builder::standard(&prefix("quorum-log")).only(&HOSTS).up()?;
    the_log_is_read(&lab, "3.4.23", false)?;
    the_log_is_read(&lab, "3.7.3", false)
}

#[test]
#[ignore = "takes minutes: run it by name with --ignored"]
fn every_survivors_log_is_read_to_its_end() -> Result<()> {
    let lab = Builder::standard(&prefix("quorum-logs")).only(&HOSTS).up()?;
    for etcd in ["3.4.23", "3.5.30", "3.6.16", "3.7.3"] {
        the_log_is_read(&lab, etcd, true)?;
        the_log_is_read(&lab, etcd, false)?;
    }
    Ok(())
}

#[test]
fn other_survivors_are_stopped_and_join_anew() -> Result<()> {
    const FIVE: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];
    let lab = Builder::standard(&prefix("quorum-five")).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&Configuration::new(&lab, &FIVE, "3.7.3")?.render())?;
    terraform.apply()?;
    let old = one_cluster(&lab, &FIVE)?;
    ctl(&lab, "a1", "put kept yes")?;
    eventually("it is everywhere", || {
        Ok(ctl(&lab, "b2", "get --consistency=s --print-value-only kept")?.trim() == "yes")
    })?;
    ["a1", "b1", "c1"].iter().try_for_each(|host| lab.power_off(host))?;
    let two = ["a2", "b2"];
    // One that is not named stands in the way.
    let unnamed = Configuration::new(&lab, &two, "3.7.3")?.cluster("recovery", recovery("a2", &["a1", "b1"]));
    terraform.write("main.tf", &unnamed.render())?;
    let complaints = terraform.complaints()?;
    complains(&complaints, "\"c1\" is to leave")?;
    let named = Configuration::new(&lab, &two, "3.7.3")?.cluster("recovery", recovery("a2", &["a1", "b1", "c1"]));
    terraform.write("main.tf", &named.render())?;
    terraform.apply()?;
    ensure!(one_cluster(&lab, &two)? != old, "it has the old one's ID");
    ensure!(ctl(&lab, "b2", "get --print-value-only kept")?.trim() == "yes", "lost");
    let aside = lab.exec("b2", "ls -d /var/lib/etcd/main/member.before-*")?.ok()?;
    ensure!(aside.lines().count() == 1, "{aside}");
    terraform.nothing_to_do()
}
