//! A site is cut off in the middle of a change, from the others and from who runs Terraform, while a client writes. The apply waits or
//! says what it can't reach, and after the cut the next one ends in what was wanted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, CONTROLLER, Delay, Lab, Output};

use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, member_list, watch};
use crate::prefix;
use crate::rolling::started;
use crate::scaling::{Scene, VERSION};
use crate::writer::Writer;

const FIVE: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];
const THREE: [&str; 3] = ["a1", "b1", "c1"];
/// Of the apply that has a site cut off: short enough to see it given up.
const TIMEOUTS: &str = "{ create = \"30s\", update = \"30s\", delete = \"30s\" }";
/// How long an apply may take that has a site cut off in its middle: its own time-outs, one after the other for the blocks.
const ENDS: Duration = Duration::from_secs(240);

/// Site B is no longer reached from anywhere.
fn cut(lab: &Lab) -> Result<()> {
    ["A", "C", CONTROLLER].iter().try_for_each(|end| lab.cut("B", end))
}

fn heal(lab: &Lab) -> Result<()> {
    ["A", "C", CONTROLLER].iter().try_for_each(|end| lab.heal("B", end))
}

/// A change that is under way.
struct Change<'a> {
    scene: Scene<'a>,
    what: &'static str,
    /// What is wanted.
    configuration: Configuration,
    /// Where members are to be.
    hosts: Vec<&'a str>,
    /// Whether those that are not cut off are a quorum, whatever the change did before.
    quorum_stays: bool,
    /// Whether it needs what is cut off, and so has to fail.
    needs_all: bool,
    /// How many applies it takes.
    applies: u32,
}

