//! A peer that etcd counts as lost, though it is connected with it: a message that found no stream went over a connection of its own, and that one fails
//! when the streams are back. It stays so for as long as the streams live.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_lab::{Builder, Delay, Lab};
use serde_json::Value;

use super::{HANG_UP, THREE};
use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, within};
use crate::prefix;
use crate::rolling::started;
use crate::scaling::{Scene, VERSION};

const STATUS: &str = r#"
data "etcd_cluster_status" "main" {
  cluster    = etcd_cluster.main
  depends_on = [etcd_member.this]
}
output "status" { value = data.etcd_cluster_status.main }
"#;

/// How often the state is brought about from the start.
const TRIES: usize = 5;
/// The rules that bring it about, on a1 and b1.
const TABLE: &str = "inet believed";

/// What a member has counted about another one.
struct Counted {
    /// Whether it takes it to be connected.
    connected: bool,
    /// How many messages to it have failed.
    failures: u64,
}

/// Local ports of connections.
type Ports = BTreeSet<String>;

/// A connection that is dialled to a peer.
struct Dialled {
    /// In how many segments something was sent on it.
    sent: u64,
    /// Whether it is seen to be a stream: the far end speaks on it, and the near one doesn't.
    stream: bool,
}

/// Waits for a step. If it does not come, all is tried again from the start.
fn step(what: &str, question: impl FnMut() -> Result<bool>) -> Result<()> {
    within(what, Duration::from_secs(120), question)
}

/// a1, which leads, and b1, which it is to believe lost.
pub struct Pair<'a> {
    pub lab: &'a Lab,
    /// The address at which b1 dials a1.
    pub a1: &'a str,
    /// The address at which a1 dials b1.
    pub b1: &'a str,
    /// Runs `etcdctl` on a host.
    pub ctl: fn(&Lab, &str, &str) -> Result<String>,
    /// What asks a1's member for its metrics.
    pub metrics: &'a str,
    /// What closes connections that fell silent.
    pub hang_up: &'a str,
}

impl<'a> Pair<'a> {
    fn of_main(lab: &'a Lab) -> Self {
        Self {
            lab,
            a1: "203.0.113.11",
            b1: "203.0.113.21",
            ctl,
            metrics: "cd /etc/etcd/main/pki; curl -s --cacert client-ca.crt --cert operator.crt --key operator.key https://127.0.0.1:2379/metrics",
            hang_up: HANG_UP,
        }
    }

    /// The ID of the host's member, and that of the one which it takes for the leader.
    fn ids(&self, host: &str) -> Result<(u64, u64)> {
        let said: Value = serde_json::from_str(&(self.ctl)(self.lab, host, "endpoint status -w json")?)?;
        let status = &said[0]["Status"];
        let own = status["header"]["member_id"].as_u64().context("no ID")?;
        Ok((own, status["leader"].as_u64().unwrap_or_default()))
    }

    /// What a1's member has counted about b1's.
    fn counted(&self) -> Result<Counted> {
        let (b1, _) = self.ids("b1")?;
        let said = self.lab.exec("a1", self.metrics)?.ok()?;
        let about_b1 = format!("\"{b1:x}\"}} ");
        // A line that is not there yet is 0.
        let number = |name: &str| {
            let line = said
                .lines()
                .find(|line| line.starts_with(name) && line.contains(&about_b1));
            let number = line.and_then(|line| line.split(' ').next_back());
            number.map_or(Ok(0), |number| {
                number.parse::<u64>().with_context(|| format!("{name}: {number}"))
            })
        };
        Ok(Counted {
            connected: number("etcd_network_active_peers{")? == 1,
            failures: number("etcd_network_peer_sent_failures_total{")?,
        })
    }

    /// Whether a1's etcd says that it is connected with b1.
    pub fn counts(&self) -> Result<bool> {
        Ok(self.counted()?.connected)
    }

