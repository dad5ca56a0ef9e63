//! Changes that need every member to be restarted, one at a time, while a client writes through all of them.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};

use crate::complaint::Complaint;
use crate::configuration::Configuration;
use crate::outside::{ctl, etcd_configuration, leader, status};
use crate::prefix;
use crate::scaling::Scene;
use crate::writer::Writer;

const FIVE: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];

/// When the process of each member was started, in µs since the machine's boot.
pub fn started(lab: &Lab, hosts: &[&str]) -> Result<BTreeMap<String, u64>> {
    let show = "systemctl show -p ExecMainStartTimestampMonotonic --value etcd-main.service";
    let times = hosts.iter().map(|host| {
        let time = lab.exec(host, show)?.ok()?.trim().parse()?;
        Ok(((*host).to_owned(), time))
    });
    times.collect()
}

/// Applies a configuration while a client writes; every member is restarted, `leader` as the last one.
fn roll(scene: &mut Scene<'_>, what: &str, configuration: &Configuration) -> Result<()> {
    let led = leader(scene.lab, &scene.hosts)?;
    let before = started(scene.lab, &scene.hosts)?;
    let writer = Writer::start(scene.lab, &scene.hosts)?;
    scene.terraform.write("main.tf", &configuration.render())?;
    let begun = Instant::now();
    scene.terraform.apply().with_context(|| what.to_owned())?;
    let took = begun.elapsed();
    scene.is_whole().with_context(|| what.to_owned())?;
    let written = writer.stop()?;
    eprintln!("{what}: applied in {took:.1?}; {written}");
    written.nothing_lost().with_context(|| what.to_owned())?;
    let after = started(scene.lab, &scene.hosts)?;
    for (host, time) in &after {
        ensure!(before[host] != *time, "{what}: the member on {host} was not restarted");
    }
    let last = after
        .iter()
        .max_by_key(|(_, time)| **time)
        .map(|(host, _)| host.as_str());
    ensure!(
        last == Some(led),
        "{what}: {last:?} was restarted last, and the leader was {led}"
    );
    Ok(())
}

fn snapshots(count: u32) -> String {
    format!("{{ \"snapshot-count\" = \"{count}\" }}")
}

#[test]
fn an_option_changes_and_the_leader_comes_last() -> Result<()> {
    an_option_changes("roll-option", 0.0)
}

#[test]
fn an_option_changes_at_a_distance() -> Result<()> {
    an_option_changes("roll-far", 50.0)
}

fn an_option_changes(name: &str, one_way: f64) -> Result<()> {
    let lab = Builder::standard(&prefix(name)).up()?;
    lab.wan_everywhere(Delay::ms(one_way))?;
    let mut scene = Scene::found(&lab, &FIVE)?;
    let configuration = Configuration::new(&lab, &FIVE, "3.6.16")?.member("config", snapshots(20_000));
    roll(
        &mut scene,
        &format!("another option for five members at {} ms", 2.0 * one_way),
        &configuration,
    )?;
    for host in FIVE {
        let (text, _) = etcd_configuration(&lab, host)?;
        ensure!(text.contains("20000"), "{host} has {text}");
    }
    Ok(())
}

#[test]
fn three_minor_versions_one_after_the_other() -> Result<()> {
    three_minor_versions("roll-versions", 0.0)
}

#[test]
#[ignore = "a measurement of some minutes: run it by name with --ignored"]
fn three_minor_versions_at_a_distance() -> Result<()> {
    three_minor_versions("roll-versions-far", 50.0)
}

fn three_minor_versions(name: &str, one_way: f64) -> Result<()> {
    let lab = Builder::standard(&prefix(name)).up()?;
    lab.wan_everywhere(Delay::ms(one_way))?;
    let mut scene = Scene::found_with(&lab, &FIVE, "3.5.30")?;
    // Two minor versions at once are refused in the plan already.
    let skip = Configuration::new(&lab, &FIVE, "3.7.3")?;
    scene.terraform.write("main.tf", &skip.render())?;
    let complaints = scene.terraform.complaints()?;
    ensure!(
        complaints.iter().any(|complaint| {
            complaint.code.contains("version") && complaint.text.contains("one minor version at a time")
        }),
        "{complaints:?}"
    );
    for version in ["3.6.16", "3.7.3"] {
        let next = Configuration::new(&lab, &FIVE, version)?;
        roll(&mut scene, &format!("five members to {version}"), &next)?;
        for host in FIVE {
            let runs = status(&lab, host)?.version;
            ensure!(runs == version, "{host} runs {runs}");
        }
    }
    // There is no way back.
    let back = Configuration::new(&lab, &FIVE, "3.6.16")?;
    scene.terraform.write("main.tf", &back.render())?;
    let complaints = scene.terraform.complaints()?;
    ensure!(
        complaints.iter().any(|complaint| complaint.text.contains("downgrade")),
        "{complaints:?}"
    );
    Ok(())
}

#[test]
fn another_version_at_the_same_path() -> Result<()> {
    let hosts = ["a1", "b1", "c1"];
    let lab = Builder::standard(&prefix("roll-path")).only(&hosts).up()?;
    let lies = |version: &str| -> Result<Configuration> {
        for host in hosts {
            let put = format!("rm -rf /opt/current; cp -r /opt/etcd/{version} /opt/current");
            lab.exec(host, &put)?.ok()?;
        }
        let configuration = Configuration::new(&lab, &hosts, version)?;
        Ok(configuration.member("binary", "{ host_path = \"/opt/current\" }"))
    };
    let mut scene = Scene::found_as(&lab, &hosts, &lies("3.6.16")?)?;
    roll(&mut scene, "another version at the same path", &lies("3.7.3")?)?;
    for host in hosts {
        let runs = status(&lab, host)?.version;
        ensure!(runs == "3.7.3", "{host} runs {runs}");
    }
    Ok(())
}

#[test]
fn nobody_is_restarted_where_that_would_break_the_quorum() -> Result<()> {
    let hosts = ["a1", "b1", "c1"];
    let lab = Builder::standard(&prefix("roll-quorum")).only(&hosts).up()?;
    let scene = Scene::found(&lab, &hosts)?;
    lab.exec("c1", "systemctl stop etcd-main")?.ok()?;
    let before = started(&lab, &["a1", "b1"])?;
    let wanted =
        || Ok::<_, anyhow::Error>(Configuration::new(&lab, &hosts, "3.6.16")?.member("config", snapshots(20_000)));
    let hurried = wanted()?.member("timeouts", "{ update = \"15s\" }");
    scene.terraform.write("main.tf", &hurried.render())?;
    let only = "-target=etcd_member.this[\"a1\"]";
    let said = scene
        .terraform
        .run(&["apply", "-auto-approve", "-input=false", "-json", only])?;
    let complaints = Complaint::all(&said.stdout);
    ensure!(
        complaints.iter().any(|complaint| complaint
            .text
            .contains("1 of 3 voting members would be healthy, where 2 have to be")),
        "{complaints:?}"
    );
    ensure!(started(&lab, &["a1", "b1"])? == before, "a member was restarted");
    ctl(&lab, "a1", "put works yes")?;
    // With the third one back the same change goes through. One member waits for the other, so all of them get more time.
    lab.exec("c1", "systemctl start etcd-main")?.ok()?;
    scene.terraform.write("main.tf", &wanted()?.render())?;
    scene.terraform.apply()?;
    scene.is_whole()
}
