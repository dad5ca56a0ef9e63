//! Snapshots that the servers take by themselves, and a cluster that comes back from one of them when Terraform's machine is lost too.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab, private_key_file};
use serde_json::Value;

use crate::complaint::Complaint;
use crate::configuration::Configuration;
use crate::outside::{Listed, ctl, eventually, leftovers, member_list, one_cluster};
use crate::prefix;
use crate::restore::restore;
use crate::snapshots::HOSTS;
use crate::terraform::Terraform;

const FOLDER: &str = "/var/lib/etcd-snapshots/main";
const TAKE: &str = "systemctl start etcd-snapshot@main.service";

fn configuration(lab: &Lab, hosts: &[&str], etcd: &str, snapshots: &str) -> Result<Configuration> {
    Ok(Configuration::new(lab, hosts, etcd)?.member("snapshots", snapshots))
}

fn on(lab: &Lab, host: &str, script: &str) -> Result<String> {
    lab.exec(host, script)?
        .ok()
        .with_context(|| format!("on {host}: {script}"))
}

/// The snapshots on a host, the oldest first.
fn files(lab: &Lab, host: &str) -> Result<Vec<String>> {
    let text = on(lab, host, &format!("ls -1 {FOLDER}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The revision of the member on this host.
fn revision(lab: &Lab, host: &str) -> Result<u64> {
    let text = ctl(lab, host, "endpoint status -w json")?;
    let status: Value = serde_json::from_str(&text)?;
    status[0]["Status"]["header"]["revision"]
        .as_u64()
        .context("no revision")
}

/// Writes a key and has the host take a snapshot in another second than the one before; its name.
fn take(lab: &Lab, host: &str, reader: &str) -> Result<String> {
    let now = revision(lab, host)? + 1;
    ctl(lab, host, &format!("put key/{now} {now}"))?;
    on(
        lab,
        host,
        &format!("was=$(date +%s); until [ $was != $(date +%s) ]; do sleep 0.05; done; {TAKE}"),
    )?;
    let newest = files(lab, host)?.pop().context("there is none")?;
    ensure!(newest.ends_with(&format!("-r{now}.db")), "{newest} at revision {now}");
    let said = on(
        lab,
        host,
        &format!("ETCDCTL_API=3 {reader} snapshot status {FOLDER}/{newest} -w json 2>/dev/null"),
    )?;
    let said: Value = serde_json::from_str(&said)?;
    ensure!(said["revision"] == now, "{newest}: {said}");
    Ok(newest)
}

/// Has the host try, and wants it to refuse in these words and to leave the snapshots as they are.
fn refused(lab: &Lab, host: &str, words: &str) -> Result<()> {
    let before = files(lab, host)?;
    ensure!(!lab.exec(host, TAKE)?.success(), "{host} took one");
    let status = on(
        lab,
        host,
        "systemctl show -p ExecMainStatus --value etcd-snapshot@main.service",
    )?;
    let said = on(lab, host, "journalctl -u etcd-snapshot@main -o cat --no-pager -n 20")?;
    ensure!(status.trim() == "75" && said.contains(words), "{host}: {status}{said}");
    ensure!(
        on(lab, host, &format!("ls -A1 {FOLDER}"))?.lines().eq(before),
        "{host} changed its snapshots"
    );
    Ok(())
}

fn waits(lab: &Lab, host: &str) -> Result<()> {
    let said = on(
        lab,
        host,
        "systemctl show -p ActiveState -p SubState -p UnitFileState -p NextElapseUSecRealtime etcd-snapshot@main.timer",
    )?;
    let has = |line: &str| said.lines().any(|one| one == line);
    ensure!(
        has("ActiveState=active") && has("SubState=waiting") && has("UnitFileState=enabled"),
        "{host}: {said}"
    );
    ensure!(!has("NextElapseUSecRealtime="), "{host}: {said}");
    Ok(())
}

fn processes(lab: &Lab) -> Result<Vec<String>> {
    HOSTS
        .iter()
        .map(|host| on(lab, host, "systemctl show -p MainPID etcd-main"))
        .collect()
}

#[test]
fn a_lost_cluster_comes_back_from_what_its_servers_took() -> Result<()> {
    const READER: &str = "/opt/etcd/3.6.16/etcdutl";
    let lab = Builder::standard(&prefix("scheduled")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let wanted = |snapshots: &str| Ok::<_, anyhow::Error>(configuration(&lab, &HOSTS, "3.6.16", snapshots)?.render());
    // What only the server's systemd knows is said before anything of the member is there.
    terraform.configure(&wanted("{ schedule = \"*-02-30\" }")?)?;
    let complaints = terraform.complaints()?;
    for host in HOSTS {
        let address = format!("etcd_member.this[{host:?}]");
        Complaint::expect(
            &complaints,
            &address,
            "snapshots",
            &[host, "*-02-30 never comes", "Nothing was changed"],
        )?;
        let there = lab.exec(host, "ls /etc/systemd/system/etcd* /etc/etcd/main/etcd.yaml")?;
        ensure!(there.stdout.is_empty(), "{host}: {}", there.stdout);
    }

    let status = "data \"etcd_cluster_status\" \"main\" {\n  cluster    = etcd_cluster.main\n  depends_on = [etcd_member.this]\n}\n\
        output \"problems\" { value = data.etcd_cluster_status.main.problems }\n\
        output \"snapshots\" { value = { for name, one in data.etcd_cluster_status.main.members : name => one.snapshots } }\n";
    terraform.write("main.tf", &wanted("{ schedule = \"yearly\", keep = 2 }")?)?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    HOSTS.iter().try_for_each(|host| waits(&lab, host))?;
    let took: Vec<String> = (0..3).map(|_| take(&lab, "a1", READER)).collect::<Result<_>>()?;
    ensure!(files(&lab, "a1")? == took[1..], "{:?} of {took:?}", files(&lab, "a1")?);
    let modes = on(&lab, "a1", &format!("stat -c '%a %u' {FOLDER} {FOLDER}/*"))?;
    ensure!(modes.trim() == "700 0\n600 0\n600 0", "{modes}");
    terraform.nothing_to_do()?;

    // Another schedule is no reason for a restart.
    let running = processes(&lab)?;
    terraform.write("main.tf", &wanted("{ schedule = \"*-06-15 03:30\", keep = 3 }")?)?;
    terraform.apply()?;
    for host in HOSTS {
        waits(&lab, host)?;
        let spec = on(&lab, host, "systemctl show -p TimersCalendar etcd-snapshot@main.timer")?;
        ensure!(spec.contains("06-15 03:30"), "{host}: {spec}");
    }
    // What was changed by hand shows, and is mended.
    on(&lab, "b1", "systemctl disable --quiet --now etcd-snapshot@main.timer")?;
    on(
        &lab,
        "c1",
        &format!("rm /etc/etcd/main/scheduled-snapshot; rmdir {FOLDER}"),
    )?;
    let planned = terraform.run(&["plan", "-detailed-exitcode", "-input=false", "-no-color"])?;
    for words in [
        "\"snapshot timer\"",
        "is stopped",
        "/etc/etcd/main/scheduled-snapshot\"",
        &format!("{FOLDER}\""),
        "0 to add, 2 to change",
    ] {
        ensure!(
            planned.code == 2 && planned.stdout.contains(words),
            "{words}: {}",
            planned.stdout
        );
    }
    terraform.apply()?;
    HOSTS.iter().try_for_each(|host| waits(&lab, host))?;
    terraform.nothing_to_do()?;
    ensure!(processes(&lab)? == running, "etcd was restarted");

    // One without a leader may be behind, and one that is stopped has nothing to say.
    on(&lab, "b1", "systemctl stop etcd-main")?;
    on(&lab, "c1", "systemctl stop etcd-main")?;
    refused(
        &lab,
        "b1",
        "no snapshot was taken: the member does not run (etcd-main.service)",
    )?;
    refused(&lab, "a1", "no snapshot was taken: ")?;
    let said = on(&lab, "a1", "journalctl -u etcd-snapshot@main -o cat --no-pager -n 20")?;
    ensure!(
        said.contains("knows no leader") || said.contains("no quorum confirms"),
        "{said}"
    );
    on(&lab, "b1", "systemctl start etcd-main")?;
    on(&lab, "c1", "systemctl start etcd-main")?;
    eventually("all are one cluster again", || Ok(one_cluster(&lab, &HOSTS).is_ok()))?;
    terraform.write("status.tf", status)?;
    terraform.apply()?;
    let outputs: Value = serde_json::from_str(&terraform.run(&["output", "-json"])?.ok()?)?;
    let problems = outputs["problems"]["value"].as_array().context("no problems")?;
    for (host, why) in [("a1", ""), ("b1", "the member does not run")] {
        let said = format!("{host}: it takes no snapshots as it should: its last run took none: {why}");
        ensure!(
            problems
                .iter()
                .any(|one| one.as_str().is_some_and(|one| one.starts_with(&said))),
            "{problems:#?}"
        );
    }
    let of_a1 = &outputs["snapshots"]["value"]["a1"];
    ensure!(
        of_a1["newest"] == format!("{FOLDER}/{}", took[2]) && of_a1["count"] == 2,
        "{of_a1}"
    );

    // The last one, and what is written after it.
    let newest = take(&lab, "c1", READER)?;
    let before = ctl(&lab, "c1", "get --prefix --keys-only key/")?;
    ctl(&lab, "c1", "put key/later 1")?;
    // Terraform's machine is lost, and all members' data.
    drop(terraform);
    for host in HOSTS {
        on(
            &lab,
            host,
            "systemctl kill -s KILL etcd-main; systemctl stop etcd-main; rm -rf /var/lib/etcd/main",
        )?;
    }
    comes_back(&lab, &newest, &before, &wanted)?;
    Ok(())
}

/// What the guide says, from a machine that has nothing but the configuration and the key.
fn comes_back(lab: &Lab, newest: &str, before: &str, wanted: &dyn Fn(&str) -> Result<String>) -> Result<()> {
    let terraform = Terraform::new(lab, "1.11")?;
    let ssh = |host: &str, command: &str| -> Result<Vec<u8>> {
        let address = lab.public_address(host)?.context("no public address")?;
        let known = format!("UserKnownHostsFile={}", lab.known_hosts_file().display());
        let output = lab
            .controller("ssh")
            .arg("-i")
            .arg(private_key_file())
            .args([
                "-o",
                &known,
                "-o",
                "StrictHostKeyChecking=yes",
                &format!("admin@{address}"),
                command,
            ])
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    };
    let mut all = Vec::new();
    for host in HOSTS {
        let listed = String::from_utf8(ssh(host, &format!("sudo ls {FOLDER}"))?)?;
        all.extend(listed.lines().map(|name| (name.to_owned(), host)));
    }
    let (name, host) = all.into_iter().max().context("there is none")?;
    ensure!((name.as_str(), host) == (newest, "c1"), "{name} on {host}");
    let file: PathBuf = terraform.work().join("main.db");
    fs::write(&file, ssh(host, &format!("sudo cat {FOLDER}/{name}"))?)?;
    for host in HOSTS {
        ssh(host, FORGET)?;
    }
    let restored = configuration(lab, &HOSTS, "3.6.16", "{ schedule = \"*-06-15 03:30\", keep = 3 }")?
        .cluster("restore", restore(&file, ", bump_revision = 1000000"));
    terraform.configure(&restored.render())?;
    terraform.apply()?;
    one_cluster(lab, &HOSTS)?;
    for host in HOSTS {
        let keys = ctl(lab, host, "get --prefix --keys-only key/")?;
        ensure!(keys == before, "{host} has {keys}, and {before} were in {name}");
        waits(lab, host)?;
    }
    terraform.write("main.tf", &wanted("{ schedule = \"*-06-15 03:30\", keep = 3 }")?)?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    // Destroyed, nothing is left but the snapshots.
    terraform.destroy()?;
    for host in HOSTS {
        let left = leftovers(lab, host)?;
        ensure!(left.is_empty(), "left on {host}:\n{left}");
        let stamp = lab.exec(host, "ls -d /var/lib/systemd/timers/*etcd* /etc/etcd")?;
        ensure!(stamp.stdout.is_empty(), "left on {host}: {}", stamp.stdout);
    }
    ensure!(files(lab, "c1")?.contains(&name), "{name} is gone");
    Ok(())
}

/// The command of the guide that has a server forget its old member; what may be left of its data is renamed.
const FORGET: &str = "sudo sh -c 'systemctl disable --now etcd-main etcd-snapshot@main.timer etcd-hosts@main.path
mv /var/lib/etcd/main /var/lib/etcd/main.lost
rm -rf /etc/etcd/main /etc/systemd/system/etcd-main.service /etc/systemd/system/etcd-snapshot@main.* /etc/systemd/system/etcd-hosts@main.*
systemctl daemon-reload'";

/// Of the oldest etcd, without TLS, alone: imported as it is, and destroyed with all that it has.
#[test]
fn the_oldest_etcd_takes_snapshots_and_is_imported_with_them() -> Result<()> {
    let lab = Builder::standard(&prefix("scheduled-old")).only(&["a1"]).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let with = |snapshots: &str| {
        let configuration = configuration(&lab, &["a1"], "3.4.23", snapshots)?;
        Ok::<_, anyhow::Error>(
            configuration
                .cluster("tls", "{ enabled = false }")
                .member("on_destroy", "\"delete_data\"")
                .render(),
        )
    };
    // What the configuration alone tells is said in the plan.
    // Only the plan knows the cluster's name, and so its members' data directory.
    let one = "etcd_member.this[\"a1\"]";
    for (wrong, address, words) in [
        (
            "{ schedule = \"every hour\" }",
            "etcd_member.this",
            "no calendar expression",
        ),
        ("{ schedule = \"hourly\", keep = 0 }", "etcd_member.this", "1 at least"),
        (
            "{ schedule = \"hourly\", directory = \"/var/lib/etcd/main/snapshots\" }",
            one,
            "is renamed as a whole",
        ),
    ] {
        terraform.configure(&with(wrong)?)?;
        Complaint::expect(&terraform.complaints()?, address, "snapshots", &[words])?;
    }
    terraform.write(
        "main.tf",
        &with("{ schedule = \"*-06-15 UTC\", keep = 1, directory = \"/backup/etcd\" }")?,
    )?;
    // Others could put something else there.
    on(&lab, "a1", "mkdir -p /backup/etcd; chmod 0777 /backup/etcd")?;
    Complaint::expect(
        &terraform.complaints()?,
        "etcd_member.this[\"a1\"]",
        "snapshots",
        &["others than root can write to /backup/etcd"],
    )?;
    let default = with("{ schedule = \"*-06-15 UTC\", keep = 1 }")?;
    terraform.write("main.tf", &default)?;
    terraform.apply()?;
    waits(&lab, "a1")?;
    take(&lab, "a1", "/opt/etcd/3.4.23/etcdctl")?;
    let newest = take(&lab, "a1", "/opt/etcd/3.4.23/etcdctl")?;
    ensure!(files(&lab, "a1")? == [newest.clone()], "{:?}", files(&lab, "a1")?);
    // A disk that would be full is left as it is.
    on(
        &lab,
        "a1",
        &format!("mount -t tmpfs -o size=64m,mode=700 tmpfs {FOLDER}"),
    )?;
    refused(&lab, "a1", "512 more have to stay free")?;
    on(&lab, "a1", &format!("umount {FOLDER}"))?;

    terraform.forget()?;
    let (network, private) = (lab.spec().site_of("a1")?, lab.private_address("a1")?);
    let public = lab.public_address("a1")?.context("no public address")?;
    let server =
        format!("{{ network = \"{network}\", private_address = \"{private}\", public_address = \"{public}\" }}");
    let imports = format!(
        "import {{\n  to = etcd_server.a1\n  id = jsonencode(merge({{ name = \"a1\" }}, {server}))\n}}\n\
         import {{\n  to = etcd_cluster.main\n  id = jsonencode({{ name = \"main\", servers = {{ a1 = {server} }} }})\n}}\n\
         import {{\n  to = etcd_member.this[\"a1\"]\n  id = jsonencode({{ cluster = \"main\", server = \"a1\", servers = {{ a1 = {server} }} }})\n}}\n"
    );
    terraform.write("main.tf", &(default.clone() + &imports))?;
    let applied = terraform.apply()?;
    // What becomes of the data is on no server.
    ensure!(
        applied.contains("3 imported, 0 added, 1 changed, 0 destroyed"),
        "{applied}"
    );
    let snapshots = terraform.attributes("etcd_member.this[\"a1\"]")?["snapshots"].clone();
    ensure!(
        snapshots == serde_json::json!({"schedule": "*-06-15 UTC", "keep": 1, "directory": FOLDER}),
        "{snapshots}"
    );
    terraform.write("main.tf", &default)?;
    terraform.nothing_to_do()?;

    // Taken back: no unit is left, and the snapshots stay; with the member they go, as its data does.
    let process = on(&lab, "a1", "systemctl show -p MainPID etcd-main")?;
    terraform.write("main.tf", &with("null")?)?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    let units = on(
        &lab,
        "a1",
        "systemctl --no-legend --all list-unit-files 'etcd-snapshot*'; ls /etc/systemd/system/ /etc/etcd/main | grep snapshot || true",
    )?;
    ensure!(units.is_empty() && files(&lab, "a1")? == [newest], "{units}");
    ensure!(
        process == on(&lab, "a1", "systemctl show -p MainPID etcd-main")?,
        "etcd was restarted"
    );
    terraform.destroy()?;
    let left = leftovers(&lab, "a1")? + &lab.exec("a1", "ls -d /var/lib/etcd-snapshots")?.stdout;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

/// A learner may lack what a snapshot would then lack too. An apply makes a voter of it as soon as it has caught up, so this one is made by hand.
#[test]
fn a_learner_takes_none() -> Result<()> {
    let lab = Builder::standard(&prefix("scheduled-learner")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let wanted = configuration(&lab, &HOSTS, "3.6.16", "{ schedule = \"yearly\" }")?;
    terraform.configure(&wanted.render())?;
    terraform.apply()?;
    let of_c1 = |host: &str| -> Result<Listed> {
        let found = member_list(&lab, host)?.into_iter().find(|one| {
            let urls = one.peer_urls.iter();
            urls.clone().any(|url| url.contains("//c1."))
        });
        found.context("c1 is not listed")
    };
    // Not within five seconds of a start.
    eventually("etcd takes c1 out", || {
        Ok(ctl(&lab, "a1", &format!("member remove {:x}", of_c1("a1")?.id)).is_ok())
    })?;
    on(&lab, "c1", "systemctl stop etcd-main; rm -r /var/lib/etcd/main/member")?;
    eventually("etcd takes a learner", || {
        let add = "member add c1 --learner --peer-urls=https://c1.main.etcd.internal:2380";
        Ok(ctl(&lab, "a1", add).is_ok())
    })?;
    let join = "cd /etc/etcd/main; cp -p founding.yaml joining.yaml; cp token joining-permit
        sed -i 's/^initial-cluster-state: .*/initial-cluster-state: existing/' joining.yaml; systemctl start etcd-main";
    on(&lab, "c1", join)?;
    eventually("c1 is a learner that answers", || {
        Ok(of_c1("a1")?.learner && ctl(&lab, "c1", "endpoint status").is_ok())
    })?;
    refused(
        &lab,
        "c1",
        "no snapshot was taken: the member is a learner, which may not have all data yet",
    )?;
    eventually("c1 is a voter", || {
        let promoted = ctl(&lab, "a1", &format!("member promote {:x}", of_c1("a1")?.id));
        Ok(promoted.is_ok() && !of_c1("a1")?.learner)
    })?;
    eventually("c1 takes part", || Ok(ctl(&lab, "c1", "put here yes").is_ok()))?;
    take(&lab, "c1", "/opt/etcd/3.6.16/etcdutl").map(drop)
}
