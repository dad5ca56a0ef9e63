//! Actions on a running cluster, while a client writes: what they say, and what is seen of them from outside.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};
use serde_json::Value;

use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, leader, one_cluster};
use crate::prefix;
use crate::rolling::started;
use crate::terraform::Terraform;
use crate::writer::Writer;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

const ACTIONS: &str = r#"
variable "leader" { default = "a1" }
variable "revision" { default = null }
action "etcd_defragment" "all" {
  config { cluster = etcd_cluster.main }
}
action "etcd_move_leader" "to" {
  config {
    cluster = etcd_cluster.main
    server  = var.leader
  }
}
action "etcd_compact" "history" {
  config {
    cluster  = etcd_cluster.main
    keep     = var.revision == null ? 10 : null
    revision = var.revision
  }
}
action "etcd_disarm_alarms" "all" {
  config { cluster = etcd_cluster.main }
}
action "etcd_restart" "all" {
  config {
    cluster = etcd_cluster.main
    timeout = "3m"
  }
}
"#;

/// Invokes an action; what it says.
pub fn invoke(terraform: &Terraform<'_>, action: &str, more: &[&str]) -> Result<String> {
    let invoked = format!("-invoke=action.{action}");
    let mut arguments = vec!["apply", "-auto-approve", "-input=false", "-no-color", &invoked];
    arguments.extend(more);
    let said = terraform.run(&arguments)?.ok().with_context(|| action.to_owned())?;
    eprintln!("{said}");
    Ok(said)
}

/// What an action complains of, on one line.
fn refused(terraform: &Terraform<'_>, action: &str, more: &[&str]) -> Result<String> {
    let invoked = format!("-invoke=action.{action}");
    let mut arguments = vec!["apply", "-auto-approve", "-input=false", "-no-color", &invoked];
    arguments.extend(more);
    let output = terraform.run(&arguments)?;
    ensure!(!output.success(), "{action} succeeded:\n{}", output.stdout);
    let words = output.stderr.replace(['│', '╷', '╵'], " ");
    Ok(words.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The size of a member's database, in bytes.
fn size(lab: &Lab, host: &str) -> Result<u64> {
    let text = ctl(lab, host, "endpoint status -w json")?;
    let value: Value = serde_json::from_str(&text)?;
    value[0]["Status"]["dbSize"].as_u64().context("no size")
}

#[test]
fn actions_keep_a_cluster_well_while_it_is_written_to() -> Result<()> {
    let lab = Builder::standard(&prefix("actions")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &HOSTS, "3.6.16")?;
    terraform.configure(&(configuration.render() + ACTIONS))?;
    terraform.apply()?;
    // Values that supersede each other: the space of all but the last can be won.
    let junk = "head -c 900000 /dev/urandom | base64 -w 0 | etcdctl put junk >/dev/null";
    for _ in 0..12 {
        ctl(&lab, "b1", &format!("version >/dev/null; {junk}"))?;
    }
    let before: Vec<u64> = HOSTS.iter().map(|host| size(&lab, host)).collect::<Result<_>>()?;
    let writer = Writer::start(&lab, &HOSTS)?;

    let future = refused(&terraform, "etcd_compact.history", &["-var=revision=900000"])?;
    ensure!(future.contains("revision 900000 has not been yet"), "{future}");
    let said = invoke(&terraform, "etcd_compact.history", &[])?;
    ensure!(said.contains("is forgotten; the cluster is at"), "{said}");

    let said = invoke(&terraform, "etcd_defragment.all", &[])?;
    for (host, before) in HOSTS.iter().zip(before) {
        ensure!(said.contains(&format!("{host}: ")), "{said}");
        let after = size(&lab, host)?;
        ensure!(after < before / 2, "{host} had {before} bytes and has {after}");
    }
    ensure!(said.contains("MiB won on 3 members"), "{said}");

    for next in ["b1", "c1", "a1"] {
        let said = invoke(&terraform, "etcd_move_leader.to", &[&format!("-var=leader={next}")])?;
        ensure!(said.contains(&format!("{next} leads")), "{said}");
        ensure!(leader(&lab, &HOSTS)? == next, "{next} does not lead");
    }

    let before = started(&lab, &HOSTS)?;
    let said = invoke(&terraform, "etcd_restart.all", &[])?;
    ensure!(said.matches(" is back after ").count() == 3, "{said}");
    let after = started(&lab, &HOSTS)?;
    for host in HOSTS {
        ensure!(before[host] != after[host], "{host} was not restarted");
    }
    let last = after
        .iter()
        .max_by_key(|(_, time)| **time)
        .map(|(host, _)| host.as_str());
    ensure!(last == Some("a1"), "{last:?} was restarted last, and a1 led");

    let said = invoke(&terraform, "etcd_disarm_alarms.all", &[])?;
    ensure!(said.contains("no alarm is raised"), "{said}");

    let written = writer.stop()?;
    eprintln!("{written}");
    written.nothing_lost()?;
    one_cluster(&lab, &HOSTS)?;
    terraform.nothing_to_do()?;

    // With one down the others are all that the quorum has.
    lab.exec("c1", "systemctl stop etcd-main.service")?.ok()?;
    eventually("a leader is left", || {
        Ok(["a1", "b1"].contains(&leader(&lab, &["a1", "b1"])?))
    })?;
    let before = started(&lab, &["a1", "b1"])?;
    for (action, more) in [
        ("etcd_defragment.all", "-var=leader=a1"),
        ("etcd_restart.all", "-var=leader=a1"),
    ] {
        let why = refused(&terraform, action, &[more])?;
        ensure!(
            why.contains("1 of 3 voting members would be healthy"),
            "{action}: {why}"
        );
    }
    ensure!(
        started(&lab, &["a1", "b1"])? == before,
        "a member was restarted all the same"
    );
    // It waits for the others to come back, and no longer when it is told to stop.
    let words = [
        "apply",
        "-auto-approve",
        "-input=false",
        "-no-color",
        "-invoke=action.etcd_restart.all",
    ];
    let running = terraform.start(&words)?;
    eventually("it has its turn", || {
        Ok(ctl(&lab, "a1", "get --prefix --keys-only terraform-provider-etcd/")?.contains("lock"))
    })?;
    let begun = Instant::now();
    running.interrupt()?;
    let output = running.wait()?;
    ensure!(
        output.stderr.contains("Stopped on request"),
        "{}{}",
        output.stdout,
        output.stderr
    );
    ensure!(
        begun.elapsed() < Duration::from_secs(30),
        "it took {:?} to stop",
        begun.elapsed()
    );

    let why = refused(&terraform, "etcd_move_leader.to", &["-var=leader=c1"])?;
    ensure!(why.contains("the member on c1 does not answer"), "{why}");
    Ok(())
}
