//! The preflight: what would keep a cluster from working is found and named before anything is changed, and what is no trouble is
//! let pass.


use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay};
use serde_json::Value;

use crate::configuration::Configuration;
use crate::outside::one_cluster;
use crate::prefix;
use crate::refusals::Wrong;
use crate::terraform::Terraform;

const CLUSTER: &str = "etcd_cluster.main";
const FIVE: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];
const THREE: [&str; 3] = ["a1", "b1", "c1"];
const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];

fn link(cluster: &Value, from: &str, to: &str) -> Result<Value> {
    let links = cluster["measured"]["links"].as_array().context("no links")?;
    let found = links.iter().find(|link| link["from"] == from && link["to"] == to);
    found.cloned().with_context(|| format!("no link from {from} to {to} in {cluster:#}"))
}

#[test]
fn one_closed_direction_of_one_pair_among_five() -> Result<()> {
    let lab = Builder::standard(&prefix("pre-closed")).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    lab.close_port("a1", "b1", 2380)?;
    let good = Configuration::new(&lab, &FIVE, "3.6.16")?;
    let wrong = Wrong::new(&lab, &good)?;
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
    terraform.configure(&Configuration::new(&lab, &THREE, "3.6.16")?.render())?;
    let said = terraform.apply()?;
    ensure!(!said.contains("preflight"), "nothing is wrong: {said}");
    one_cluster(&lab, &THREE)?;
    let cluster = terraform.attributes(CLUSTER)?;
    assert_eq!(cluster["source_addresses"], serde_json::json!({ "b1": ["203.0.113.29"] }));
    let seen = link(&cluster, "b1", "a1")?;
    assert_eq!((&seen["address"], &seen["source_address"]), (&"203.0.113.11:2380".into(), &"203.0.113.29".into()));
    let other = link(&cluster, "a1", "b1")?;
    assert_eq!(other["source_address"], "203.0.113.11");
    ensure!(
        other["round_trip_ms"].as_f64().is_some_and(|ms| (19.0..60.0).contains(&ms)),
        "{other:#}"
    );
    assert_eq!((&cluster["heartbeat_interval"], &cluster["election_timeout"]), (&100.into(), &1000.into()));
    terraform.nothing_to_do()
}
