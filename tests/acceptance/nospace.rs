//! The database is full: what is seen of it, what goes on, and what heals it.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use etcd_lab::{Builder, Lab};
use serde_json::Value;

use crate::actions::invoke;
use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, member_list};
use crate::prefix;
use crate::rolling::started;
use crate::scaling::{Scene, VERSION};
use crate::writer::Writer;

const THREE: [&str; 3] = ["a1", "b1", "c1"];
const SMALL: &str = "{ \"quota-backend-bytes\" = \"16777216\" }";
const LARGER: &str = "{ \"quota-backend-bytes\" = \"67108864\" }";
const STATUS: &str = r#"
data "etcd_cluster_status" "main" {
  cluster    = etcd_cluster.main
  depends_on = [etcd_member.this]
}
output "status" { value = data.etcd_cluster_status.main }
action "etcd_compact" "history" {
  config {
    cluster = etcd_cluster.main
    keep    = 10
  }
}
action "etcd_defragment" "all" {
  config { cluster = etcd_cluster.main }
}
action "etcd_disarm_alarms" "all" {
  config { cluster = etcd_cluster.main }
}
"#;

/// Writes one key again and again, until etcd takes no more: all but its last revision is what a compaction gives back.
fn fill(lab: &Lab, host: &str) -> Result<()> {
    lab.exec(host, "head -c 500000 /dev/urandom | base64 >/tmp/much")?
        .ok()?;
    for _ in 0..100 {
        if let Err(error) = ctl(lab, host, "put fill </tmp/much") {
            ensure!(format!("{error:#}").contains("database space exceeded"), "{error:#}");
            return Ok(());
        }
    }
    bail!("a hundred large values and no end");
}

fn seen(scene: &Scene<'_>) -> Result<Value> {
    scene.terraform.apply()?;
    Ok(scene.terraform.state()?["values"]["outputs"]["status"]["value"].take())
}

/// Somebody else has the lock on this server, for longer than the test takes.
fn hold(lab: &Lab, host: &str) -> Result<()> {
    let script =
        "read -r now _ </proc/uptime; echo \"$((${now%%.*} + 3600)) stranger a stranger\" >/run/etcd-main.lock";
    lab.exec(host, script)?.ok().map(drop)
}

#[test]
fn a_full_database_is_seen_and_healed() -> Result<()> {
    let lab = Builder::standard(&prefix("nospace")).up()?;
    let base = |hosts: &[&str], options: &str| -> Result<Configuration> {
        Ok(Configuration::new(&lab, hosts, VERSION)?.member("config", options))
    };
    let mut scene = Scene::found_as(&lab, &THREE, &base(&THREE, SMALL)?)?;
    let write = |scene: &Scene<'_>, configuration: Configuration| {
        scene.terraform.write("main.tf", &(configuration.render() + STATUS))
    };
    fill(&lab, "a1")?;

    // It is seen.
    write(&scene, base(&THREE, SMALL)?)?;
    let full = seen(&scene)?;
    ensure!(full["healthy"] == false && full["has_quorum"] == true, "{full:#}");
    let problems = full["problems"].to_string();
    ensure!(problems.contains("the alarm NOSPACE is raised"), "{problems}");
    scene.terraform.write("main.tf", &base(&THREE, SMALL)?.render())?;
    scene.terraform.apply()?;
    scene.terraform.nothing_to_do()?;

    // Whoever else changes the cluster is waited for, though etcd takes no lock; one server alone is not enough to have it.
    hold(&lab, "b1")?;
    hold(&lab, "c1")?;
    let hasty = base(&THREE, LARGER)?.member("timeouts", "{ update = \"20s\" }");
    write(&scene, hasty)?;
    let before = started(&lab, &THREE)?;
    let refused = scene.terraform.apply_fails()?;
    ensure!(refused.contains("a stranger is changing this cluster"), "{refused}");
    ensure!(started(&lab, &THREE)? == before, "a member was restarted");
    lab.exec("c1", "rm /run/etcd-main.lock")?.ok()?;

    // A larger quota is a rolling change like any other.
    write(&scene, base(&THREE, LARGER)?)?;
    let began = Instant::now();
    scene.terraform.apply().context("a larger quota")?;
    eprintln!(
        "a larger quota while NOSPACE is raised: applied in {:.1?}",
        began.elapsed()
    );
    for (host, time) in started(&lab, &THREE)? {
        ensure!(before[&host] != time, "{host} was not restarted");
    }
    let left = lab.exec("a1", "ls /run/etcd-main.lock")?;
    ensure!(!left.success(), "the lock was left: {}", left.stdout);
    lab.exec("b1", "rm /run/etcd-main.lock")?.ok()?;

    // So is another member, and one less.
    let full = seen(&scene)?;
    ensure!(full["members"]["a1"]["quota"] == 67_108_864, "{full:#}");
    ensure!(full["problems"].to_string().contains("NOSPACE"), "{full:#}");
    let four = ["a1", "a2", "b1", "c1"];
    write(&scene, base(&four, LARGER)?)?;
    scene.terraform.apply().context("3 to 4")?;
    ensure!(member_list(&lab, "a2")?.len() == 4);
    let three = ["a2", "b1", "c1"];
    let leaves = id_of(&lab, "a1")?;
    raise(&lab, "a2", leaves, "NOSPACE")?;
    write(&scene, base(&three, LARGER)?)?;
    scene.terraform.apply().context("4 to 3")?;
    ensure!(member_list(&lab, "a2")?.len() == 3);
    scene.hosts = three.to_vec();

    // Its alarm stays when it has left.
    let orphaned = format!("the alarm NOSPACE of a member that has left (ID {leaves:x}) is raised still");
    let left = seen(&scene)?;
    ensure!(
        left["problems"].to_string().contains(&orphaned),
        "{:#}",
        left["problems"]
    );
    heal(&scene)?;
    let whole = seen(&scene)?;
    ensure!(whole["healthy"] == true, "{:#}", whole["problems"]);
    scene.terraform.write("main.tf", &base(&three, LARGER)?.render())?;
    scene.terraform.apply()?;
    scene.is_whole()?;
    let writer = Writer::start(&lab, &three)?;
    eventually("it is written again", || Ok(writer.acknowledged() > 100))?;
    writer.stop()?.nothing_lost()?;
    scene.terraform.destroy().map(drop)
}

