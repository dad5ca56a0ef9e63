//! The preflight: what would keep a cluster from working is found and named before anything is changed, and what is no trouble is
//! let pass.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, HostSpec, Lab, Site};
use serde_json::Value;

use crate::configuration::{Configuration, quoted};
use crate::fingerprint::Fingerprint;
use crate::outside::{etcd_configuration, eventually, hosts_block, leftovers, one_cluster};
use crate::prefix;
use crate::refusals::Wrong;
use crate::terraform::Terraform;

const CLUSTER: &str = "etcd_cluster.main";
const FIVE: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];
const THREE: [&str; 3] = ["a1", "b1", "c1"];

fn link(cluster: &Value, from: &str, to: &str) -> Result<Value> {
    let links = cluster["measured"]["links"].as_array().context("no links")?;
    let found = links.iter().find(|link| link["from"] == from && link["to"] == to);
    found
        .cloned()
        .with_context(|| format!("no link from {from} to {to} in {cluster:#}"))
}

#[test]
fn one_closed_direction_of_one_pair_among_five() -> Result<()> {
    let lab = Builder::standard(&prefix("pre-closed")).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    lab.close_port("a1", "b1", 2380)?;
    let good = Configuration::new(&lab, &FIVE, "3.6.16")?;
    let wrong = Wrong::new(&lab, "1.15", &good)?;
    let words = [
        "Nothing was changed on any server",
        "a1    b1  203.0.113.21:2380  no answer within 5 s  TCP from a1 (203.0.113.11) to b1 port 2380",
    ];
    wrong.refused("a closed direction", &good, CLUSTER, "servers", &words)?;
    let complaints = wrong.terraform.complaints()?;
    let rows: Vec<&str> = complaints
        .iter()
        .flat_map(|complaint| complaint.text.lines())
        .filter(|line| line.contains(":2380 "))
        .collect();
    ensure!(rows.len() == 1, "only one direction is closed: {rows:#?}");
    lab.open_ports("b1")?;
    wrong.terraform.apply()?;
    one_cluster(&lab, &FIVE)?;
    wrong.terraform.nothing_to_do()
}

#[test]
fn a_nat_that_goes_out_by_another_address_is_seen_and_works() -> Result<()> {
    let mut lab = Builder::standard(&prefix("pre-egress")).only(&THREE).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    lab.egress("b1", Some([203, 0, 113, 29].into()))?;
    let terraform = Terraform::new(&lab, "1.11")?;
    // The disk is this machine's own, and as quick as what else is done here lets it be.
    let configuration = Configuration::new(&lab, &THREE, "3.6.16")?.cluster("preflight", "{ disk = false }");
    terraform.configure(&configuration.render())?;
    let said = terraform.apply()?;
    ensure!(!said.contains("preflight of cluster"), "nothing is wrong: {said}");
    one_cluster(&lab, &THREE)?;
    let cluster = terraform.attributes(CLUSTER)?;
    assert_eq!(
        cluster["source_addresses"],
        serde_json::json!({ "b1": ["203.0.113.29"] })
    );
    let seen = link(&cluster, "b1", "a1")?;
    assert_eq!(
        (&seen["address"], &seen["source_address"]),
        (&"203.0.113.11:2380".into(), &"203.0.113.29".into())
    );
    let other = link(&cluster, "a1", "b1")?;
    assert_eq!(other["source_address"], "203.0.113.11");
    ensure!(
        other["round_trip_ms"]
            .as_f64()
            .is_some_and(|ms| (19.0..60.0).contains(&ms)),
        "{other:#}"
    );
    assert_eq!(
        (&cluster["heartbeat_interval"], &cluster["election_timeout"]),
        (&100.into(), &1000.into())
    );
    terraform.nothing_to_do()
}

