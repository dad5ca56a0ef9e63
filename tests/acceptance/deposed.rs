//! `create_before_destroy`: Terraform creates the new object first, and then deletes the old one, on the same thing in the world. The
//! delete takes nothing away.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::access::{ACCESS, equip, is_on};
use crate::configuration::Configuration;
use crate::outside::{ctl, eventually};
use crate::prefix;
use crate::rolling::started;
use crate::scaling::{Scene, VERSION};
use crate::writer::Writer;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
const FIRST: &str = "create_before_destroy = true";
const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];

/// The cluster with these lines in the `lifecycle` of its members, and more resources.
fn with_lifecycle(lab: &Lab, lifecycle: &str, more: &str) -> Result<String> {
    let text = Configuration::new(lab, &HOSTS, VERSION)?.render();
    let server = "server = each.key\n";
    Ok(text.replace(server, &format!("{server}  lifecycle {{\n{lifecycle}\n  }}\n")) + more)
}

/// What depends on the members, and comes before what it replaces: so do they then, though they don't say so.
const DEPENDS: &str = r#"
variable "round" { default = 1 }
resource "terraform_data" "trigger" { input = var.round }
resource "terraform_data" "after" {
  input            = values(etcd_member.this)[*].id
  triggers_replace = [var.round]
  lifecycle { create_before_destroy = true }
  provisioner "local-exec" {
    command = "touch began; while [ -e hold ]; do sleep 0.2; done"
  }
}
"#;

