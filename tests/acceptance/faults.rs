//! A cluster that was formed comes back by itself from reboots, partitions and power cuts.

use std::time::Duration;

use anyhow::Result;
use etcd_lab::{Builder, Delay};

use crate::configuration::Configuration;
use crate::forming::every_view_is_its_own;
use crate::outside::{eventually, leader, one_cluster};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

#[test]
fn reboots_a_cut_and_a_power_cut_lose_no_acknowledged_write() -> Result<()> {
    let hosts = ["a1", "b1", "c1"];
    let lab = Builder::standard(&prefix("faults")).only(&hosts).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&Configuration::new(&lab, &hosts, "3.6.16")?.render())?;
    terraform.apply()?;
    let cluster = one_cluster(&lab, &hosts)?;
    let comes_back = || eventually("the cluster is whole", || Ok(one_cluster(&lab, &hosts)? == cluster));

    for host in hosts {
        let writer = Writer::start(&lab, &hosts)?;
        lab.reboot(host)?;
        comes_back()?;
        let written = writer.stop()?;
        eprintln!("reboot of {host}: {written}");
        written.nothing_lost()?;
    }

    let writer = Writer::start(&lab, &hosts)?;
    lab.cut("A", "C")?;
    lab.cut("B", "C")?;
    std::thread::sleep(Duration::from_secs(60));
    lab.heal("A", "C")?;
    lab.heal("B", "C")?;
    comes_back()?;
    let written = writer.stop()?;
    eprintln!("cut of a site: {written}");
    written.nothing_lost()?;

    let leader = leader(&lab, &hosts)?;
    let writer = Writer::start(&lab, &hosts)?;
    std::thread::sleep(Duration::from_secs(1));
    lab.power_off(leader)?;
    std::thread::sleep(Duration::from_secs(5));
    lab.power_on(leader)?;
    comes_back()?;
    let written = writer.stop()?;
    eprintln!("power cut of the leader: {written}");
    written.nothing_lost()?;
    every_view_is_its_own(&lab, &hosts)?;
    terraform.nothing_to_do()
}