#[test]
fn etcd_3_4_is_told_of_the_address_that_it_would_reject() -> Result<()> {
    let mut lab = Builder::standard(&prefix("pre-egress34")).only(&THREE).up()?;
    lab.egress("b1", Some([203, 0, 113, 29].into()))?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &THREE, "3.4.23")?;
    terraform.configure(&configuration.render())?;
    let said = terraform.apply_fails()?;
    ensure!(
        said.contains("see b1 come from 203.0.113.29")
            && said.contains("egress_addresses = [\"203.0.113.29\"] of the server b1"),
        "{said}"
    );
    let told = configuration.server("b1", "egress_addresses", "[\"203.0.113.29\"]");
    terraform.write("main.tf", &told.render())?;
    terraform.apply()?;
    one_cluster(&lab, &THREE)?;
    terraform.nothing_to_do()
}

/// Makes the machine's own `date` say what it is not.
pub fn set_clock(lab: &Lab, host: &str, ahead: &str) -> Result<()> {
    let text = format!("#!/bin/sh\n[ \"$1\" = +%s.%N ] && exec /bin/date -d '{ahead}' +%s.%N\nexec /bin/date \"$@\"\n");
    lab.write_file(host, "/usr/local/bin/date", text.as_bytes())?;
    lab.exec(host, "chmod 755 /usr/local/bin/date")?.ok().map(drop)
}

#[test]
fn what_is_wrong_with_a_server_is_named() -> Result<()> {
    let lab = Builder::standard(&prefix("pre-server")).only(&THREE).up()?;
    let good = Configuration::new(&lab, &THREE, "3.6.16")?;
    let wrong = Wrong::new(&lab, "1.15", &good)?;

    set_clock(&lab, "c1", "20 seconds")?;
    let words = ["Server c1: its clock is ", "s ahead of the others", "chrony"];
    wrong.refused("a clock that is off", &good, CLUSTER, "servers", &words)?;
    let off = good.clone().cluster("preflight", "{ clock = false }");
    wrong.terraform.write("main.tf", &off.render())?;
    let only_cluster = [
        "apply",
        "-auto-approve",
        "-input=false",
        "-no-color",
        "-target=etcd_cluster.main",
    ];
    wrong.terraform.run(&only_cluster)?.ok().context("the check is off")?;
    wrong.terraform.destroy()?;
    lab.exec("c1", "rm /usr/local/bin/date")?.ok()?;

    // Packets that are too large get lost in one direction.
    lab.drop_larger("c1", "a1", 1300)?;
    let words = [
        "c1    a1  203.0.113.11:2380  open, but larger messages from c1 don't arrive",
        "ICMP \"fragmentation needed\" to c1, or a smaller MTU there",
    ];
    wrong.refused("an MTU that is too large", &good, CLUSTER, "servers", &words)?;
    lab.open_ports("a1")?;

    // The client's port, and its taker.
    let mut taker = lab
        .command_on("b1", "nc")?
        .args(["-l", "-k", "-p", "2379"])
        .stdin(std::process::Stdio::null())
        .spawn()?;
    eventually("nc listens", || {
        Ok(!lab.exec("b1", "ss -Hltn 'sport = :2379'")?.stdout.is_empty())
    })?;
    wrong.refused("a port that is taken", &good, CLUSTER, "servers", &["b1", "2379", "nc"])?;
    lab.exec("b1", "pkill -x nc")?;
    taker.wait()?;

    lab.slow_disk("b1", "/var/lib/etcd", 20)?;
    let words = [
        "Server b1: every second synchronous write to /var/lib/etcd takes 1",
        "a quicker disk",
    ];
    wrong.refused("a slow disk", &good, CLUSTER, "servers", &words)
}

