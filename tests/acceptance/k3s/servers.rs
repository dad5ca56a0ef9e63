//! Servers come, go, are lost and replaced, and restarted one at a time.

use super::*;
use crate::complaint::Complaint;

const HOSTS: [&str; 4] = ["a1", "a2", "b1", "c1"];

/// What all servers have in `config`, and one of them beside it.
pub fn options(all: &str, of: &str, beside: &str) -> String {
    let base = format!(
        "{{ \"disable-agent\" = \"true\", \"flannel-backend\" = \"none\", \"disable\" = jsonencode([\"traefik\"]){all} }}"
    );
    match of {
        "" => base,
        of => format!("merge({base}, each.key == {} ? {{ {beside} }} : {{}})", quoted(of)),
    }
}

/// From when to when each was not serving at its last restart: no two at a time.
fn restarted_one_at_a_time(lab: &Lab, hosts: &[&str]) -> Result<()> {
    let mut pauses = Vec::new();
    for host in hosts {
        let script = "systemctl show -p ActiveExitTimestampMonotonic --value k3s; systemctl show -p ActiveEnterTimestampMonotonic --value k3s";
        let times = lab.exec(host, script)?.ok()?;
        let times: Vec<u64> = times.lines().filter_map(|time| time.trim().parse().ok()).collect();
        let [from, to] = times[..] else {
            anyhow::bail!("{host}: {times:?}")
        };
        ensure!(0 < from && from < to, "{host} was not restarted: {from} to {to}");
        pauses.push((from, to, *host));
    }
    pauses.sort_unstable();
    for pair in pauses.windows(2) {
        ensure!(pair[0].1 <= pair[1].0, "at the same time: {pauses:?}");
    }
    Ok(())
}

#[test]
fn servers_come_and_go_and_the_first_is_nothing_special() -> Result<()> {
    let lab = lab("k3s-go", &HOSTS)?;
    let terraform = Terraform::new(&lab, "1.11")?;
    let mut steps = Steps::start();
    let two = K3s::new(&lab, &["a1", "a2"])?;
    terraform.configure(&two.render())?;
    // One call at a time: whoever comes first founds, and nobody waits for one that comes later.
    terraform
        .run(&["apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=1"])?
        .ok()?;
    terraform.nothing_to_do()?;
    let first = one_cluster(&lab, &["a1", "a2"])?;
    ensure!(first["a1"] == "10.0.0.11" && first["a2"] == "10.0.0.12", "{first:?}");
    steps.done("two found");

    // What makes another cluster of it is refused where it is written, and so is what servers would differ in.
    for (config, words) in [
        (
            options(", \"service-cidr\" = \"10.96.0.0/16\"", "", ""),
            [
                "service-cidr of a k3s cluster can't be changed",
                "On server a2 service-cidr",
            ],
        ),
        (
            options("", "a2", "\"disable-network-policy\" = \"true\""),
            [
                "differ in disable-network-policy",
                "All servers of a k3s cluster must have it alike",
            ],
        ),
    ] {
        terraform.write("main.tf", &two.clone().server("config", config).render())?;
        let complaints = terraform.complaints()?;
        let points_to = |one: &&Complaint| {
            one.address.starts_with("etcd_k3s_server.this") && one.code.trim_start().starts_with("config")
        };
        ensure!(
            { complaints.iter() }
                .filter(points_to)
                .any(|one| words.iter().all(|word| one.text.contains(word))),
            "{complaints:#?}"
        );
    }
    steps.done("two plans are refused");

    // One comes whose server has the address that a1 has; a1 keeps it, as etcd has stored it. With a second network all get other options
    // that they must have alike, so it waits until the others were restarted.
    let three = K3s::new(&lab, &["a1", "a2", "b1"])?;
    terraform.write("main.tf", &three.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    let all = one_cluster(&lab, &["a1", "a2", "b1"])?;
    ensure!(all["a1"] == "10.0.0.11" && all["b1"] == "100.64.77.1", "{all:?}");
    restarted_one_at_a_time(&lab, &["a1", "a2"])?;
    steps.done("a third one of another network joins");

    // The first one loses its data, power cut and all: no second cluster, and it comes back as a new member.
    lab.exec(
        "a1",
        "systemctl kill -s KILL k3s; systemctl stop k3s; rm -rf /var/lib/rancher/k3s/server/db",
    )?
    .ok()?;
    lab.exec("a1", "systemctl start k3s || true")?.ok()?;
    eventually("it is not started without data", || {
        let status = lab.exec("a1", "systemctl show -p ExecMainStatus --value k3s")?;
        Ok(status.stdout.trim() == "78")
    })?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &["a1", "a2", "b1"])?;
    steps.done("the first one lost its data and is back");

    // Another program and other options: one server at a time, while the others serve.
    let upgraded = |k3s: K3s| {
        let k3s = k3s
            .server("config", options("", "", ""))
            .server("install", format!("{{ host_path = {} }}", quoted(NEXT)));
        match real() {
            Some(_) => k3s,
            None => k3s.server("version", quoted(NEXT_VERSION)),
        }
    };
    terraform.write("main.tf", &upgraded(three).render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &["a1", "a2", "b1"])?;
    restarted_one_at_a_time(&lab, &["a1", "a2", "b1"])?;
    for host in ["a1", "a2", "b1"] {
        let runs = lab
            .exec(
                host,
                "tr '\\0' ' ' </proc/$(systemctl show -p MainPID --value k3s)/cmdline",
            )?
            .ok()?;
        let runs_next = real().is_some() || runs.contains(NEXT);
        ensure!(runs_next, "{host} runs {runs}");
    }
    steps.done("three upgraded");

    // The first one is lost, and replaced by another machine of another site, in one apply.
    lab.power_off("a1")?;
    let replaced = upgraded(K3s::new(&lab, &["a2", "b1", "c1"])?);
    terraform.write("main.tf", &replaced.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &["a2", "b1", "c1"])?;
    for host in ["a2", "b1", "c1"] {
        let rules = lab.read_file(host, "/etc/etcd-k3s/main/rules.nft")?;
        ensure!(
            !rules.contains("daddr 10.0.0.11 tcp dport { 2379, 2380 } dnat to 203.0.113.11"),
            "{host}: {rules}"
        );
    }

    steps.done("the first one is replaced");

    // One leaves for good.
    terraform.write("main.tf", &replaced.clone().running(&["a2", "b1"]).render())?;
    terraform.apply()?;
    one_cluster(&lab, &["a2", "b1"])?;
    ensure!(
        !lab.exec("c1", "test -e /etc/systemd/system/k3s.service")?.success(),
        "k3s is on c1 still"
    );
    // Not below what has to agree: with one of two dead nobody can leave.
    lab.exec("b1", "systemctl stop k3s")?.ok()?;
    steps.done("one left");
    terraform.write("main.tf", &replaced.running(&["b1"]).render())?;
    let said = terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color", "-refresh=false"])?;
    ensure!(
        !said.success() && said.stderr.contains("Nothing was changed"),
        "{}",
        said.stderr
    );
    ensure!(lab.exec("a2", "systemctl is-active k3s")?.success());
    lab.exec("b1", "systemctl start k3s")?.ok()?;
    becomes_one_cluster(&lab, &["a2", "b1"])?;
    steps.done("no more can leave");

    terraform.destroy()?;
    steps.done("destroyed");
    for host in ["a2", "b1", "c1"] {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "{host} has {left}");
    }
    Ok(())
}