/// Compact, defragment each, disarm: as the guide says.
fn heal(scene: &Scene<'_>) -> Result<()> {
    for (action, said) in [
        ("etcd_compact.history", "is forgotten"),
        ("etcd_defragment.all", "won on 3 members"),
        ("etcd_disarm_alarms.all", "NOSPACE"),
    ] {
        let words = invoke(&scene.terraform, action, &[])?;
        ensure!(words.contains(said), "{action}: {words}");
    }
    Ok(())
}

/// As the member itself would raise it.
fn raise(lab: &Lab, through: &str, member: u64, alarm: &str) -> Result<()> {
    let request = format!("{{\"action\":\"ACTIVATE\",\"memberID\":\"{member}\",\"alarm\":\"{alarm}\"}}");
    let raise = format!(
        "cd /etc/etcd/main/pki; curl -sSf --cacert client-ca.crt --cert operator.crt --key operator.key \
         https://127.0.0.1:2379/v3/maintenance/alarm -d '{request}'"
    );
    lab.exec(through, &raise)?.ok().map(drop)
}

fn id_of(lab: &Lab, host: &str) -> Result<u64> {
    let members = member_list(lab, host)?;
    let own = members.iter().find(|one| one.name == host);
    own.map(|one| one.id)
        .with_context(|| format!("no {host} in {members:?}"))
}

/// The data of one member are said to differ: it alone may be disturbed, by being replaced.
#[test]
fn a_member_whose_data_differ_is_replaced_and_no_other_is_touched() -> Result<()> {
    let lab = Builder::standard(&prefix("corrupt")).only(&THREE).up()?;
    let configuration = Configuration::new(&lab, &THREE, VERSION)?;
    let scene = Scene::found_as(&lab, &THREE, &configuration)?;
    let b1 = id_of(&lab, "b1")?;
    raise(&lab, "a1", b1, "CORRUPT")?;
    ensure!(ctl(&lab, "a1", "put x y").is_err(), "etcd writes");

    let before = started(&lab, &THREE)?;
    let other = configuration
        .clone()
        .member("config", "{ \"snapshot-count\" = \"20000\" }")
        .member("timeouts", "{ update = \"60s\" }");
    scene.terraform.write("main.tf", &other.render())?;
    let refused = scene.terraform.apply_fails()?;
    ensure!(refused.contains("the data of the members on b1 differ"), "{refused}");
    let after = started(&lab, &THREE)?;
    ensure!(before["a1"] == after["a1"] && before["c1"] == after["c1"], "disturbed");

    let disarm = "action \"etcd_disarm_alarms\" \"all\" {\n  config {\n    cluster = etcd_cluster.main\n    corrupt = true\n  }\n}\n";
    scene.terraform.write("main.tf", &(configuration.render() + disarm))?;
    let replace = [
        "apply",
        "-auto-approve",
        "-input=false",
        "-no-color",
        "-replace=etcd_member.this[\"b1\"]",
    ];
    scene.terraform.run(&replace)?.ok().context("b1 replaced")?;
    let now = member_list(&lab, "a1")?;
    ensure!(now.len() == 3 && now.iter().all(|one| one.id != b1), "{now:?}");
    let said = invoke(&scene.terraform, "etcd_disarm_alarms.all", &[])?;
    ensure!(said.contains("CORRUPT is taken back"), "{said}");
    scene.is_whole()?;

    // Where no majority agrees etcd names nobody, and nobody is disturbed.
    raise(&lab, "a1", 0, "CORRUPT")?;
    let before = started(&lab, &THREE)?;
    scene.terraform.write("main.tf", &(other.render() + disarm))?;
    let refused = scene.terraform.apply_fails()?;
    ensure!(refused.contains("no majority of them agrees"), "{refused}");
    ensure!(started(&lab, &THREE)? == before, "disturbed");
    let said = invoke(&scene.terraform, "etcd_disarm_alarms.all", &[])?;
    ensure!(said.contains("the whole cluster: CORRUPT is taken back"), "{said}");
    scene.terraform.apply()?;
    scene.is_whole()?;
    scene.terraform.destroy().map(drop)
}