#[test]
fn another_server_that_answers_is_named() -> Result<()> {
    // Two hosts behind one address: what is to lead to the one leads to the other.
    let lab = Builder::new(&prefix("pre-other"))
        .site(Site::new("A", [10, 0, 0, 1], 24, [203, 0, 113, 10]))
        .site(Site::new("C", [192, 168, 7, 1], 24, [203, 0, 113, 30]))
        .host(HostSpec::new("a1", "A", [10, 0, 0, 11]).one_to_one([203, 0, 113, 11]))
        .host(HostSpec::new("c1", "C", [192, 168, 7, 31]).forwarded(&[(22, 22), (2380, 2380), (2390, 2380)]))
        .host(HostSpec::new("c2", "C", [192, 168, 7, 32]).forwarded(&[(2222, 22)]))
        .up()?;
    let hosts = ["a1", "c1", "c2"];
    let configuration = Configuration::new(&lab, &hosts, "3.6.16")?
        .server("c2", "peer_port", "2390")
        .server("c2", "client_port", "2389")
        .server("c2", "ssh", "{ port = 2222 }");
    let wrong = Wrong::new(&lab, "1.15", &configuration)?;
    let words = [
        "a1    c2  203.0.113.30:2390  c1 answers there",
        "let 203.0.113.30:2390 lead to c2",
    ];
    wrong.refused(
        "a port that leads elsewhere",
        &configuration,
        CLUSTER,
        "servers",
        &words,
    )
}

/// Site C is 200 ms away, and the way loses packets.
pub fn far_and_poor(lab: &Lab) -> Result<()> {
    let far = Delay {
        ms: 100.0,
        jitter_ms: 0.0,
        loss_percent: 2.0,
    };
    lab.wan("A", "C", far)?;
    lab.wan("B", "C", far)
}

#[test]
fn a_distant_site_that_loses_packets_is_warned_of_and_timed_for() -> Result<()> {
    let lab = Builder::standard(&prefix("pre-far")).only(&THREE).up()?;
    far_and_poor(&lab)?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&Configuration::new(&lab, &THREE, "3.6.16")?.render())?;
    let said = terraform
        .run(&[
            "apply",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-target=etcd_cluster.main",
        ])?
        .ok()?;
    // Terraform breaks lines.
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        ["A", "B"]
            .iter()
            .any(|site| said.contains(&format!("Between the networks {site} and C a round trip takes up to 2")))
            && said.contains("% of the packets are lost"),
        "{said}"
    );
    ensure!(
        !said.contains("networks A and B"),
        "nothing is wrong between these: {said}"
    );
    let (heartbeat, election) = timing_of_200_ms(&terraform)?;
    terraform.apply()?;
    for host in THREE {
        let (_, configuration) = etcd_configuration(&lab, host)?;
        assert_eq!(configuration["heartbeat-interval"].as_i64(), Some(heartbeat));
        assert_eq!(configuration["election-timeout"].as_i64(), Some(election));
    }
    terraform.nothing_to_do()
}

/// What the state says of heartbeat and election, which follow from round trips of 200 ms and a little more.
fn timing_of_200_ms(terraform: &Terraform) -> Result<(i64, i64)> {
    let cluster = terraform.attributes(CLUSTER)?;
    let number = |name: &str| cluster[name].as_i64().unwrap_or_default();
    let (heartbeat, election) = (number("heartbeat_interval"), number("election_timeout"));
    ensure!(
        (200..=250).contains(&heartbeat) && (2000..=2500).contains(&election),
        "{heartbeat}, {election}"
    );
    Ok((heartbeat, election))
}

