//! `data "etcd_cluster_status"`: what it says of a healthy cluster is what is seen from outside, and what is broken after
//! founding is found and named.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};
use serde_json::Value;

use crate::configuration::Configuration;
use crate::outside::{dialled, eventually, heard_from, leader, status};
use crate::prefix;
use crate::preflight::{far_and_poor, set_clock};
use crate::terraform::Terraform;
use crate::writer::Writer;

const DATA: &str = r#"
data "etcd_cluster_status" "main" {
  cluster    = etcd_cluster.main
  timeout    = "6s"
  depends_on = [etcd_member.this]
}
output "status" { value = data.etcd_cluster_status.main }
output "seen"   { value = timestamp() }
"#;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

/// Looks, without refreshing anything else.
fn look(terraform: &Terraform<'_>) -> Result<(Value, Duration)> {
    let start = Instant::now();
    terraform
        .run(&["apply", "-auto-approve", "-input=false", "-no-color", "-refresh=false"])?
        .ok()?;
    let status = terraform.state()?["values"]["outputs"]["status"]["value"].take();
    Ok((status, start.elapsed()))
}

fn link<'a>(status: &'a Value, from: &str, to: &str) -> Result<&'a Value> {
    let links = status["links"].as_array().context("no links")?;
    let found = links.iter().find(|link| link["from"] == from && link["to"] == to);
    found.with_context(|| format!("no link from {from} to {to}"))
}

fn problems(status: &Value) -> String {
    let problems = status["problems"].as_array().into_iter().flatten();
    problems.filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

/// A formed cluster with the data source in its configuration.
fn formed<'a>(lab: &'a Lab, etcd: &str, terraform: &str) -> Result<Terraform<'a>> {
    let terraform = Terraform::new(lab, terraform)?;
    let configuration = Configuration::new(lab, &HOSTS, etcd)?;
    terraform.configure(&(configuration.render() + DATA))?;
    terraform.apply()?;
    Ok(terraform)
}

#[test]
fn the_status_says_what_is_seen_from_outside() -> Result<()> {
    let mut lab = Builder::standard(&prefix("status")).only(&HOSTS).up()?;
    lab.wan_everywhere(Delay::ms(20.0))?;
    lab.egress("b1", Some([203, 0, 113, 29].into()))?;
    let terraform = formed(&lab, "3.6.16", "1.11")?;
    let (seen, _) = look(&terraform)?;
    ensure!(seen["healthy"] == true && problems(&seen).is_empty(), "{seen:#}");
    assert_eq!(
        (&seen["voters"], &seen["quorum"], &seen["failures_tolerated"]),
        (&3.into(), &2.into(), &1.into())
    );
    assert_eq!(seen["expendable_networks"], serde_json::json!(["A", "B", "C"]));
    assert_eq!(seen["leader"], leader(&lab, &HOSTS)?);
    for host in HOSTS {
        let member = &seen["members"][host];
        let outside = status(&lab, host)?;
        assert_eq!(member["version"], outside.version);
        assert_eq!(member["member_id"], format!("{:x}", outside.member_id));
        assert_eq!(seen["cluster_id"], format!("{:x}", outside.cluster_id));
        ensure!(member["quota"].as_i64() >= Some(1 << 31), "{member:#}");
        ensure!(
            member["clock_offset_ms"].as_i64().is_some_and(|ms| ms.abs() < 2000),
            "{member:#}"
        );
        ensure!(member["certificate_expiry"]["peer_client"].is_string(), "{member:#}");
        for other in HOSTS.into_iter().filter(|other| *other != host) {
            let link = link(&seen, host, other)?;
            let address = link["address"].as_str().unwrap_or_default().parse()?;
            ensure!(
                link["connected"] == true && link["reachable"] == true && dialled(&lab, host)?.contains(&address),
                "{link:#}"
            );
            let source = link["source_address"].as_str().unwrap_or_default();
            ensure!(
                heard_from(&lab, other)?.contains(&source.parse()?),
                "{other} does not hear {host} from {source}: {link:#}"
            );
            ensure!(host != "b1" || source == "203.0.113.29", "{link:#}");
            let rtt = link["rtt_ms"].as_f64().unwrap_or_default();
            ensure!((35.0..1000.0).contains(&rtt), "{link:#}");
        }
    }
    let (svg, mermaid) = (seen["diagram_svg"].as_str(), seen["diagram_mermaid"].as_str());
    ensure!(
        svg.is_some_and(|svg| svg.contains("203.0.113.21") && svg.contains(" ms</text>")),
        "{svg:?}"
    );
    ensure!(mermaid.is_some_and(|text| text.contains("(leader)")), "{mermaid:?}");
    let state = std::fs::read_to_string(terraform.work().join("terraform.tfstate"))?;
    let data = serde_json::from_str::<Value>(&state)?;
    let resources = data["resources"].as_array().context("no resources")?;
    let data = resources
        .iter()
        .find(|one| one["mode"] == "data")
        .context("no data source")?;
    ensure!(
        data.to_string().contains("BEGIN CERTIFICATE"),
        "it needs the authority's certificate"
    );
    ensure!(
        !data.to_string().contains("PRIVATE KEY"),
        "a private key is in its state"
    );
    Ok(())
}