    /// What the host has dialled to the peer port at the address, by the local port.
    fn dialled(&self, host: &str, address: &str) -> Result<BTreeMap<String, Dialled>> {
        // A peer says something on a stream every 1.7 s, and the near end says nothing. A request is answered at once, and etcd sends one every 4 s.
        let list = format!(
            r#"ss -Htni state established state syn-sent 'dst {address} and dport = :2380' | awk '
              function number(before) {{ return match($0, before "[0-9]+") ? substr($0, RSTART + length(before), RLENGTH - length(before)) + 0 : 0 }}
              /^\t/ {{ print port, number("data_segs_out:"), (number("lastsnd:") > 6000 && number("lastrcv:") < 3000); next }}
              {{ port = $4; sub(/.*:/, "", port) }}'"#
        );
        let lines = self.lab.exec(host, &list)?.ok()?;
        let parsed = lines.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [port, sent, stream] = words[..] else {
                bail!("ss on {host}: {line}")
            };
            let dialled = Dialled {
                sent: sent.parse()?,
                stream: stream == "1",
            };
            Ok((port.to_owned(), dialled))
        });
        parsed.collect()
    }

    /// The local ports of the two streams that the host has dialled to the address. They show what they are when they are some seconds old.
    fn streams(&self, host: &str, address: &str) -> Result<Ports> {
        let mut found = Ports::new();
        step(&format!("{host} hears {address} on two streams"), || {
            let dialled = self.dialled(host, address)?.into_iter();
            let streams = dialled.filter(|(_, dialled)| dialled.stream);
            found = streams.map(|(port, _)| port).collect();
            Ok(found.len() == 2)
        })?;
        Ok(found)
    }

    fn leads(&self) -> Result<bool> {
        let (own, leader) = self.ids("a1")?;
        Ok(own == leader)
    }

    fn rules(&self, host: &str, rules: &str) -> Result<()> {
        let load = format!("nft -f - <<'END'\n{rules}\nEND");
        self.lab.exec(host, &load)?.ok().map(drop)
    }

    /// Refuses what the host dials to the peer port at the address. (Before addresses are translated.)
    fn refuse(&self, host: &str, address: &str) -> Result<()> {
        let rules = format!(
            "table {TABLE} {{\n chain out {{\n  type filter hook output priority -150\n  \
             ip daddr {address} tcp dport 2380 tcp flags & (syn | ack) == syn reject with tcp reset\n }}\n}}"
        );
        self.rules(host, &rules)
    }

    /// Has a1 lead, and believe that it has lost b1. No step depends on which of two things comes first. If a stream ends or another member is
    /// elected in the meantime, as on a machine that is far too busy, all is tried again from the start.
    pub fn believe_lost(&self) -> Result<()> {
        let mut tried = 1;
        loop {
            let streams = self.lose_b1();
            for host in ["a1", "b1"] {
                self.rules(host, &format!("table {TABLE}\ndelete table {TABLE}"))?;
            }
            match streams.and_then(|streams| self.stays_lost(&streams)) {
                Err(error) if tried < TRIES => {
                    eprintln!("try {tried}: a1 does not believe that it has lost b1: {error:#}")
                }
                done => return done,
            }
            tried += 1;
        }
    }

    /// Leaves rules on a1 and b1. Returns the streams that each of them has dialled to the other.
    fn lose_b1(&self) -> Result<[Ports; 2]> {
        step("a1 leads", || {
            let (own, leader) = self.ids("a1")?;
            if own != leader {
                for host in THREE {
                    // Only the leader hands it over.
                    let _ = (self.ctl)(self.lab, host, &format!("move-leader {own:x}"));
                }
            }
            self.leads()
        })?;
        let from_a1 = self.streams("a1", self.b1)?;

        // b1's streams end, and it dials none: a1 has no stream for what it says to b1.
        self.refuse("b1", self.a1)?;
        let close = format!("ss -K -Htn state established 'dst {} and dport = :2380'", self.a1);
        self.lab.exec("b1", &close)?.ok()?;
        // Heartbeats, which come more often than probes.
        step("a1 sends without streams", || {
            let before = self.dialled("a1", self.b1)?;
            std::thread::sleep(Duration::from_secs(2));
            let mut after = self.dialled("a1", self.b1)?;
            after.retain(|port, _| !from_a1.contains(port));
            let more = |(port, now): (&String, &Dialled)| before.get(port).is_some_and(|old| now.sent >= old.sent + 3);
            Ok(after.iter().any(more))
        })?;

        // a1 hears of b1 on its own streams only, so that what it sends without streams fails: when a time-out is over, or when it is closed. More of it
        // comes than fails. So something is on its way whenever b1's streams are back. (After addresses were translated. What refuses is a1 itself, at lo.)
        let failures = self.counted()?.failures;
        let keep = from_a1.iter().cloned().collect::<Vec<_>>().join(", ");
        let lose = format!(
            "table {TABLE} {{\n chain into {{\n  type filter hook input priority 150\n  \
             iifname != lo ip saddr {} tcp sport 2380 tcp dport != {{ {keep} }} drop\n }}\n}}",
            self.b1
        );
        self.rules("a1", &lose)?;
        step("what a1 sends fails", || Ok(self.counted()?.failures > failures))?;
        self.rules("b1", &format!("delete table {TABLE}"))?;
        let from_b1 = self.streams("b1", self.a1)?;

        // Only now the last of it fails. What is on its way is closed, as the kernel would in a quarter of an hour. What waits for its turn is refused.
        self.refuse("a1", self.b1)?;
        let mut closed = String::new();
        step("what is on its way is closed", || {
            closed += &self.lab.exec("a1", self.hang_up)?.ok()?;
            Ok(closed.contains(&format!("{}:2380", self.b1)))
        })?;
        let mut failures = 0;
        step("a1 has nothing more to send, and counts b1 as lost", || {
            let mut left = self.dialled("a1", self.b1)?;
            left.retain(|port, _| !from_a1.contains(port));
            for port in left.keys() {
                self.lab.exec("a1", &format!("ss -K -Htn 'sport = :{port}'"))?.ok()?;
            }
            let counted = self.counted()?;
            let before = std::mem::replace(&mut failures, counted.failures);
            Ok(left.is_empty() && failures == before && !counted.connected)
        })?;
        Ok([from_a1, from_b1])
    }

    /// Sees that it is so when nothing is in the way any more.
    fn stays_lost(&self, streams: &[Ports; 2]) -> Result<()> {
        for _ in 0..5 {
            ensure!(!self.counts()?, "a1 counts b1 as connected again");
            std::thread::sleep(Duration::from_millis(200));
        }
        let now = [self.streams("a1", self.b1)?, self.streams("b1", self.a1)?];
        ensure!(now == *streams, "the streams were {streams:?}, and are {now:?}");
        ensure!(self.leads()?, "a1 leads no more");
        Ok(())
    }
}

