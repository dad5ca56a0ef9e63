//! Servers that are dead, or lost what they had: each in one apply, while a client writes.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab, Output};

use crate::complaint::Complaint;
use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, hosts_block, leader, leftovers, member_list, one_cluster};
use crate::prefix;
use crate::scaling::{Scene, VERSION};
use crate::writer::Writer;

const THREE: [&str; 3] = ["a1", "b1", "c1"];
const FIVE: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];
const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];
/// What a refresh may take longer for a server that does not answer.
const WAIT: Duration = Duration::from_secs(15);

/// Applies the configuration of these servers, and wants it to succeed; how long it took, and what Terraform said.
fn apply(scene: &Scene, configuration: &Configuration, arguments: &[&str]) -> Result<(Duration, Output)> {
    scene.terraform.write("main.tf", &configuration.render())?;
    let begun = Instant::now();
    let said = scene.terraform.run(&[&APPLY, arguments].concat())?;
    said.clone().ok()?;
    Ok((begun.elapsed(), said))
}

/// The ID of the member on this host, as another host's member lists it.
fn listed_id(lab: &Lab, at: &str, name: &str) -> Result<u64> {
    let members = member_list(lab, at)?;
    let found = members.iter().find(|member| member.name == name);
    found
        .map(|member| member.id)
        .with_context(|| format!("{at} does not list {name}"))
}

#[test]
fn a_dead_server_is_taken_out() -> Result<()> {
    let lab = Builder::standard(&prefix("dead-out")).only(&THREE).up()?;
    let mut scene = Scene::found(&lab, &THREE)?;
    let writer = Writer::start(&lab, &THREE)?;
    let begun = Instant::now();
    scene.terraform.nothing_to_do()?;
    let usual = begun.elapsed();
    lab.power_off("b1")?;
    writer.without("b1");

    // It is said, and changes nothing, within a few seconds.
    let begun = Instant::now();
    let plan = scene
        .terraform
        .run(&["plan", "-detailed-exitcode", "-input=false", "-no-color"])?;
    let took = begun.elapsed();
    ensure!(
        plan.code == 0,
        "a plan with a dead server: {}{}",
        plan.stdout,
        plan.stderr
    );
    ensure!(plan.stdout.contains("b1 can't be reached"), "not said: {}", plan.stdout);
    ensure!(took < usual + WAIT, "the plan took {took:?}, and {usual:?} before");

    let without = Configuration::new(&lab, &["a1", "c1"], VERSION)?;
    let (took, said) = apply(&scene, &without, &[])?;
    ensure!(
        said.stdout.contains("Server b1 was left as it is"),
        "not said: {}",
        said.stdout
    );
    scene.hosts = vec!["a1", "c1"];
    scene.is_whole()?;
    let written = writer.stop()?;
    eprintln!("a dead server taken out: applied in {took:.1?}; {written}");
    written.nothing_lost()?;

    // Should it come back, it finds that it was removed, and stays out.
    lab.power_on("b1")?;
    eventually("the removed member has stopped", || {
        Ok(!lab.exec("b1", "pgrep -x etcd")?.success())
    })?;
    scene.is_whole()
}

#[test]
fn a_dead_server_is_replaced_by_a_machine_under_its_name() -> Result<()> {
    a_dead_server_is_replaced("dead-new", &THREE, 0.0)
}

#[test]
#[ignore = "a measurement of some minutes: run it by name with --ignored"]
fn a_dead_server_of_five_is_replaced() -> Result<()> {
    a_dead_server_is_replaced("dead-five", &FIVE, 0.0)
}

#[test]
#[ignore = "a measurement of some minutes: run it by name with --ignored"]
fn a_dead_server_is_replaced_at_a_distance() -> Result<()> {
    a_dead_server_is_replaced("dead-new-far", &THREE, 50.0)
}

#[test]
#[ignore = "a measurement of some minutes: run it by name with --ignored"]
fn a_dead_server_of_five_is_replaced_at_a_distance() -> Result<()> {
    a_dead_server_is_replaced("dead-five-far", &FIVE, 50.0)
}