#[test]
fn what_breaks_after_founding_is_named() -> Result<()> {
    let lab = Builder::standard(&prefix("status-broken")).only(&HOSTS).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    let terraform = formed(&lab, "3.5.30", "1.15")?;

    // One direction of one pair.
    lab.close_port("a1", "b1", 2380)?;
    eventually("the closed direction shows", || {
        let (seen, _) = look(&terraform)?;
        let wanted = "a1 does not reach b1, which it dials at 203.0.113.21 port 2380";
        Ok(seen["healthy"] == false
            && problems(&seen).contains(wanted)
            && link(&seen, "b1", "a1")?["connected"] == true)
    })?;
    lab.open_ports("b1")?;
    let mut usual = Duration::ZERO;
    eventually("it heals", || {
        let (seen, took) = look(&terraform)?;
        usual = took;
        Ok(seen["healthy"] == true)
    })?;
    // With dead servers: the time-out of 6 s, which all of them share, and what this machine needs for the rest.
    let longest = 2 * usual + Duration::from_secs(12);

    // A clock, as far as the machine's own `date` goes.
    lab.write_file(
        "c1",
        "/usr/local/bin/date",
        b"#!/bin/sh\n[ \"$1\" = +%s.%N ] && exec /bin/date -d '20 seconds' +%s.%N\nexec /bin/date \"$@\"\n",
    )?;
    lab.exec("c1", "chmod 755 /usr/local/bin/date")?.ok()?;
    let (seen, _) = look(&terraform)?;
    let apart = seen["clock_difference_ms"].as_i64().unwrap_or_default();
    ensure!((18_000..=22_000).contains(&apart), "{seen:#}");
    ensure!(
        problems(&seen).contains("the clocks of") && problems(&seen).contains("c1 differ by"),
        "{seen:#}"
    );
    lab.exec("c1", "rm /usr/local/bin/date")?.ok()?;

    // A member that does not run, then a server that is gone.
    lab.exec("c1", "systemctl stop etcd-main")?.ok()?;
    let (seen, _) = look(&terraform)?;
    ensure!(
        problems(&seen).contains("c1: its etcd does not run (the service is inactive)"),
        "{seen:#}"
    );
    lab.power_off("c1")?;
    let (seen, took) = look(&terraform)?;
    eprintln!("a look with a dead server took {took:?}, and {usual:?} without one, Terraform included");
    ensure!(took < longest, "it took {took:?} of {longest:?}");
    assert_eq!(seen["members"]["c1"]["reachable"], false);
    assert_eq!(
        (&seen["has_quorum"], &seen["failures_tolerated"]),
        (&true.into(), &0.into())
    );
    ensure!(problems(&seen).contains("c1: its server can't be reached"), "{seen:#}");
    lab.power_off("b1")?;
    eventually("the lost quorum shows", || {
        let (seen, _) = look(&terraform)?;
        // Those that were not reached might be one without a1.
        Ok(seen["has_quorum"].is_null() && seen["members"]["a1"]["version"] == "3.5.30")
    })?;
    let (seen, took) = look(&terraform)?;
    eprintln!("{}\n({took:?})", problems(&seen));
    ensure!(took < longest, "it took {took:?} of {longest:?}");
    ensure!(
        problems(&seen)
            .starts_with("nothing says whether there is a quorum: 0 of 3 voting members are known to be healthy"),
        "{seen:#}"
    );
    Ok(())
}

