//! A peer that etcd counts as lost, though it is connected with it: a message that found no stream went over a connection of its own, and that one fails
//! when the streams are back. It stays so for as long as the streams live.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};
use serde_json::Value;

use super::{HANG_UP, THREE};
use crate::configuration::Configuration;
use crate::outside::{ctl, eventually};
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

    /// What a1's member has counted about b1's; nothing yet is 0.
    fn number(&self, name: &str) -> Result<u64> {
        let (b1, _) = self.ids("b1")?;
        let ask = format!("{} | sed -n 's/^{name}{{.*{b1:x}\"}} //p'", self.metrics);
        let said = self.lab.exec("a1", &ask)?.ok()?;
        match said.trim() {
            "" => Ok(0),
            number => number.parse().with_context(|| format!("{name}: {said}")),
        }
    }

    /// Whether a1's etcd says that it is connected with b1.
    pub fn counts(&self) -> Result<bool> {
        Ok(self.number("etcd_network_active_peers")? == 1)
    }

    /// How many connections b1 has dialled to a1.
    fn dialled_by_b1(&self) -> Result<usize> {
        let list = format!("ss -Htn state established 'dst {} and dport = :2380' | wc -l", self.a1);
        Ok(self.lab.exec("b1", &list)?.ok()?.trim().parse()?)
    }

    /// How often something was sent on each of a1's connections to b1, by the local port, but not on the streams, on which a1 says nothing.
    fn sent(&self) -> Result<BTreeMap<String, u64>> {
        let list = format!(
            r#"ss -Htni state established 'dst {} and dport = :2380' | awk '
              function number(before) {{ return match($0, before "[0-9]+") ? substr($0, RSTART + length(before), RLENGTH - length(before)) + 0 : 0 }}
              /^\t/ {{ print port, number("data_segs_out:"), (number("lastsnd:") > 10000 && number("lastrcv:") < 5000); next }}
              {{ port = $3; sub(/.*:/, "", port) }}'"#,
            self.b1
        );
        let lines = self.lab.exec("a1", &list)?.ok()?;
        let (streams, others): (Vec<_>, Vec<_>) = lines.lines().partition(|line| line.ends_with(" 1"));
        // They show what they are when they are some seconds old.
        if streams.len() != 2 {
            return Ok(BTreeMap::new());
        }
        let counts = others.into_iter().filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        });
        Ok(counts.collect())
    }

    /// Has a1 lead, and believe that it has lost b1.
    pub fn believe_lost(&self) -> Result<()> {
        let lab = self.lab;
        eventually("a1 leads", || {
            let (own, leader) = self.ids("a1")?;
            if own != leader {
                for host in THREE {
                    // Only the leader hands it over.
                    let _ = (self.ctl)(lab, host, &format!("move-leader {own:x}"));
                }
            }
            Ok(self.ids("a1")? == (own, own))
        })?;
        // b1 dials nobody at a1, so that a1 has no stream for what it says to b1. (Before addresses are translated.)
        let none = format!(
            "nft -f - <<'END'\ntable inet believed {{\n chain out {{\n  type filter hook output priority -150\n  \
             ip daddr {} tcp dport 2380 drop\n }}\n}}\nEND",
            self.a1
        );
        lab.exec("b1", &none)?.ok()?;
        let close = format!("ss -K -Htn state established 'dst {} and dport = :2380'", self.a1);
        lab.exec("b1", &close)?.ok()?;
        lab.exec("a1", "ss -K -Htn state established 'sport = :2380'")?.ok()?;
        // Heartbeats, which come more often than the probes that take connections of this kind too.
        let (mut before, mut ports) = (BTreeMap::new(), Vec::new());
        eventually("a1 sends without streams", || {
            let sent = self.sent()?;
            let beats = |(port, count): (&String, &u64)| *count >= *before.entry(port.clone()).or_insert(*count) + 3;
            let some = sent.iter().any(beats);
            ports = sent.into_keys().collect();
            Ok(some)
        })?;
        let ports = ports.join(", ");
        // Nothing comes back for what it sends on these, and there are to be no others: what waits for its turn must not succeed later.
        let lose = format!(
            "nft -f - <<'END'\ntable inet believed {{\n chain into {{\n  type filter hook input priority 0\n  \
             tcp sport 2380 tcp dport {{ {ports} }} drop\n }}\n chain out {{\n  type filter hook output priority 0\n  \
             ct original ip daddr {b1} tcp dport 2380 tcp flags & (syn | ack) == syn reject with tcp reset\n }}\n}}\nEND",
            b1 = self.b1
        );
        lab.exec("a1", &lose)?.ok()?;
        eventually("a message is sent again and again", || {
            let timers = format!(
                "ss -Htno state established 'dst {} and dport = :2380' | grep -c 'timer:(on,[^,]*,[3-9])' || true",
                self.b1
            );
            Ok(lab.exec("a1", &timers)?.ok()?.trim() != "0")
        })?;
        lab.exec("b1", "nft delete table inet believed")?.ok()?;
        eventually("b1 has dialled a1", || Ok(self.dialled_by_b1()? >= 2 && self.counts()?))?;
        // As the kernel would in a quarter of an hour.
        let closed = lab.exec("a1", self.hang_up)?.ok()?;
        ensure!(closed.contains(&format!("{}:2380", self.b1)), "closed: {closed}");
        let mut failures = 0;
        eventually("a1 counts b1 as lost, and has nothing more to send", || {
            let before = std::mem::replace(&mut failures, self.number("etcd_network_peer_sent_failures_total")?);
            Ok(!self.counts()? && failures == before)
        })?;
        lab.exec("a1", "nft delete table inet believed")?.ok().map(drop)
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
