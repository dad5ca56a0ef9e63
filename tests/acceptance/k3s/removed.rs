//! A member is taken out by other means than ours: by `etcdctl member remove`, or by `kubectl delete node`, which does the same.

use super::*;

/// Takes the host's member out through another one. etcd does so once the others have been connected for five seconds.
fn remove(lab: &Lab, host: &str, through: &str) -> Result<()> {
    eventually("it is taken out", || {
        let listed = ctl(lab, through, "member list")?;
        let Some(line) = listed.lines().find(|line| line.contains(&format!(" {host}-"))) else {
            return Ok(true);
        };
        let id = line.split_once(',').context("no ID")?.0;
        Ok(ctl(lab, through, &format!("member remove {id}")).is_ok())
    })
}

/// The cluster's ID, as the etcd of each of these hosts that answers has it.
fn clusters(lab: &Lab, hosts: &[&str]) -> Result<BTreeSet<String>> {
    let id = |host: &&str| {
        let said = ctl(lab, host, "endpoint status -w json").ok()?;
        let said: Value = serde_json::from_str(&said).ok()?;
        Some(said[0]["Status"]["header"]["cluster_id"].to_string())
    };
    let all: BTreeSet<String> = hosts.iter().filter_map(id).collect();
    ensure!(!all.is_empty(), "none answers");
    Ok(all)
}

#[test]
fn a_member_that_was_taken_out_joins_again_and_founds_nothing() -> Result<()> {
    const HOSTS: [&str; 3] = ["a1", "a2", "b1"];
    let lab = lab("k3s-removed", &HOSTS)?;
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(&K3s::new(&lab, &HOSTS)?.render())?;
    terraform.apply()?;
    one_cluster(&lab, &HOSTS)?;
    let cluster = clusters(&lab, &HOSTS)?;
    let mut steps = Steps::start();

    // While it runs. Its service ends and is started again; it founds nothing, and does not loop.
    remove(&lab, "a1", "b1")?;
    eventually("its service is given up", || {
        let status = lab.exec("a1", "systemctl show -p ExecMainStatus --value k3s")?;
        ensure!(clusters(&lab, &HOSTS)? == cluster, "there is a second cluster");
        Ok(status.stdout.trim() == "78")
    })?;
    let said = lab.exec("a1", "journalctl -u k3s -o cat | grep 'removed from its cluster'")?;
    ensure!(said.success(), "the guard does not say why");
    // As a boot does; the lab takes no boot with failed units for one.
    lab.exec("a1", "systemctl reset-failed k3s; systemctl start k3s || true")?
        .ok()?;
    eventually("it is not started again either", || {
        let status = lab.exec("a1", "systemctl show -p ExecMainStatus --value k3s")?;
        Ok(status.stdout.trim() == "78")
    })?;
    ensure!(clusters(&lab, &HOSTS)? == cluster, "there is a second cluster");
    let plan = terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    ensure!(plan.contains("\"removed\" -> \"running\""), "{plan}");
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &HOSTS)?;
    ensure!(clusters(&lab, &HOSTS)? == cluster);
    let aside = "ls -d /var/lib/rancher/k3s/server/db.removed-*/etcd/member/wal";
    ensure!(lab.exec("a1", aside)?.success(), "its data was not kept aside");
    steps.done("removed while it ran");

    // While it was stopped: it holds data, and nothing there says that it was removed.
    lab.exec("a2", "systemctl stop k3s")?.ok()?;
    remove(&lab, "a2", "a1")?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &HOSTS)?;
    steps.done("removed while it was stopped");

    // It runs, or is about to run again, when the configuration is applied, which changes something besides.
    lab.exec("b1", "systemctl stop k3s")?.ok()?;
    remove(&lab, "b1", "a1")?;
    lab.exec("b1", "systemctl start --no-block k3s")?.ok()?;
    let changed = K3s::new(&lab, &HOSTS)?.server("config", servers::options("", "", ""));
    terraform.write("main.tf", &changed.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &HOSTS)?;
    ensure!(clusters(&lab, &HOSTS)? == cluster);
    steps.done("removed, and applied at once");
    terraform.destroy().map(drop)
}
