//! Ports change under a running cluster: one member at a time, with the member list, and with what is in the way seen before.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, member_list, one_cluster};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

const HOSTS: [&str; 3] = ["a1", "a2", "b1"];
const ETCD: &str = "3.6.16";

/// Waits until the member list has these ports for peers, and all dial all there.
fn listed(lab: &Lab, ports: &BTreeMap<&str, u16>) -> Result<()> {
    let wanted: BTreeMap<String, Vec<String>> = ports
        .iter()
        .map(|(host, port)| {
            let url = format!("https://{host}.main.etcd.internal:{port}");
            ((*host).to_owned(), vec![url])
        })
        .collect();
    for host in HOSTS {
        let list = member_list(lab, host)?;
        let list: BTreeMap<String, Vec<String>> = list.into_iter().map(|one| (one.name, one.peer_urls)).collect();
        ensure!(list == wanted, "{host} lists {list:?} and not {wanted:?}");
    }
    for host in HOSTS {
        for (other, port) in ports.iter().filter(|(other, _)| **other != host) {
            eventually(&format!("{host} dials {other} at {port}"), || {
                let found = lab.exec(host, &format!("ss -Htn state established dport = :{port}"))?;
                Ok(!found.stdout.trim().is_empty())
            })?;
        }
    }
    one_cluster(lab, &HOSTS).map(drop)
}

fn processes(lab: &Lab) -> Result<Vec<String>> {
    let process = |host| lab.exec(host, "systemctl show -p MainPID etcd-main")?.ok();
    HOSTS.iter().copied().map(process).collect()
}

#[test]
fn ports_change_one_member_at_a_time() -> Result<()> {
    let lab = Builder::standard(&prefix("ports")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let mut configuration = Configuration::new(&lab, &HOSTS, ETCD)?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;
    let mut ports = BTreeMap::from(HOSTS.map(|host| (host, 2380)));
    listed(&lab, &ports)?;
    let writer = Writer::start(&lab, &HOSTS)?;

    // A firewall lets nothing through to the new port: it is said before anything is changed.
    let before = (processes(&lab)?, ctl(&lab, "a1", "member list")?);
    configuration = configuration.server("b1", "peer_port", "2390");
    terraform.write("main.tf", &configuration.render())?;
    let closed = "nft -f - <<'END'\ntable inet closed {\n chain in {\n  type filter hook input priority 0\n  tcp dport 2390 drop\n }\n}\nEND";
    lab.exec("b1", closed)?.ok()?;
    let refused = terraform.apply_fails()?;
    ensure!(refused.contains("203.0.113.21:2390"), "{refused}");
    ensure!(refused.contains("Nothing was changed"), "{refused}");
    ensure!(
        (processes(&lab)?, ctl(&lab, "a1", "member list")?) == before,
        "it was changed"
    );
    lab.exec("b1", "nft delete table inet closed")?.ok()?;

    // Another process has the new port.
    lab.exec(
        "b1",
        "systemd-run --unit=squatter systemd-socket-activate --accept --listen=2390 /bin/cat",
    )?
    .ok()?;
    eventually("the other process listens", || {
        Ok(!lab.exec("b1", "ss -Hltn sport = :2390")?.stdout.is_empty())
    })?;
    let refused = terraform.apply_fails()?;
    ensure!(refused.contains("port 2390 is in use"), "{refused}");
    ensure!(
        (processes(&lab)?, ctl(&lab, "a1", "member list")?) == before,
        "it was changed"
    );
    lab.exec("b1", "systemctl stop squatter")?.ok()?;

    // The port for peers of one.
    terraform.apply().context("the port for peers of b1")?;
    terraform.nothing_to_do()?;
    ports.insert("b1", 2390);
    listed(&lab, &ports)?;

    // The ports for peers of the two others, and those for clients of all.
    for host in HOSTS {
        configuration = configuration.server(host, "client_port", "2389");
    }
    configuration = configuration
        .server("a1", "peer_port", "2391")
        .server("a2", "peer_port", "2392");
    terraform.write("main.tf", &configuration.render())?;
    terraform.apply().context("the other ports")?;
    terraform.nothing_to_do()?;
    ports.extend([("a1", 2391), ("a2", 2392)]);
    listed(&lab, &ports)?;
    for host in HOSTS {
        let listening = lab.exec(host, "ss -Hltn sport = :2379 or sport = :2380")?.stdout;
        ensure!(
            listening.trim().is_empty(),
            "{host} listens at former ports: {listening}"
        );
    }

    // What is changed by hand, or was left by an earlier version of the provider, is seen and mended.
    let id = member_list(&lab, "a1")?
        .into_iter()
        .find(|one| one.name == "b1")
        .context("b1")?
        .id;
    let wrong = "https://b1.main.etcd.internal:2380";
    ctl(&lab, "a1", &format!("member update {id:x} --peer-urls={wrong}"))?;
    let plan = terraform.run(&["plan", "-no-color", "-input=false"])?.ok()?;
    ensure!(plan.contains("peer URL") && plan.contains(wrong), "{plan}");
    terraform.apply().context("a member list that was changed by hand")?;
    terraform.nothing_to_do()?;
    listed(&lab, &ports)?;

    writer.stop()?.nothing_lost()
}
