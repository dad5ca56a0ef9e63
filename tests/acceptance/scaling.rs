//! Members come and go by editing the servers, while a client writes through all of them.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};

use crate::configuration::Configuration;
use crate::forming::every_view_is_its_own;
use crate::outside::{ctl, eventually, hosts_block, leader, leftovers, member_list, one_cluster};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

/// The etcd that runs.
pub const VERSION: &str = "3.6.16";
/// One after the other: what one waits for must not be another's to do.
const ONE_BY_ONE: &[&str] = &["-parallelism=1"];

/// A cluster that grows and shrinks.
pub struct Scene<'a> {
    pub lab: &'a Lab,
    pub terraform: Terraform<'a>,
    /// The ID that it was founded with.
    pub cluster: u64,
    /// Where members are.
    pub hosts: Vec<&'a str>,
}

impl<'a> Scene<'a> {
    /// Founds a cluster on these hosts.
    pub fn found(lab: &'a Lab, hosts: &[&'a str]) -> Result<Self> {
        Self::found_with(lab, hosts, VERSION)
    }

    /// Founds a cluster of this version of etcd on these hosts.
    pub fn found_with(lab: &'a Lab, hosts: &[&'a str], version: &str) -> Result<Self> {
        Self::found_as(lab, hosts, &Configuration::new(lab, hosts, version)?)
    }

    /// Founds the cluster of this configuration on these hosts.
    pub fn found_as(lab: &'a Lab, hosts: &[&'a str], configuration: &Configuration) -> Result<Self> {
        let terraform = Terraform::new(lab, "1.15")?;
        terraform.configure(&configuration.render())?;
        terraform.apply()?;
        Ok(Self {
            cluster: one_cluster(lab, hosts)?,
            hosts: hosts.to_vec(),
            lab,
            terraform,
        })
    }

    /// Another working directory for a cluster that is there already.
    pub fn resume(lab: &'a Lab, hosts: &[&'a str], cluster: u64) -> Result<Self> {
        let terraform = Terraform::new(lab, "1.15")?;
        terraform.configure(&Configuration::new(lab, hosts, VERSION)?.render())?;
        Ok(Self {
            lab,
            terraform,
            cluster,
            hosts: hosts.to_vec(),
        })
    }

    /// Applies a configuration with these servers while a client writes, and looks at everything.
    fn become_these(&mut self, what: &str, hosts: &[&'a str], arguments: &[&str]) -> Result<()> {
        let writer = Writer::start(self.lab, &self.hosts)?;
        let configuration = Configuration::new(self.lab, hosts, VERSION)?;
        self.terraform.write("main.tf", &configuration.render())?;
        for host in hosts.iter().filter(|host| !self.hosts.contains(host)) {
            writer.through(host);
        }
        for host in self.hosts.iter().filter(|host| !hosts.contains(host)) {
            writer.without(host);
        }
        let begun = Instant::now();
        let mut command = vec!["apply", "-auto-approve", "-input=false", "-no-color"];
        command.extend(arguments);
        self.terraform.run(&command)?.ok().with_context(|| what.to_owned())?;
        let took = begun.elapsed();
        let left: Vec<&str> = self
            .hosts
            .iter()
            .filter(|host| !hosts.contains(host))
            .copied()
            .collect();
        self.hosts = hosts.to_vec();
        self.is_whole().with_context(|| what.to_owned())?;
        for host in left {
            let left = leftovers(self.lab, host)?;
            ensure!(left.is_empty(), "{what}: left on {host}: {left}");
        }
        let written = writer.stop()?;
        eprintln!("{what}: applied in {took:.1?}; {written}");
        written.nothing_lost().with_context(|| what.to_owned())?;
        for host in hosts {
            ensure!(
                written.through.contains_key(*host),
                "{what}: nothing was written through {host}"
            );
        }
        Ok(())
    }

    /// Checks that it is the cluster that was founded, with a voter on each host and nothing else, that every server's own files
    /// say so, and that a plan finds nothing to do.
    pub fn is_whole(&self) -> Result<()> {
        eventually("all are of one cluster", || {
            Ok(one_cluster(self.lab, &self.hosts)? == self.cluster)
        })?;
        let wanted: BTreeSet<&str> = self.hosts.iter().copied().collect();
        for host in &self.hosts {
            let members = member_list(self.lab, host)?;
            let voters = members.iter().filter(|member| !member.learner);
            let voters: BTreeSet<&str> = voters.map(|member| member.name.as_str()).collect();
            ensure!(
                voters == wanted && members.len() == wanted.len(),
                "{host} lists {members:?}, and there should be {wanted:?}"
            );
            let names = hosts_block(self.lab, host)?;
            ensure!(
                names.iter().map(String::as_str).collect::<BTreeSet<_>>() == wanted,
                "{host} has {names:?} in its hosts file, and there should be {wanted:?}"
            );
        }
        every_view_is_its_own(self.lab, &self.hosts)?;
        self.terraform.nothing_to_do()
    }
}