#[test]
fn a_server_that_comes_is_tried_first_and_may_slow_the_timing() -> Result<()> {
    let hosts = ["a1", "a2", "b1", "c1"];
    let lab = Builder::standard(&prefix("pre-joins")).only(&hosts).up()?;
    lab.wan_everywhere(Delay::ms(5.0))?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&Configuration::new(&lab, &hosts[..3], "3.6.16")?.render())?;
    terraform.apply()?;
    let cluster = one_cluster(&lab, &hosts[..3])?;

    lab.wan("A", "C", Delay::ms(100.0))?;
    lab.wan("B", "C", Delay::ms(100.0))?;
    // The member on a1 runs: its own port is tried.
    lab.close_port("c1", "a1", 2380)?;
    terraform.write("main.tf", &Configuration::new(&lab, &hosts, "3.6.16")?.render())?;
    let said = terraform.apply_fails()?;
    ensure!(
        said.contains("c1 a1 203.0.113.11:2380 no answer within 5 s")
            || said.contains("c1    a1  203.0.113.11:2380  no answer within 5 s"),
        "{said}"
    );
    for host in &hosts[..3] {
        assert_eq!(hosts_block(&lab, host)?.len(), 3, "{host} was changed");
    }
    ensure!(leftovers(&lab, "c1")?.is_empty(), "c1 was changed");

    lab.open_ports("a1")?;
    let said = terraform.apply()?;
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(said.contains("Network C is new to the cluster"), "{said}");
    ensure!(
        said.contains("Between the networks A and C a round trip takes up to 2"),
        "{said}"
    );
    let (heartbeat, _) = timing_of_200_ms(&terraform)?;
    for host in hosts {
        let (_, configuration) = etcd_configuration(&lab, host)?;
        assert_eq!(configuration["heartbeat-interval"].as_i64(), Some(heartbeat), "{host}");
        let flag = format!("\"heartbeat-interval\":\"{heartbeat}ms\"");
        let log = lab.exec(
            host,
            "journalctl -u etcd-main -o cat --no-pager | grep heartbeat-interval | tail -n 1",
        )?;
        ensure!(log.stdout.contains(&flag), "{host} runs with {}", log.stdout);
    }
    assert_eq!(one_cluster(&lab, &hosts)?, cluster);
    terraform.nothing_to_do()
}

#[test]
fn a_preflight_that_is_cut_off_leaves_nothing() -> Result<()> {
    let lab = Builder::standard(&prefix("pre-killed")).only(&THREE).up()?;
    // Dialling takes its five seconds.
    lab.close_port("a1", "b1", 2380)?;
    let good = Configuration::new(&lab, &THREE, "3.6.16")?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&good.render())?;
    let before = Fingerprint::take(&lab)?;
    let mut running = terraform.start(&["apply", "-auto-approve", "-input=false", "-no-color"])?;
    let listens = "systemctl is-active preflight-etcd-main";
    eventually("they listen", || Ok(lab.exec("b1", listens)?.success()))?;
    running.kill_provider()?;
    ensure!(!running.wait()?.success(), "it was killed");
    ensure!(
        lab.exec("b1", listens)?.success(),
        "what listens ends by itself, and is there yet"
    );
    // Another one takes over, and says what it would have said.
    let said = terraform.apply_fails()?;
    ensure!(said.contains("no answer within 5 s"), "{said}");
    before.unchanged(&lab)?;
    let mut running = terraform.start(&["apply", "-auto-approve", "-input=false", "-no-color"])?;
    eventually("they listen", || Ok(lab.exec("b1", listens)?.success()))?;
    running.kill_provider()?;
    running.wait()?;
    eventually("it ends by itself", || Ok(before.unchanged(&lab).is_ok()))
}

/// The units that listen for a preflight on any of these hosts.
fn listeners(lab: &Lab, hosts: &[&str]) -> Result<String> {
    let script = "systemctl --no-legend --plain list-units 'preflight-etcd-*'";
    hosts.iter().map(|host| Ok(lab.exec(host, script)?.stdout)).collect()
}