#[test]
fn members_that_are_created_before_they_are_destroyed() -> Result<()> {
    let lab = Builder::standard(&prefix("deposed")).only(&HOSTS).up()?;
    let scene = Scene::found(&lab, &HOSTS)?;
    let terraform = &scene.terraform;
    let before = started(&lab, &HOSTS)?;
    let writer = Writer::start(&lab, &HOSTS)?;
    let is_as_it_was = |what: &str| -> Result<()> {
        eprintln!("{what}");
        scene.is_whole()?;
        ensure!(started(&lab, &HOSTS)? == before, "{what}: members were restarted");
        let state = std::fs::read_to_string(terraform.work().join("terraform.tfstate"))?;
        ensure!(
            !state.contains("\"deposed\""),
            "{what}: deposed objects stay in the state"
        );
        Ok(())
    };

    terraform.write("main.tf", &with_lifecycle(&lab, FIRST, "")?)?;
    let replace = [&APPLY[..], &["-replace=etcd_member.this[\"b1\"]"]].concat();
    let said = terraform.run(&replace)?.ok()?;
    ensure!(said.contains("1 added") && said.contains("1 destroyed"), "{said}");
    is_as_it_was("one is replaced")?;

    let trigger = "replace_triggered_by = [terraform_data.trigger]";
    terraform.configure(&with_lifecycle(&lab, &format!("{FIRST}\n{trigger}"), DEPENDS)?)?;
    terraform.apply()?;
    let second = [&APPLY[..], &["-var=round=2"]].concat();
    let said = terraform.run(&second)?.ok()?;
    ensure!(said.contains("etcd_member.this[\"c1\"] (deposed object"), "{said}");
    let planned = [
        "plan",
        "-detailed-exitcode",
        "-input=false",
        "-no-color",
        "-var=round=2",
    ];
    ensure!(terraform.run(&planned)?.code == 0);
    is_as_it_was_with(&scene, &lab, &before, "all are replaced")?;

    // They inherit it of what depends on them.
    let inherited = with_lifecycle(&lab, trigger, DEPENDS)?;
    terraform.write("main.tf", &inherited.replace("default = 1", "default = 3"))?;
    terraform.apply()?;
    is_as_it_was("all are replaced, as what depends on them has it")?;

    // Killed when the new ones were created and the old ones were not deleted.
    for (round, arguments) in [(4, "-refresh=false"), (5, "")] {
        std::fs::remove_file(terraform.work().join("began"))?;
        terraform.write("hold", "")?;
        terraform.write(
            "main.tf",
            &inherited.replace("default = 1", &format!("default = {round}")),
        )?;
        terraform.shell(
            "terraform apply -auto-approve -input=false -no-color >said 2>&1 &\n\
             while [ ! -e began ]; do kill -0 $!; sleep 0.2; done; kill -9 $!; rm hold",
        )?;
        let state = std::fs::read_to_string(terraform.work().join("terraform.tfstate"))?;
        ensure!(
            state.matches("\"deposed\"").count() == 3,
            "not killed in between:\n{state}"
        );
        let mut apply = APPLY.to_vec();
        if !arguments.is_empty() {
            apply.push(arguments);
        }
        let said = terraform.run(&apply)?.ok()?;
        ensure!(said.contains("deposed object"), "{said}");
        is_as_it_was(&format!("killed in between; {arguments}"))?;
    }
    let written = writer.stop()?;
    eprintln!("{written}");
    written.nothing_lost()?;

    // A member that really leaves does, though it was replaced before. Its object is deleted after its cluster was changed, so the server
    // goes in the next apply.
    terraform.configure(
        &Configuration::new(&lab, &HOSTS, VERSION)?
            .members_on(&["a1", "b1"])
            .render(),
    )?;
    terraform.apply()?;
    terraform.configure(&Configuration::new(&lab, &["a1", "b1"], VERSION)?.render())?;
    terraform.apply()?;
    let scene = Scene {
        hosts: vec!["a1", "b1"],
        ..scene
    };
    scene.is_whole()?;
    scene.terraform.destroy()?;
    for host in HOSTS {
        let left = crate::outside::leftovers(&lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
    }
    Ok(())
}

fn is_as_it_was_with(scene: &Scene<'_>, lab: &Lab, before: &BTreeMap<String, u64>, what: &str) -> Result<()> {
    eprintln!("{what}");
    eventually("all are of one cluster", || {
        Ok(crate::outside::one_cluster(lab, &HOSTS)? == scene.cluster)
    })?;
    ensure!(started(lab, &HOSTS)? == *before, "{what}: members were restarted");
    for host in HOSTS {
        let members = crate::outside::member_list(lab, host)?;
        ensure!(
            members.len() == 3 && members.iter().all(|one| !one.learner),
            "{host}: {members:?}"
        );
    }
    Ok(())
}

#[test]
fn access_control_that_is_created_before_it_is_destroyed() -> Result<()> {
    let lab = Builder::standard(&prefix("deposed-auth")).only(&HOSTS).up()?;
    let scene = Scene::found(&lab, &HOSTS)?;
    let terraform = &scene.terraform;
    equip(&lab, terraform, &HOSTS)?;
    ctl(&lab, "a1", "put motd hello")?;
    let base = Configuration::new(&lab, &HOSTS, VERSION)?.render();
    let held = ACCESS.replace(
        "  cluster ",
        &format!("  lifecycle {{\n    {FIRST}\n    replace_triggered_by = [terraform_data.trigger]\n  }}\n  cluster "),
    ) + &DEPENDS.replace(
        "values(etcd_member.this)[*].id",
        "[etcd_auth.main.id, etcd_user.guest.id]",
    );
    let held = held.replacen("data \"etcd_cluster_status\" \"main\" {\n  lifecycle {\n    create_before_destroy = true\n    replace_triggered_by = [terraform_data.trigger]\n  }\n", "data \"etcd_cluster_status\" \"main\" {\n", 1);
    let at = |round: u8| base.clone() + &held.replace("default = 1", &format!("default = {round}"));
    terraform.configure(&at(1))?;
    terraform.apply()?;
    is_on(&lab, terraform, "a1", VERSION)?;
    terraform.write("main.tf", &at(2))?;
    let said = terraform.apply()?;
    ensure!(said.contains("etcd_auth.main (deposed object"), "{said}");
    is_on(&lab, terraform, "a1", VERSION)?;
    terraform.nothing_to_do()?;
    eprintln!("replaced in one run");

    for (round, arguments) in [(3, "-refresh=false"), (4, "")] {
        std::fs::remove_file(terraform.work().join("began"))?;
        terraform.write("hold", "")?;
        terraform.write("main.tf", &at(round))?;
        terraform.shell(
            "terraform apply -auto-approve -input=false -no-color >said 2>&1 &\n\
             while [ ! -e began ]; do kill -0 $!; sleep 0.2; done; kill -9 $!; rm hold",
        )?;
        let mut apply = APPLY.to_vec();
        if !arguments.is_empty() {
            apply.push(arguments);
        }
        let said = terraform.run(&apply)?.ok()?;
        ensure!(said.contains("deposed object"), "{said}");
        is_on(&lab, terraform, "a1", VERSION)?;
        terraform.nothing_to_do()?;
        eprintln!("killed in between; {arguments}");
    }
    // What is really taken away goes.
    terraform.write("main.tf", &base)?;
    terraform.apply()?;
    ctl(&lab, "a1", "get motd")?;
    let users = ctl(&lab, "a1", "user list")?;
    ensure!(!users.contains("guest") && !users.contains("writer"), "{users}");
    let ours = ctl(&lab, "a1", "get --prefix terraform-provider-etcd/ --keys-only")?;
    ensure!(ours.trim().is_empty(), "{ours}");
    scene.is_whole()
}

#[test]
fn a_snapshot_that_is_taken_before_the_former_one_is_destroyed() -> Result<()> {
    let lab = Builder::standard(&prefix("deposed-snap")).only(&["a1"]).up()?;
    let scene = Scene::found(&lab, &["a1"])?;
    let terraform = &scene.terraform;
    let snapshot = "resource \"etcd_snapshot\" \"main\" {\n  cluster = etcd_cluster.main\n  path = \"${path.module}/main.db\"\n  on_destroy = \"delete\"\n  lifecycle { create_before_destroy = true }\n  depends_on = [etcd_member.this]\n}\n";
    let base = Configuration::new(&lab, &["a1"], VERSION)?.render();
    terraform.write("main.tf", &(base.clone() + snapshot))?;
    terraform.apply()?;
    let replace = [&APPLY[..], &["-replace=etcd_snapshot.main"]].concat();
    terraform.run(&replace)?.ok()?;
    ensure!(
        terraform.work().join("main.db").exists(),
        "the new snapshot was deleted"
    );
    terraform.nothing_to_do()?;
    terraform.write("main.tf", &base)?;
    terraform.apply()?;
    ensure!(!terraform.work().join("main.db").exists(), "the snapshot stays");
    Ok(())
}