fn a_dead_server_is_replaced(name: &str, hosts: &[&'static str], one_way: f64) -> Result<()> {
    let what = format!("of {} at {} ms", hosts.len(), 2.0 * one_way);
    let others: Vec<&str> = hosts.iter().copied().filter(|host| *host != "b1").collect();
    let mut lab = Builder::standard(&prefix(name)).only(hosts).up()?;
    lab.wan_everywhere(Delay::ms(one_way))?;
    let (cluster, old) = {
        let scene = Scene::found(&lab, hosts)?;
        std::fs::copy(scene.terraform.work().join("terraform.tfstate"), state_file(&lab))?;
        (scene.cluster, listed_id(&lab, "a1", "b1")?)
    };
    lab.power_off("b1")?;
    lab.replace_machine("b1")?;
    lab.power_on("b1")?;
    lab.set_private("b1", Ipv4Addr::new(10, 0, 0, 77))?;
    lab.set_public("b1", Ipv4Addr::new(203, 0, 113, 77))?;

    let mut scene = Scene::resume(&lab, hosts, cluster)?;
    std::fs::copy(state_file(&lab), scene.terraform.work().join("terraform.tfstate"))?;
    let writer = Writer::start(&lab, &others)?;
    let configuration = Configuration::new(&lab, hosts, VERSION)?;
    scene.terraform.write("main.tf", &configuration.render())?;

    // A key that nobody vouches for is refused, as for any new server, and nothing is changed.
    let complaints = scene.terraform.complaints()?;
    Complaint::expect(&complaints, "etcd_server.b1", "resource", &["host key is not known"])?;
    ensure!(
        listed_id(&lab, "a1", "b1")? == old,
        "the old member was removed for a machine that is not trusted"
    );

    lab.trust("b1")?;
    writer.through("b1");
    let (took, _) = apply(&scene, &configuration, &[])?;
    scene.hosts = hosts.to_vec();
    scene.is_whole()?;
    let new = listed_id(&lab, "a1", "b1")?;
    ensure!(new != old, "the new member has the old one's ID");
    let state = scene.terraform.attributes("etcd_member.this[\"b1\"]")?;
    ensure!(
        state["member_id"] == format!("{new:x}"),
        "the state has {}",
        state["member_id"]
    );
    let written = writer.stop()?;
    eprintln!("a dead server {what} replaced: applied in {took:.1?}; {written}");
    written.nothing_lost()?;

    // Installed anew at the same address: what was pinned holds, until the user says that it is another one.
    let writer = Writer::start(&lab, hosts)?;
    lab.power_off("b1")?;
    lab.replace_machine("b1")?;
    lab.power_on("b1")?;
    lab.trust("b1")?;
    let plan = scene.terraform.run(&["plan", "-input=false", "-no-color"])?;
    ensure!(
        plan.code == 1 && plan.stderr.contains("Error: Server b1 refuses the connection"),
        "not said: {}{}",
        plan.stdout,
        plan.stderr
    );
    let (took, _) = apply(&scene, &configuration, &["-replace=etcd_server.b1"])?;
    scene.is_whole()?;
    ensure!(
        listed_id(&lab, "a1", "b1")? != new,
        "the new member has the old one's ID"
    );
    let written = writer.stop()?;
    eprintln!("a server {what} installed anew: applied in {took:.1?}; {written}");
    written.nothing_lost()
}

fn state_file(lab: &Lab) -> std::path::PathBuf {
    lab.known_hosts_file().with_file_name("kept.tfstate")
}

#[test]
fn one_that_is_down_does_not_keep_others_from_coming_and_going() -> Result<()> {
    let lab = Builder::standard(&prefix("dead-away")).up()?;
    let mut scene = Scene::found(&lab, &FIVE)?;
    let leader = leader(&lab, &FIVE)?;
    let down = if leader == "b2" { "c1" } else { "b2" };
    let goes = if leader == "a2" { "a1" } else { "a2" };
    let four: Vec<&str> = FIVE.into_iter().filter(|host| *host != goes).collect();
    let up: Vec<&str> = FIVE.into_iter().filter(|host| *host != down).collect();
    let writer = Writer::start(&lab, &up)?;
    lab.power_off(down)?;

    writer.without(goes);
    let (took, said) = apply(&scene, &Configuration::new(&lab, &four, VERSION)?, &[])?;
    ensure!(
        said.stdout.contains(&format!("Server {down} was not reached")),
        "not said: {}",
        said.stdout
    );
    ensure!(
        said.stdout.contains(&format!("Member {down} was not changed")),
        "not said: {}",
        said.stdout
    );
    let left = leftovers(&lab, goes)?;
    ensure!(left.is_empty(), "left on {goes}: {left}");
    let listed = member_list(&lab, leader)?;
    ensure!(
        listed.len() == 4 && listed.iter().all(|member| member.name != goes),
        "{listed:?}"
    );
    eprintln!("{goes} taken out while {down} is down: applied in {took:.1?}");

    // The state does not claim that it was written to.
    let plan = scene
        .terraform
        .run(&["plan", "-detailed-exitcode", "-input=false", "-no-color"])?;
    ensure!(
        plan.code == 2,
        "a plan does not say that {down} is to be written to: {}",
        plan.stdout
    );

    writer.through(goes);
    let five = Configuration::new(&lab, &FIVE, VERSION)?;
    let (took, _) = apply(&scene, &five, &[])?;
    let listed = member_list(&lab, leader)?;
    ensure!(
        listed.len() == 5 && listed.iter().all(|member| !member.learner),
        "{listed:?}"
    );
    eprintln!("{goes} added while {down} is down: applied in {took:.1?}");

    // Its own view is of four still: it has not heard of any change.
    lab.power_on(down)?;
    writer.through(down);
    apply(&scene, &five, &[])?;
    scene.hosts = FIVE.to_vec();
    scene.is_whole()?;
    ensure!(hosts_block(&lab, down)?.len() == 5, "{down} does not have its view");
    let written = writer.stop()?;
    eprintln!("one down, one out and in: {written}");
    written.nothing_lost()
}

#[test]
fn a_removal_that_would_break_quorum_is_refused() -> Result<()> {
    let lab = Builder::standard(&prefix("dead-quorum")).only(&THREE).up()?;
    let scene = Scene::found(&lab, &THREE)?;
    lab.exec("b1", "systemctl stop etcd-main")?.ok()?;
    let before = member_list(&lab, "a1")?;
    let two = Configuration::new(&lab, &["a1", "b1"], VERSION)?;
    scene.terraform.write("main.tf", &two.render())?;
    let said = scene.terraform.run(&[&APPLY[..], &["-refresh=false"]].concat())?;
    ensure!(!said.success(), "it was allowed: {}", said.stdout);
    let words = said
        .stderr
        .split_whitespace()
        .filter(|word| *word != "│")
        .collect::<Vec<_>>()
        .join(" ");
    let arithmetic =
        "without it 2 voting members would remain, of which 2 have to agree, and only 1 of them are healthy now";
    ensure!(
        words.contains("Member c1 can't leave") && words.contains(arithmetic),
        "{words}"
    );
    ensure!(member_list(&lab, "a1")? == before, "the member list was changed");
    ensure!(
        lab.exec("c1", "systemctl is-active etcd-main")?.success(),
        "c1 was stopped"
    );
    // With the member that was stopped back it goes.
    lab.exec("b1", "systemctl start etcd-main")?.ok()?;
    eventually("b1 is back", || Ok(one_cluster(&lab, &THREE).is_ok()))?;
    scene.terraform.apply()?;
    Scene {
        hosts: vec!["a1", "b1"],
        ..scene
    }
    .is_whole()
}

#[test]
fn data_lost_a_learner_left_behind_and_a_replacement_on_demand() -> Result<()> {
    let lab = Builder::standard(&prefix("dead-data")).up()?;
    let mut scene = Scene::found(&lab, &THREE)?;
    let three = Configuration::new(&lab, &THREE, VERSION)?;

    let old = listed_id(&lab, "a1", "b1")?;
    let writer = Writer::start(&lab, &THREE)?;
    lab.exec(
        "b1",
        "systemctl kill --signal=KILL etcd-main; systemctl stop etcd-main; rm -rf /var/lib/etcd/main",
    )?
    .ok()?;
    let (took, _) = apply(&scene, &three, &[])?;
    scene.is_whole()?;
    ensure!(
        listed_id(&lab, "a1", "b1")? != old,
        "b1 came back under its ID, without its data"
    );
    let written = writer.stop()?;
    eprintln!("data lost: applied in {took:.1?}; {written}");
    written.nothing_lost()?;

    let writer = Writer::start(&lab, &THREE)?;
    // etcd changes no membership before all have been connected for five seconds ("unhealthy cluster").
    let add = "member add b2 --learner --peer-urls=https://b2.main.etcd.internal:2380";
    eventually("etcd adds a learner", || Ok(ctl(&lab, "a1", add).is_ok()))?;
    writer.through("b2");
    let four = ["a1", "b1", "b2", "c1"];
    let (took, _) = apply(&scene, &Configuration::new(&lab, &four, VERSION)?, &[])?;
    scene.hosts = four.to_vec();
    scene.is_whole()?;
    let written = writer.stop()?;
    eprintln!("a learner that was left behind: applied in {took:.1?}; {written}");
    written.nothing_lost()?;

    let writer = Writer::start(&lab, &four)?;
    let old = listed_id(&lab, "a1", "b1")?;
    let replace = ["-replace=etcd_member.this[\"b1\"]"];
    let (took, _) = apply(&scene, &Configuration::new(&lab, &four, VERSION)?, &replace)?;
    scene.is_whole()?;
    ensure!(listed_id(&lab, "a1", "b1")? != old, "b1 was not replaced");
    let written = writer.stop()?;
    eprintln!("replaced on demand: applied in {took:.1?}; {written}");
    written.nothing_lost()
}

#[test]
fn the_last_member_is_not_replaced() -> Result<()> {
    let lab = Builder::standard(&prefix("dead-last")).only(&["a1"]).up()?;
    let scene = Scene::found(&lab, &["a1"])?;
    let said = scene
        .terraform
        .run(&[&APPLY[..], &["-replace=etcd_member.this[\"a1\"]"]].concat())?;
    ensure!(!said.success(), "it was replaced: {}", said.stdout);
    ensure!(said.stderr.contains("Member a1 can't leave"), "{}", said.stderr);
    scene.is_whole()
}

#[test]
fn a_whole_cluster_is_taken_down_at_once() -> Result<()> {
    let lab = Builder::standard(&prefix("dead-all")).up()?;
    let scene = Scene::found(&lab, &FIVE)?;
    let begun = Instant::now();
    scene.terraform.destroy()?;
    let took = begun.elapsed();
    for host in FIVE {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
        let log = lab.exec(
            host,
            "journalctl -u etcd-main -o cat --no-pager | grep -c 'removed member\\|applied a configuration change'",
        )?;
        // Each member's founding has one for each member; a removal would be one more.
        ensure!(!log.stdout.trim().is_empty(), "no log on {host}");
        let removed = lab.exec(
            host,
            "journalctl -u etcd-main -o cat --no-pager | grep 'removed member'",
        )?;
        ensure!(removed.stdout.is_empty(), "{host} saw a removal: {}", removed.stdout);
    }
    eprintln!("five destroyed in {took:.1?}");

    let scene = Scene::found(&lab, &FIVE)?;
    lab.power_off("b2")?;
    let begun = Instant::now();
    let said = scene.terraform.destroy()?;
    eprintln!("five destroyed, of which one was dead, in {:.1?}", begun.elapsed());
    ensure!(said.contains("Server b2 was left as it is"), "{said}");
    for host in ["a1", "a2", "b1", "c1"] {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
    }

    let scene = Scene::found(&lab, &["a1", "a2", "b1", "c1"])?;
    let begun = Instant::now();
    scene
        .terraform
        .run(&[
            "destroy",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-parallelism=1",
        ])?
        .ok()?;
    eprintln!("four destroyed one by one in {:.1?}", begun.elapsed());
    ["a1", "a2", "b1", "c1"].iter().try_for_each(|host| {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
        Ok(())
    })
}