#[test]
fn what_becomes_poor_after_founding_is_named() -> Result<()> {
    let lab = Builder::standard(&prefix("status-poor")).only(&HOSTS).up()?;
    let data = "/var/lib/etcd";
    lab.slow_disk("c1", data, 100_000)?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let good = Configuration::new(&lab, &HOSTS, "3.6.16")?;
    terraform.configure(&(good.render() + DATA))?;
    terraform.apply()?;
    let (seen, _) = look(&terraform)?;
    ensure!(seen["healthy"] == true, "{}", problems(&seen));
    let fsync = |seen: &Value| seen["members"]["c1"]["wal_fsync_ms"].as_f64();
    ensure!(fsync(&seen).is_some_and(|ms| ms > 0.0), "{:#}", seen["members"]);

    // A disk: the status has it while there are writes, and the change of the member that comes next.
    lab.limit_disk("c1", data, 20)?;
    let writer = Writer::start(&lab, &["a1"])?;
    eventually("the slow disk shows", || {
        let (seen, _) = look(&terraform)?;
        Ok(problems(&seen).contains("c1: its disk takes ") && fsync(&seen).is_some_and(|ms| ms > 100.0))
    })?;
    // A clock as well.
    set_clock(&lab, "c1", "20 seconds")?;
    let change = |snapshot_count: &str| -> Result<String> {
        let other = good
            .clone()
            .member("config", format!("{{ \"snapshot-count\" = \"{snapshot_count}\" }}"));
        terraform.write("main.tf", &(other.render() + DATA))?;
        // Terraform breaks lines.
        Ok(terraform.apply()?.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let said = change("20000")?;
    ensure!(
        said.contains("Member c1 is up, and something may be trouble")
            && said.contains("ms for a synchronous write of its log")
            && said.contains("s ahead of that of the machine that runs Terraform"),
        "{said}"
    );
    lab.exec("c1", "rm /usr/local/bin/date")?.ok()?;
    lab.limit_disk("c1", data, 100_000)?;
    eventually("a quick disk shows", || {
        let (seen, _) = look(&terraform)?;
        Ok(!problems(&seen).contains("its disk takes"))
    })?;

    // A line that is long and poor.
    far_and_poor(&lab)?;
    // What was sent before counts as well: connections that are new tell it sooner.
    lab.exec("c1", "systemctl restart etcd-main")?.ok()?;
    let mut last = Value::Null;
    eventually("the poor line shows", || {
        last = look(&terraform)?.0;
        let said = problems(&last);
        Ok(said.contains("which is too long for an election timeout of 1000 ms")
            && said.contains("% of the packets from "))
    })
    .with_context(|| format!("{:#}\n{:#}", last["problems"], last["links"]))?;
    eprintln!("{}", problems(&last));
    let said = change("30000")?;
    ensure!(
        said.contains("Server c1 is 2") && said.contains("which is too long for an election timeout of 1000 ms"),
        "{said}"
    );
    lab.wan("A", "C", Delay::ms(0.0))?;
    lab.wan("B", "C", Delay::ms(0.0))?;
    writer.stop()?.nothing_lost()?;

    // A port that another process took while the member did not run.
    lab.exec("c1", "systemctl stop etcd-main")?.ok()?;
    let mut taker = lab
        .command_on("c1", "nc")?
        .args(["-l", "-k", "-p", "2380"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    eventually("nc listens", || {
        Ok(!lab.exec("c1", "ss -Hltn 'sport = :2380'")?.stdout.is_empty())
    })?;
    let (seen, _) = look(&terraform)?;
    let said = problems(&seen);
    ensure!(
        said.contains("c1: port 2380 of its etcd is taken by nc (process "),
        "{said}"
    );
    let said = terraform.apply_fails()?;
    ensure!(said.contains("2380") && said.contains("nc (process "), "{said}");
    lab.exec("c1", "pkill -x nc")?;
    taker.wait()?;
    terraform.apply()?;
    eventually("all is well", || Ok(look(&terraform)?.0["has_quorum"] == true))?;
    terraform.destroy().map(drop)
}

#[test]
fn a_rejected_connection_is_told_with_its_address_and_reason() -> Result<()> {
    // etcd 3.4 compares the address of a peer with its certificate, and has no certificate without addresses.
    let lab = Builder::standard(&prefix("status-egress")).only(&HOSTS).up()?;
    let terraform = formed(&lab, "3.4.23", "1.15")?;
    Lab::attach(&prefix("status-egress"))?.egress("b1", Some([203, 0, 113, 29].into()))?;
    // What is connected stays so.
    lab.exec("b1", "systemctl restart etcd-main")?.ok()?;
    eventually("the rejections show", || {
        let (seen, _) = look(&terraform)?;
        let rejected = seen["members"]["a1"]["rejected"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(problems(&seen).contains("b1 does not reach a1")
            && rejected.iter().any(|one| one["address"] == "203.0.113.29"))
    })?;
    let (seen, _) = look(&terraform)?;
    eprintln!("{}\n{:#}", problems(&seen), seen["members"]["a1"]["rejected"]);
    Ok(())
}