fn connected(status: &Value, from: &str, to: &str) -> Result<bool> {
    let links = status["links"].as_array().context("no links")?;
    let found = links.iter().find(|link| link["from"] == from && link["to"] == to);
    found
        .and_then(|link| link["connected"].as_bool())
        .with_context(|| format!("no link from {from} to {to}"))
}

#[test]
fn a_change_goes_on_where_etcd_believes_a_peer_lost() -> Result<()> {
    let lab = Builder::standard(&prefix("believed")).only(&THREE).up()?;
    lab.wan_everywhere(Delay::ms(25.0))?;
    let plain = Configuration::new(&lab, &THREE, VERSION)?;
    let scene = Scene::found_as(&lab, &THREE, &plain)?;
    let pair = Pair::of_main(&lab);
    pair.believe_lost()?;

    // The status tells what is there. Streams show what they are when they are some seconds old.
    scene.terraform.write("main.tf", &(plain.render() + STATUS))?;
    eventually("the status knows that they are connected", || {
        scene.terraform.apply()?;
        let status = scene.terraform.state()?["values"]["outputs"]["status"]["value"].take();
        Ok(connected(&status, "a1", "b1")? && status["healthy"] == true)
    })?;
    ensure!(!pair.counts()?, "looking has changed something");

    // c1 is restarted, and everybody is asked whom they reach.
    let before = started(&lab, &THREE)?;
    let other = plain.member("config", "each.key == \"c1\" ? { \"snapshot-count\" = \"20000\" } : {}");
    scene.terraform.write("main.tf", &other.render())?;
    scene.terraform.apply()?;
    ensure!(pair.counts()?, "a1 counts b1 as lost still");
    let after = started(&lab, &THREE)?;
    ensure!(after["a1"] == before["a1"] && after["b1"] == before["b1"] && after["c1"] != before["c1"]);
    scene.is_whole()?;
    scene.terraform.destroy().map(drop)
}

/// An etcd before 3.5.30 adds a member only where all are connected with the leader, as it counts.
#[test]
fn a_member_is_added_where_etcd_believes_a_peer_lost() -> Result<()> {
    let four = ["a1", "a2", "b1", "c1"];
    let lab = Builder::standard(&prefix("believed-add")).only(&four).up()?;
    lab.wan_everywhere(Delay::ms(25.0))?;
    let mut scene = Scene::found_with(&lab, &THREE, "3.4.23")?;
    Pair::of_main(&lab).believe_lost()?;
    let members = started(&lab, &THREE)?;
    let more = Configuration::new(&lab, &four, "3.4.23")?;
    scene.terraform.write("main.tf", &more.render())?;
    scene.terraform.apply()?;
    ensure!(started(&lab, &THREE)? == members, "a member was restarted");
    scene.hosts = four.to_vec();
    scene.is_whole()?;
    scene.terraform.destroy().map(drop)
}