impl<'a> Change<'a> {
    fn new(scene: Scene<'a>, what: &'static str, configuration: Configuration, hosts: &[&'a str]) -> Self {
        Self {
            scene,
            what,
            configuration,
            hosts: hosts.to_vec(),
            quorum_stays: false,
            needs_all: false,
            applies: 1,
        }
    }

    /// Cuts site B off as soon as `begun` sees that the change has begun, lets the apply end, heals, and applies again.
    fn cut_off(mut self, mut begun: impl FnMut(&Lab) -> Result<bool>) -> Result<()> {
        let (lab, what) = (self.scene.lab, self.what);
        let writer = Writer::start(lab, &self.scene.hosts)?;
        for host in self.hosts.iter().filter(|host| !self.scene.hosts.contains(host)) {
            writer.through(host);
        }
        for host in self.scene.hosts.iter().filter(|host| !self.hosts.contains(host)) {
            writer.without(host);
        }
        let hasty = self.configuration.clone().member("timeouts", TIMEOUTS);
        self.scene.terraform.write("main.tf", &hasty.render())?;
        let mut running = self
            .scene
            .terraform
            .start(&["apply", "-auto-approve", "-input=false", "-no-color"])?;
        let start = Instant::now();
        while !begun(lab)? {
            ensure!(!running.ended()?, "{what}: it ended before it was seen to begin");
            ensure!(start.elapsed() < ENDS, "{what}: it does not begin");
        }
        cut(lab)?;
        let cut_at = Instant::now();
        let before = writer.acknowledged();
        while !running.ended()? {
            ensure!(cut_at.elapsed() < ENDS, "{what}: the apply does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = running.wait()?;
        let took = cut_at.elapsed();
        if self.quorum_stays {
            ensure!(
                writer.acknowledged() > before,
                "{what}: nothing is written while site B is cut off"
            );
            // Whoever is on this side has a leader.
            eventually("the rest has a quorum", Duration::from_secs(20), || {
                Ok(ctl(lab, "a1", "put during/cut yes").is_ok())
            })?;
        }
        if said.success() {
            ensure!(
                !self.needs_all,
                "{what}: it succeeded with a site cut off: {}",
                said.stdout
            );
        } else {
            names_what_is_cut_off(what, &said)?;
        }
        heal(lab)?;
        eventually("B is back", Duration::from_secs(120), || {
            Ok(ctl(lab, "b1", "put after/cut yes").is_ok())
        })?;
        self.scene.terraform.write("main.tf", &self.configuration.render())?;
        for _ in 0..self.applies {
            self.scene
                .terraform
                .apply()
                .with_context(|| format!("{what}, after the cut"))?;
            // The client trusts and shows what the hosts do, from its next connection on.
            self.hosts.iter().for_each(|host| writer.through(host));
        }
        self.scene.hosts = self.hosts;
        self.scene.is_whole().with_context(|| what.to_owned())?;
        let written = writer.stop()?;
        eprintln!("{what}, site B cut off: the apply ended after {took:.1?}; {written}");
        written.nothing_lost().with_context(|| what.to_owned())
    }
}

/// Some error says which server is not reached; others may say that they had to wait for that.
fn names_what_is_cut_off(what: &str, said: &Output) -> Result<()> {
    let text = said.stderr.replace("│ ", "");
    let errors: Vec<&str> = text.split("Error: ").skip(1).collect();
    let names_one = |error: &&str| {
        ["b1", "b2"].iter().any(|name| error.contains(name)) || error.contains("quorum") || error.contains("healthy")
    };
    ensure!(
        errors.iter().any(names_one),
        "{what}: none of these errors says what is cut off: {text}"
    );
    eprintln!(
        "{what}: {}",
        errors
            .iter()
            .map(|error| error.replace('\n', " "))
            .collect::<Vec<_>>()
            .join("\n  ")
    );
    Ok(())
}

fn lab(name: &str) -> Result<Lab> {
    let lab = Builder::standard(&prefix(name)).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    Ok(lab)
}

/// Whether a member has another process than before.
fn one_restarted(scene: &Scene<'_>) -> Result<impl FnMut(&Lab) -> Result<bool> + use<>> {
    let hosts: Vec<String> = scene.hosts.iter().map(|host| (*host).to_owned()).collect();
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let before = started(scene.lab, &names)?;
    Ok(move |lab: &Lab| {
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        Ok(started(lab, &names)? != before)
    })
}

/// Whether the member list has another length than before.
fn list_is_not(count: usize) -> impl FnMut(&Lab) -> Result<bool> {
    move |lab| Ok(member_list(lab, "a1").is_ok_and(|members| members.len() != count))
}

/// A change for which members restart one after the other, and which needs all of them.
fn cut_in_a_roll(
    name: &str,
    what: &'static str,
    applies: u32,
    from: &str,
    wanted: impl Fn(&Lab) -> Result<Configuration>,
) -> Result<()> {
    let lab = lab(name)?;
    let scene = Scene::found_as(&lab, &FIVE, &Configuration::new(&lab, &FIVE, from)?)?;
    let begun = one_restarted(&scene)?;
    let mut change = Change::new(scene, what, wanted(&lab)?, &FIVE);
    (change.quorum_stays, change.needs_all, change.applies) = (true, true, applies);
    change.cut_off(begun)
}

#[test]
fn while_members_roll() -> Result<()> {
    cut_in_a_roll("cut-roll", "another option", 1, "3.6.16", |lab| {
        Ok(Configuration::new(lab, &FIVE, "3.6.16")?.member("config", "{ \"snapshot-count\" = \"20000\" }"))
    })
}

#[test]
fn while_the_version_changes() -> Result<()> {
    cut_in_a_roll("cut-version", "3.5 to 3.6", 1, "3.5.30", |lab| {
        Configuration::new(lab, &FIVE, "3.6.16")
    })
}

#[test]
fn while_the_authorities_are_replaced() -> Result<()> {
    cut_in_a_roll("cut-rotate", "other authorities", 3, "3.6.16", |lab| {
        Ok(Configuration::new(lab, &FIVE, "3.6.16")?.cluster("tls", "{ ca_rotation = \"2027\" }"))
    })
}

#[test]
fn while_three_become_five() -> Result<()> {
    let lab = lab("cut-grow")?;
    let scene = Scene::found(&lab, &THREE)?;
    let mut change = Change::new(
        scene,
        "three become five",
        Configuration::new(&lab, &FIVE, VERSION)?,
        &FIVE,
    );
    // Four voters of which two are cut off have no quorum.
    change.needs_all = true;
    change.cut_off(list_is_not(3))
}

#[test]
fn while_five_become_three() -> Result<()> {
    let lab = lab("cut-shrink")?;
    let scene = Scene::found(&lab, &FIVE)?;
    Change::new(
        scene,
        "five become three",
        Configuration::new(&lab, &THREE, VERSION)?,
        &THREE,
    )
    .cut_off(list_is_not(5))
}

#[test]
fn while_a_dead_server_is_taken_out() -> Result<()> {
    let lab = lab("cut-dead")?;
    let mut scene = Scene::found(&lab, &FIVE)?;
    lab.power_off("c1")?;
    scene.hosts.retain(|host| *host != "c1");
    let hosts = ["a1", "a2", "b1", "b2"];
    // Looking for the lock again and again would miss one that is held for a moment.
    watch(&lab, "a1", "terraform-provider-etcd/main/lock", "/run/lock-seen")?;
    let begun = |lab: &Lab| Ok(lab.read_file("a1", "/run/lock-seen")?.contains("PUT"));
    Change::new(
        scene,
        "a dead server taken out",
        Configuration::new(&lab, &hosts, VERSION)?,
        &hosts,
    )
    .cut_off(begun)
}