#[test]
fn three_become_five_and_three_again_without_the_leader() -> Result<()> {
    there_and_back("scale-five", 0.0)
}

#[test]
fn three_become_five_and_three_again_at_a_distance() -> Result<()> {
    there_and_back("scale-far", 50.0)
}

fn there_and_back(name: &str, one_way: f64) -> Result<()> {
    let lab = Builder::standard(&prefix(name)).up()?;
    lab.wan_everywhere(Delay::ms(one_way))?;
    let mut scene = Scene::found(&lab, &["a1", "b1", "c1"])?;
    let five = ["a1", "a2", "b1", "b2", "c1"];
    let at = format!("at {} ms", 2.0 * one_way);
    scene.become_these(&format!("3 to 5 {at}"), &five, &[])?;
    let leader = leader(&lab, &five)?;
    let also = if leader == "a1" { "b1" } else { "a1" };
    let stay: Vec<&str> = five
        .into_iter()
        .filter(|host| *host != leader && *host != also)
        .collect();
    scene.become_these(&format!("5 to 3 without the leader {leader} {at}"), &stay, &[])
}

#[test]
fn one_becomes_three_and_one_again() -> Result<()> {
    let lab = Builder::standard(&prefix("scale-one")).only(&["a1", "b1", "c1"]).up()?;
    let mut scene = Scene::found(&lab, &["a1"])?;
    scene.become_these("1 to 3", &["a1", "b1", "c1"], &[])?;
    scene.become_these("3 to 1", &["b1"], &[])?;
    scene.become_these("1 to 3 one by one", &["a1", "b1", "c1"], ONE_BY_ONE)?;
    scene.become_these("3 to 1 one by one", &["c1"], ONE_BY_ONE)
}

#[test]
fn two_go_and_two_come_in_one_apply() -> Result<()> {
    let lab = Builder::standard(&prefix("scale-two")).up()?;
    let mut scene = Scene::found(&lab, &["a1", "b1", "c1"])?;
    scene.become_these("b1 and c1 become a2 and b2", &["a1", "a2", "b2"], &[])?;
    scene.become_these(
        "a1 and a2 become b1 and c1, one by one",
        &["b1", "b2", "c1"],
        ONE_BY_ONE,
    )
}

/// The only member of a cluster is to stand on another server, by editing what the members stand on alone: Terraform deletes the one
/// and creates the other, in any order.
#[test]
fn the_last_member_does_not_leave_before_another_one_has_come() -> Result<()> {
    let lab = Builder::standard(&prefix("scale-last")).only(&["a1", "b1"]).up()?;
    let scene = Scene::found(&lab, &["a1"])?;
    ctl(&lab, "a1", "put kept yes")?;
    let on = |members: &[&str]| -> Result<String> {
        let configuration = Configuration::new(&lab, &["a1", "b1"], VERSION)?;
        Ok(configuration.members_on(members).render())
    };
    let is_whole = |host: &str| -> Result<()> {
        ensure!(
            one_cluster(&lab, &[host])? == scene.cluster,
            "{host} is of another cluster"
        );
        let kept = ctl(&lab, host, "get kept --print-value-only")?;
        ensure!(kept.trim() == "yes", "{host} has {kept:?}");
        ensure!(member_list(&lab, host)?.len() == 1);
        scene.terraform.nothing_to_do()
    };
    scene.terraform.configure(&on(&["a1"])?)?;
    scene.terraform.apply()?;
    scene.terraform.configure(&on(&["b1"])?)?;
    scene.terraform.apply().context("a1 becomes b1")?;
    is_whole("b1")?;

    // One at a time: whichever comes first, the cluster serves all the while, and the second apply is the last one.
    scene.terraform.configure(&on(&["a1"])?)?;
    let mut apply = vec!["apply", "-auto-approve", "-input=false", "-no-color"];
    apply.extend(ONE_BY_ONE);
    let said = scene.terraform.run(&apply)?;
    if !said.success() {
        ensure!(
            said.stderr.contains("Member b1 can't leave")
                && said.stderr.contains("it is the last member of its cluster"),
            "{}",
            said.stderr
        );
        one_cluster(&lab, &["a1", "b1"])?;
        scene.terraform.run(&apply)?.ok().context("b1 becomes a1")?;
    }
    is_whole("a1")?;

    // All members go, and their servers with them but one: nobody would be left when the others come.
    scene.terraform.configure(&on(&["a1", "b1"])?)?;
    scene.terraform.apply().context("a1 and b1")?;
    scene.terraform.configure(&on(&[])?)?;
    let said = scene.terraform.apply_fails()?;
    ensure!(
        said.contains("it is the last member of its cluster, which stays"),
        "{said}"
    );
    scene.terraform.configure(&on(&["a1", "b1"])?)?;
    scene.terraform.apply().context("a1 and b1 again")?;
    one_cluster(&lab, &["a1", "b1"])?;
    scene.terraform.destroy()?;
    ["a1", "b1"].iter().try_for_each(|host| {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
        Ok(())
    })
}
