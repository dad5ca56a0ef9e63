//! Snapshots: taken while a client writes, in a file that etcd's own tools take for one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, cache_folder};
use serde_json::Value;

use crate::configuration::{Configuration, quoted};
use crate::outside::{leader, status};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

pub const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

/// A snapshot of the cluster `main` with these arguments beside its cluster.
pub fn resource(arguments: &str) -> String {
    format!(
        "resource \"etcd_snapshot\" \"main\" {{\n  cluster    = etcd_cluster.main\n  depends_on = [etcd_member.this]\n{arguments}\n}}\n"
    )
}

/// What etcd's own tool says of a snapshot file.
pub fn said_by_etcd(file: &Path) -> Result<Value> {
    let tool = cache_folder().join("etcd/3.6.16/etcdutl");
    let output = std::process::Command::new(tool)
        .args(["snapshot", "status", "-w", "json"])
        .arg(file)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

fn taken_under_load(test: &str, terraform: &str, etcd: &str) -> Result<()> {
    let lab = Builder::standard(&prefix(test)).only(&HOSTS).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    let terraform = Terraform::new(&lab, terraform)?;
    let configuration = Configuration::new(&lab, &HOSTS, etcd)?.render();
    terraform.configure(&configuration)?;
    terraform.apply()?;
    let folder = terraform.work().join("snapshots");
    let wanted = |trigger: &str, keep: u32| {
        let arguments = format!(
            "directory = {}\nkeep = {keep}\ntriggers = {{ number = {} }}",
            quoted(&folder.display().to_string()),
            quoted(trigger)
        );
        configuration.clone() + &resource(&arguments)
    };
    let writer = Writer::start(&lab, &HOSTS)?;
    let mut last = 0;
    for number in 1..=3 {
        let before = writer.acknowledged();
        terraform.write("main.tf", &wanted(&number.to_string(), 2))?;
        let begun = Instant::now();
        terraform.apply()?;
        let taken = terraform.attributes("etcd_snapshot.main")?;
        let file = PathBuf::from(taken["file"].as_str().context("no file")?);
        let said = said_by_etcd(&file)?;
        ensure!(said["revision"] == taken["revision"], "{said} and {taken:#}");
        let revision = taken["revision"].as_u64().context("no revision")?;
        ensure!(
            revision > last && revision >= before,
            "{revision} after {last}, {before} written before"
        );
        last = revision;
        let meta = fs::metadata(&file)?;
        ensure!(
            meta.permissions().mode() & 0o777 == 0o600 && taken["size"] == meta.len(),
            "{taken:#}"
        );
        let leads = leader(&lab, &HOSTS)?;
        ensure!(taken["member"] != leads, "taken from the leader: {taken:#}");
        ensure!(taken["etcd_version"] == etcd, "{taken:#}");
        ensure!(
            taken["cluster_id"] == format!("{:x}", status(&lab, "a1")?.cluster_id),
            "{taken:#}"
        );
        terraform.nothing_to_do()?;
        eprintln!(
            "{test}: a snapshot of {} bytes, applied in {:.1?}",
            meta.len(),
            begun.elapsed()
        );
    }
    let two = files(&folder)?;
    ensure!(two.len() == 2, "{two:?}");
    // How many stay is no reason for another one.
    terraform.write("main.tf", &wanted("3", 1))?;
    terraform.apply()?;
    ensure!(files(&folder)? == two[1..], "{:?}", files(&folder)?);
    // What is gone is taken again.
    fs::remove_file(&two[1])?;
    terraform.apply()?;
    ensure!(files(&folder)?.len() == 1, "{:?}", files(&folder)?);
    let written = writer.stop()?;
    eprintln!("{test}: {written}");
    written.nothing_lost()?;
    // Destroyed with everything else, the file stays.
    terraform.destroy()?;
    ensure!(files(&folder)?.len() == 1, "{:?}", files(&folder)?);
    let state = fs::read_to_string(terraform.work().join("terraform.tfstate.backup"))?;
    let state: Value = serde_json::from_str(&state)?;
    let resources = state["resources"].as_array().context("no resources")?;
    let own = resources
        .iter()
        .find(|one| one["type"] == "etcd_snapshot")
        .context("no snapshot")?;
    ensure!(
        !own.to_string().contains("PRIVATE KEY"),
        "a private key is in its state"
    );
    Ok(())
}

#[test]
fn a_snapshot_is_taken_while_a_client_writes() -> Result<()> {
    taken_under_load("snapshot", "1.11", "3.6.16")
}

#[test]
fn a_snapshot_of_the_oldest_etcd_is_taken_by_the_newest_terraform() -> Result<()> {
    taken_under_load("snapshot-old", "1.15", "3.4.23")
}

#[test]
fn a_place_that_can_not_be_written_to_is_named() -> Result<()> {
    let lab = Builder::standard(&prefix("snapshot-place")).only(&["a1"]).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &["a1"], "3.7.3")?.render();
    terraform.configure(&(configuration.clone() + &resource("path = \"/proc/none/main.db\"")))?;
    let said = terraform.apply_fails()?;
    ensure!(
        said.contains("There is no snapshot of the cluster main") && said.contains("/proc/none"),
        "{said}"
    );
    // Without anybody to ask there is none either, and the one that there was stays.
    let path = terraform.work().join("main.db");
    let wanted = |trigger: &str| {
        let path = quoted(&path.display().to_string());
        configuration.clone() + &resource(&format!("path = {path}\n triggers = {{ now = {} }}", quoted(trigger)))
    };
    terraform.write("main.tf", &wanted("1"))?;
    terraform.apply()?;
    let before = fs::read(&path)?;
    lab.exec("a1", "systemctl stop etcd-main; systemctl disable etcd-main")?
        .ok()?;
    terraform.write("main.tf", &wanted("2"))?;
    // Of the snapshot alone: an apply of everything would start the member first.
    let planned = terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color", "-refresh=false"])?;
    ensure!(!planned.success(), "it was taken from nobody: {}", planned.stdout);
    ensure!(
        planned.stderr.contains("none of the cluster's members answers"),
        "{}",
        planned.stderr
    );
    ensure!(fs::read(&path)? == before, "the snapshot before was touched");
    lab.exec("a1", "systemctl start etcd-main")?.ok()?;
    terraform.apply()?;
    Ok(())
}
