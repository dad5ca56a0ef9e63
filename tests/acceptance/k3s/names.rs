//! Names and machines in the map of servers, and servers that leave it while their etcd has a vote.

use super::*;

const HOSTS: [&str; 3] = ["a1", "a2", "b1"];

/// What is dialled, and what runs, on each host.
fn files(lab: &Lab) -> Result<Vec<String>> {
    let look =
        "cd /etc/etcd-k3s && find . -type f | sort | xargs sha256sum; nft list ruleset; systemctl show -p MainPID k3s";
    HOSTS.iter().map(|host| lab.exec(host, look)?.ok()).collect()
}

#[test]
fn names_stay_with_their_machines_and_voters_in_the_map() -> Result<()> {
    let lab = lab("k3s-names", &HOSTS)?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let three = K3s::new(&lab, &HOSTS)?;
    terraform.configure(&three.render())?;
    terraform.apply()?;
    one_cluster(&lab, &HOSTS)?;
    let before = files(&lab)?;

    // Two names change places.
    let mut swapped = three.clone();
    for (name, other) in [("a1", "b1"), ("b1", "a1")] {
        for argument in ["network", "private_address", "public_address"] {
            let value = three.base.servers[other][argument].clone();
            swapped.base = swapped.base.server(name, argument, value);
        }
    }
    terraform.write("main.tf", &swapped.render())?;
    for _ in 0..2 {
        let said = terraform.apply_fails()?;
        ensure!(said.contains("Server a1 (private_address = \"10.0.0.11\", public_address = \"203.0.113.21\") is reached at the machine that holds the member b1"), "{said}");
        ensure!(
            said.contains("is reached at the machine that holds the member a1"),
            "{said}"
        );
        ensure!(files(&lab)? == before, "something was changed");
    }

    // Nobody's state has b1's k3s, and its server is to leave the map.
    terraform.write("main.tf", &three.render())?;
    terraform.apply()?;
    terraform.run(&["state", "rm", "etcd_k3s_server.this[\"b1\"]"])?.ok()?;
    let two = K3s::new(&lab, &HOSTS[..2])?;
    terraform.write("main.tf", &two.render())?;
    let mut said = String::new();
    for _ in 0..3 {
        said = terraform.apply_fails()?;
        ensure!(
            said.contains("Server b1 can't leave: the cluster still lists its member"),
            "{said}"
        );
        ensure!(files(&lab)? == before, "something was changed");
    }
    // The first way out.
    terraform.write("main.tf", &three.render())?;
    terraform.apply()?;
    one_cluster(&lab, &HOSTS)?;
    terraform.write("main.tf", &two.render())?;
    terraform.apply()?;
    one_cluster(&lab, &HOSTS[..2])?;
    ensure!(
        leftovers(&lab, "b1")?.is_empty(),
        "left on b1: {}",
        leftovers(&lab, "b1")?
    );
    ensure!(said.contains("etcdctl --endpoints=https://127.0.0.1:2379"), "{said}");

    // The second one, by hand.
    terraform.write("main.tf", &three.render())?;
    terraform.apply()?;
    terraform.run(&["state", "rm", "etcd_k3s_server.this[\"b1\"]"])?.ok()?;
    terraform.write("main.tf", &two.render())?;
    let said = terraform.apply_fails()?;
    let (_, rest) = said.split_once("Run as root on a1:").context("no command")?;
    let (command, _) = rest.split_once("Then apply again").context("no end of the command")?;
    lab.exec(
        "a1",
        &format!("PATH=$PATH:/opt/etcd/{ETCD}; export ETCDCTL_API=3; {}", command.trim()),
    )?
    .ok()?;
    terraform.apply()?;
    one_cluster(&lab, &HOSTS[..2])?;
    lab.exec("b1", "ls -d /var/lib/rancher/k3s.removed-* && rm -rf /var/lib/rancher")?
        .ok()?;
    ensure!(
        leftovers(&lab, "b1")?.is_empty(),
        "left on b1: {}",
        leftovers(&lab, "b1")?
    );

    // A machine gets another name in one apply.
    terraform.write("main.tf", &three.render())?;
    terraform.apply()?;
    let mut renamed = three.clone();
    let mut arguments = renamed.base.servers.remove("b1").context("no b1")?;
    arguments.insert("name".to_owned(), quoted("z1"));
    renamed.base.servers.insert("z1".to_owned(), arguments);
    terraform.write("main.tf", &renamed.render())?;
    terraform.apply()?;
    let listed = voters(&lab, "a1")?;
    ensure!(listed.keys().eq(["a1", "a2", "z1"].iter()), "{listed:?}");
    let own = lab
        .exec("b1", "ip -4 -o address show dev lo | grep -v 127.0.0.1")?
        .ok()?;
    ensure!(
        own.lines().count() == 1 && own.contains(&listed["z1"]),
        "b1 has {own} and z1 is {listed:?}"
    );
    terraform.nothing_to_do()
}
