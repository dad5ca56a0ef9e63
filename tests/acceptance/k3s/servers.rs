//! Servers come, go, are lost and replaced, and restarted one at a time.

use super::*;

const HOSTS: [&str; 4] = ["a1", "a2", "b1", "c1"];

#[test]
fn servers_come_and_go_and_the_first_is_nothing_special() -> Result<()> {
    let lab = lab("k3s-go", &HOSTS)?;
    let terraform = Terraform::new(&lab, "1.11")?;
    let two = K3s::new(&lab, &["a1", "a2"])?;
    terraform.configure(&two.render())?;
    // One call at a time: whoever comes first founds, and nobody waits for one that comes later.
    terraform
        .run(&["apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=1"])?
        .ok()?;
    terraform.nothing_to_do()?;
    let first = one_cluster(&lab, &["a1", "a2"])?;
    ensure!(first["a1"] == "10.0.0.11" && first["a2"] == "10.0.0.12", "{first:?}");

    // One comes whose server has the address that a1 has; a1 keeps it, as etcd has stored it.
    let three = K3s::new(&lab, &["a1", "a2", "b1"])?;
    terraform.write("main.tf", &three.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    let all = one_cluster(&lab, &["a1", "a2", "b1"])?;
    ensure!(all["a1"] == "10.0.0.11" && all["b1"] == "100.64.77.1", "{all:?}");

    // The first one loses its data, power cut and all: no second cluster, and it comes back as a new member.
    lab.exec(
        "a1",
        "systemctl kill -s KILL k3s; systemctl stop k3s; rm -rf /var/lib/rancher/k3s/server/db",
    )?
    .ok()?;
    lab.exec("a1", "systemctl start k3s; sleep 1; true")?.ok()?;
    ensure!(
        lab.exec("a1", "systemctl show -p ExecMainStatus --value k3s")?
            .stdout
            .trim()
            == "78",
        "it was started without data"
    );
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &["a1", "a2", "b1"])?;

    // Other options: one server at a time, while the others serve.
    let other = three.clone().server(
        "config",
        "{ \"disable-agent\" = \"true\", \"flannel-backend\" = \"none\", \"disable\" = jsonencode([\"traefik\"]) }",
    );
    terraform.write("main.tf", &other.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &["a1", "a2", "b1"])?;

    // The first one is lost, and replaced by another machine of another site, in one apply.
    lab.power_off("a1")?;
    let replaced = K3s::new(&lab, &["a2", "b1", "c1"])?;
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

    // One leaves for good.
    terraform.write(
        "main.tf",
        &K3s::new(&lab, &["a2", "b1", "c1"])?.running(&["a2", "b1"]).render(),
    )?;
    terraform.apply()?;
    one_cluster(&lab, &["a2", "b1"])?;
    ensure!(
        !lab.exec("c1", "test -e /etc/systemd/system/k3s.service")?.success(),
        "k3s is on c1 still"
    );
    // Not below what has to agree: with one of two dead nobody can leave.
    lab.exec("b1", "systemctl stop k3s")?.ok()?;
    terraform.write(
        "main.tf",
        &K3s::new(&lab, &["a2", "b1", "c1"])?.running(&["b1"]).render(),
    )?;
    let said = terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color", "-refresh=false"])?;
    ensure!(
        !said.success() && said.stderr.contains("Nothing was changed"),
        "{}",
        said.stderr
    );
    ensure!(lab.exec("a2", "systemctl is-active k3s")?.success());
    lab.exec("b1", "systemctl start k3s")?.ok()?;
    becomes_one_cluster(&lab, &["a2", "b1"])?;

    terraform.destroy()?;
    for host in ["a2", "b1", "c1"] {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "{host} has {left}");
    }
    Ok(())
}