/// Two applies directly after each other, the second one with another name: the first one left nothing in the way.
#[test]
fn a_refused_founding_ends_what_it_began() -> Result<()> {
    let lab = Builder::standard(&prefix("pre-refused")).only(&["a1", "a2"]).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let base = Configuration::new(&lab, &["a1", "a2"], "3.6.16")?;
    let named = |name: &str| base.clone().cluster("name", quoted(name)).render();
    terraform.configure(&named("first"))?;
    let none = || {
        let left = listeners(&lab, &["a1", "a2"])?;
        ensure!(left.is_empty(), "they listen yet:\n{left}");
        Ok(())
    };

    // The decision refuses.
    lab.exec(
        "a2",
        "mkdir -p /var/lib/etcd/first/member/wal; touch /var/lib/etcd/first/member/wal/0-0.wal",
    )?
    .ok()?;
    ensure!(terraform.apply_fails()?.contains("can't be founded"));
    none()?;
    lab.exec("a2", "rm -r /var/lib/etcd/first")?.ok()?;

    // The preflight refuses.
    lab.exec("a2", "nft add table ip closed; nft add chain ip closed in '{ type filter hook input priority 0; }'; nft add rule ip closed in tcp dport 2380 drop")?.ok()?;
    ensure!(terraform.apply_fails()?.contains("no answer within 5 s"));
    none()?;
    lab.exec("a2", "nft delete table ip closed")?.ok()?;

    // A server's view can't be written.
    let damaged =
        "cp /etc/hosts /run/hosts; printf '# BEGIN etcd cluster first (managed by Terraform)\\n' >>/etc/hosts";
    lab.exec("a2", damaged)?.ok()?;
    let said = terraform.apply_fails()?;
    ensure!(said.contains("someone edited them"), "{said}");
    none()?;
    lab.exec("a2", "cat /run/hosts >/etc/hosts")?.ok()?;

    // One that was cut off can't end it. The error names it, and it ends by itself.
    lab.exec("a1", "systemd-run --quiet --collect --unit=preflight-etcd-gone --property=RuntimeMaxSec=45 systemd-socket-activate --accept --inetd --listen=0.0.0.0:2380 /bin/true")?.ok()?;
    eventually("it listens", || {
        Ok(lab.exec("a1", "ss -Hltn sport = :2380 | grep -q 2380")?.success())
    })?;
    terraform.write("main.tf", &named("second"))?;
    let said = terraform.apply_fails()?;
    let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        flat.contains("in use by the preflight of the etcd cluster gone") && flat.contains("apply again then"),
        "{said}"
    );
    eventually("it ended by itself", || Ok(listeners(&lab, &["a1", "a2"])?.is_empty()))?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    terraform.destroy().map(drop)
}

/// How long preflights took, observation included, as the provider's log has it.
fn took(lab: &Lab, hosts: &[&str], rounds: usize) -> Result<Vec<Duration>> {
    let mut terraform = Terraform::new(lab, "1.15")?;
    let log = terraform.log_everything();
    terraform.configure(&Configuration::new(lab, hosts, "3.6.16")?.render())?;
    for _ in 0..rounds {
        terraform
            .run(&[
                "apply",
                "-auto-approve",
                "-input=false",
                "-no-color",
                "-target=etcd_cluster.main",
            ])?
            .ok()?;
        terraform.destroy()?;
    }
    let text = std::fs::read_to_string(log)?;
    let millis = text
        .lines()
        .filter(|line| line.contains(": preflight:"))
        .filter_map(|line| line.split("millis=").nth(1)?.split(' ').next()?.parse().ok());
    Ok(millis.map(Duration::from_millis).collect())
}

/// Measures, and holds the preflight to what is promised.
#[test]
#[ignore = "a measurement: by name, on a quiet machine"]
fn how_long_it_takes() -> Result<()> {
    let lab = Builder::standard(&prefix("pre-time"))
        .host(HostSpec::new("a3", "A", [10, 0, 0, 13]).one_to_one([203, 0, 113, 13]))
        .host(HostSpec::new("b3", "B", [10, 0, 0, 13]).one_to_one([203, 0, 113, 23]))
        .up()?;
    let seven = ["a1", "a2", "a3", "b1", "b2", "b3", "c1"];
    for (hosts, ms, limit) in [
        (&THREE[..], 0.0, 1000),
        (&THREE[..], 50.0, 2000),
        (&seven[..], 0.0, 5000),
        (&seven[..], 50.0, 5000),
    ] {
        lab.wan_everywhere(Delay::ms(ms))?;
        let mut times = took(&lab, hosts, 5)?;
        times.sort();
        eprintln!("{} servers, round trips of {} ms: {times:?}", hosts.len(), 2.0 * ms);
        let median = times.get(times.len() / 2).context("nothing in the log")?;
        ensure!(*median < Duration::from_millis(limit), "{median:?}");
    }
    Ok(())
}
