//! Plans that would take a founded cluster away and make an empty one in its place, and the way back from data that was set aside.

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::configuration::Configuration;
use crate::outside::{ctl, member_list};
use crate::prefix;
use crate::rolling::started;
use crate::scaling::{Scene, VERSION};
use crate::terraform::Terraform;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

/// What a plan with these arguments is refused with.
fn refused(terraform: &Terraform<'_>, arguments: &[&str]) -> Result<String> {
    let plan = [&["plan", "-input=false", "-no-color"], arguments].concat();
    let said = terraform.run(&plan)?;
    ensure!(!said.success(), "the plan succeeded:\n{}", said.stdout);
    // A terminal's frame, and lines that are wrapped.
    let words: Vec<&str> = said
        .stderr
        .split_whitespace()
        .filter(|word| !"╷│╵".contains(word))
        .collect();
    Ok(words.join(" "))
}

#[test]
fn a_founded_cluster_is_not_replaced_by_an_empty_one() -> Result<()> {
    let lab = Builder::standard(&prefix("refound")).only(&HOSTS).up()?;
    let scene = Scene::found(&lab, &HOSTS)?;
    let terraform = &scene.terraform;
    terraform.apply()?;
    ctl(&lab, "a1", "put kept yes")?;
    let before = started(&lab, &HOSTS)?;
    let base = Configuration::new(&lab, &HOSTS, VERSION)?.render();
    let would_be_empty = "The founded cluster main would be replaced by an empty one";

    // Another address, in words and in the order of Terraform's choice; without a refresh too.
    let elsewhere = base
        .replace("\"etcd_cluster\" \"main\"", "\"etcd_cluster\" \"other\"")
        .replace("etcd_cluster.main", "etcd_cluster.other");
    let all = elsewhere.replace("\"etcd_member\" \"this\"", "\"etcd_member\" \"node\"");
    for text in [&elsewhere, &all] {
        terraform.write("main.tf", text)?;
        for arguments in [&[][..], &["-refresh=false"], &["-parallelism=1"]] {
            let said = refused(terraform, arguments)?;
            ensure!(said.contains(would_be_empty), "{said}");
            ensure!(said.contains("moved { from = etcd_cluster.<old>"), "{said}");
        }
    }
    // Followed word by word.
    let moved = "moved {\n  from = etcd_cluster.main\n  to   = etcd_cluster.other\n}\nmoved {\n  from = etcd_member.this\n  to   = etcd_member.node\n}\n";
    terraform.write("main.tf", &(all + moved))?;
    let said = terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    ensure!(said.contains("0 to add, 0 to change, 0 to destroy"), "{said}");

    // Another name: at the same address, and at another one.
    terraform.write("main.tf", &base.replace("name = \"main\"", "name = \"prod\""))?;
    let said = refused(terraform, &[])?;
    ensure!(
        said.contains("A running cluster can't become another one") && said.contains("(\"main\")"),
        "{said}"
    );
    terraform.write("main.tf", &elsewhere.replace("name = \"main\"", "name = \"prod\""))?;
    let said = refused(terraform, &[])?;
    ensure!(
        said.contains(would_be_empty) && said.contains("Write `name = \"main\"` again"),
        "{said}"
    );

    terraform.write("main.tf", &base)?;
    let said = refused(terraform, &["-replace=etcd_cluster.main"])?;
    ensure!(said.contains(would_be_empty) && said.contains("leave it out"), "{said}");

    // The state was lost.
    let kept = std::fs::read(terraform.work().join("terraform.tfstate"))?;
    terraform.forget()?;
    let said = terraform.apply_fails()?;
    ensure!(
        said.contains("Cluster main can't be founded") && said.contains("import {"),
        "{said}"
    );
    ensure!(!said.contains("destroy"), "{said}");
    std::fs::write(terraform.work().join("terraform.tfstate"), kept)?;

    // Protected.
    let protected = Configuration::new(&lab, &HOSTS, VERSION)?.cluster("deletion_protection", "true");
    terraform.write("main.tf", &protected.render())?;
    terraform.apply()?;
    let said = refused(terraform, &["-destroy"])?;
    ensure!(
        said.contains("The cluster main is protected from being destroyed"),
        "{said}"
    );
    ensure!(
        !terraform
            .run(&["destroy", "-auto-approve", "-input=false", "-no-color"])?
            .success()
    );
    ensure!(started(&lab, &HOSTS)? == before, "members were stopped");
    scene.is_whole()?;
    terraform.write("main.tf", &protected.cluster("deletion_protection", "false").render())?;
    terraform.apply()?;
    terraform.destroy()?;
    back_from_what_was_set_aside(&lab, terraform, &base)
}

/// The guide on disaster recovery, word by word.
fn back_from_what_was_set_aside(lab: &Lab, terraform: &Terraform<'_>, base: &str) -> Result<()> {
    terraform.write("main.tf", base)?;
    let said = terraform.apply()?;
    ensure!(said.contains("The cluster main is founded empty"), "{said}");
    ensure!(said.contains("/var/lib/etcd/main.removed-"), "{said}");
    ensure!(ctl(lab, "a1", "get kept")?.trim().is_empty());
    terraform.destroy()?;

    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guides/disaster-recovery.md"))?;
    let section = guide
        .split("## Back from data that was set aside")
        .nth(1)
        .context("no section")?;
    let commands = section
        .split("```shell\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .context("no commands")?;
    // The oldest that lies there is the one before it was founded empty.
    let aside = lab.exec("a1", "ls -d /var/lib/etcd/main.removed-* | head -n 1")?.ok()?;
    let commands = commands
        .replace("/var/lib/etcd/main.removed-20260101T000000Z", aside.trim())
        .replace("/usr/local/lib/etcd/3.6.16", &format!("/opt/etcd/{VERSION}"));
    let said = lab.exec("a1", &format!("set -eu\n{commands}"))?.ok()?;
    ensure!(said.to_lowercase().contains("revision"), "{said}");
    let snapshot = lab.exec("a1", "base64 -w0 /root/main.db")?.ok()?;
    terraform.write("main.db.base64", snapshot.trim())?;
    terraform.shell("base64 -d main.db.base64 >main.db")?;
    let restore = Configuration::new(lab, &HOSTS, VERSION)?.cluster("restore", "{ snapshot_file = \"main.db\" }");
    terraform.write("main.tf", &restore.render())?;
    terraform.apply()?;
    for host in HOSTS {
        ensure!(ctl(lab, host, "get kept --print-value-only")?.trim() == "yes");
        ensure!(member_list(lab, host)?.len() == 3);
    }
    terraform.nothing_to_do()?;
    Ok(())
}
