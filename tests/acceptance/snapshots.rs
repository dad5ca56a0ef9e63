//! Snapshots: taken while a client writes, in a file that etcd's own tools take for one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab, cache_folder, private_key_file};
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
        let led = leader(&lab, &HOSTS)?;
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
        // Another election may have come in between on a busy machine.
        ensure!(
            led != leads || taken["member"] != leads,
            "taken from the leader: {taken:#}"
        );
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
        planned.stderr.contains("None of the cluster's members answers"),
        "{}",
        planned.stderr
    );
    ensure!(fs::read(&path)? == before, "the snapshot before was touched");
    lab.exec("a1", "systemctl start etcd-main")?.ok()?;
    terraform.apply()?;
    Ok(())
}

#[test]
fn a_snapshot_is_taken_before_a_change_of_version() -> Result<()> {
    let lab = Builder::standard(&prefix("snapshot-action")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let folder = terraform.work().join("snapshots");
    let wanted = |version: &str| {
        let configuration =
            Configuration::new(&lab, &HOSTS, version)?.member("version", "terraform_data.version.output");
        let action = format!(
            r#"
action "etcd_snapshot" "main" {{
  config {{
    cluster   = etcd_cluster.main
    directory = {}
    keep      = 1
  }}
}}
resource "terraform_data" "version" {{
  input = {}
  lifecycle {{
    action_trigger {{
      events  = [before_update]
      actions = [action.etcd_snapshot.main]
    }}
  }}
}}
"#,
            quoted(&folder.display().to_string()),
            quoted(version)
        );
        Ok::<_, anyhow::Error>(configuration.render() + &action)
    };
    terraform.configure(&wanted("3.5.30")?)?;
    terraform.apply()?;
    ensure!(!folder.exists(), "taken without a reason");
    terraform.write("main.tf", &wanted("3.6.16")?)?;
    let said = terraform.apply()?;
    ensure!(said.contains("taking it from the member on"), "{said}");
    let one = files(&folder)?;
    ensure!(one.len() == 1, "{one:?}");
    said_by_etcd(&one[0])?;
    ensure!(status(&lab, "a1")?.version == "3.6.16", "not upgraded");
    // By hand, and the one before goes.
    let invoke = [
        "apply",
        "-auto-approve",
        "-input=false",
        "-no-color",
        "-invoke=action.etcd_snapshot.main",
    ];
    let said = terraform.run(&invoke)?.ok()?;
    ensure!(said.contains("revision") && said.contains("one too many"), "{said}");
    ensure!(
        files(&folder)?.len() == 1 && files(&folder)? != one,
        "{:?}",
        files(&folder)?
    );
    Ok(())
}

/// How much is written for the measurement.
const MEBIBYTES: u32 = 1024;

/// The most memory that a process has had, in KiB.
fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The same by `etcdctl snapshot save` through `ssh -L`.
fn saved_through_ssh(lab: &Lab, folder: &Path) -> Result<Duration> {
    for (name, file) in [
        ("ca.crt", "client-ca.crt"),
        ("client.crt", "server.crt"),
        ("client.key", "server.key"),
    ] {
        fs::write(
            folder.join(name),
            lab.read_file("a1", &format!("/etc/etcd/main/pki/{file}"))?,
        )?;
    }
    let script = format!(
        "ssh -i {key} -o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes -o ExitOnForwardFailure=yes -N -L 23790:127.0.0.1:2379 admin@{address} &
        tunnel=$!
        trap 'kill $tunnel' EXIT
        until ss -Hltn 'sport = :23790' | grep -q .; do sleep 0.05; done
        begun=$(date +%s%N)
        {etcdctl} --endpoints=https://127.0.0.1:23790 --cacert=ca.crt --cert=client.crt --key=client.key --command-timeout=10m snapshot save saved.db >/dev/null 2>&1 || exit 1
        echo $(( ($(date +%s%N) - begun) / 1000000 ))",
        key = private_key_file().display(),
        known = lab.known_hosts_file().display(),
        address = lab.public_address("a1")?.context("a1 has no public address")?,
        etcdctl = cache_folder().join("etcd/3.6.16/etcdctl").display(),
    );
    let output = lab
        .controller("sh")
        .args(["-c", &script])
        .current_dir(folder)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let millis = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    Ok(Duration::from_millis(millis))
}

#[test]
#[ignore = "a measurement: run it by name with --ignored, and with a provider of the release profile in ACCEPTANCE_PROVIDER"]
fn how_long_a_gibibyte_takes() -> Result<()> {
    let lab = Builder::standard(&prefix("snapshot-large")).only(&["a1"]).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &["a1"], "3.6.16")?
        .member("config", "{ \"quota-backend-bytes\" = \"4294967296\" }")
        .render();
    terraform.configure(&configuration)?;
    terraform.apply()?;
    lab.exec(
        "a1",
        "head -c 1048000 /dev/urandom | base64 -w 0 | head -c 1048000 >/tmp/value",
    )?
    .ok()?;
    for at in 0..MEBIBYTES {
        crate::outside::ctl(&lab, "a1", &format!("put large/{at} </tmp/value"))?;
    }
    let path = terraform.work().join("large.db");
    let mut table = Vec::new();
    for round in 0..3 {
        let theirs = saved_through_ssh(&lab, &terraform.work())?;
        let arguments = format!(
            "path = {}\ntriggers = {{ round = \"{round}\" }}",
            quoted(&path.display().to_string())
        );
        terraform.write("main.tf", &(configuration.clone() + &resource(&arguments)))?;
        let plan = ["plan", "-input=false", "-no-color", "-refresh=false", "-out=saved.plan"];
        terraform.run(&plan)?.ok()?;
        let begun = Instant::now();
        let mut running = terraform.start(&["apply", "-input=false", "-no-color", "saved.plan"])?;
        let mut peak = 0;
        while !running.ended()? {
            peak = running
                .providers()
                .into_iter()
                .filter_map(peak_of)
                .max()
                .unwrap_or(0)
                .max(peak);
            std::thread::sleep(Duration::from_millis(20));
        }
        running.wait()?.ok()?;
        let ours = begun.elapsed();
        let size = fs::metadata(&path)?.len();
        eprintln!(
            "{size} bytes: etcdctl through ssh -L {theirs:.1?}, terraform apply {ours:.1?}, the provider's peak {peak} KiB"
        );
        table.push((theirs, ours, peak));
    }
    said_by_etcd(&path)?;
    let best = |all: Vec<Duration>| all.into_iter().min().unwrap_or_default();
    let theirs = best(table.iter().map(|row| row.0).collect());
    let ours = best(table.iter().map(|row| row.1).collect());
    let peak = table.iter().map(|row| row.2).max().unwrap_or(0);
    eprintln!(
        "best of three: {theirs:.1?} and {ours:.1?}, {:.2} times",
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
    ensure!(peak < 64 * 1024, "the provider took {peak} KiB");
    Ok(())
}
