//! What is common to all changes in the middle of which site B is cut off.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{CONTROLLER, Lab, Output};

use crate::configuration::{Configuration, quoted};
use crate::outside::{ctl, eventually, journals};
use crate::scaling::Scene;
use crate::writer::Writer;

/// How long an apply may take that has a site cut off in its middle: its own time-outs, one after the other for the blocks.
pub const ENDS: Duration = Duration::from_secs(240);

/// Site B is no longer reached from anywhere.
pub fn cut(lab: &Lab) -> Result<()> {
    ["A", "C", CONTROLLER].iter().try_for_each(|end| lab.cut("B", end))
}

pub fn heal(lab: &Lab) -> Result<()> {
    ["A", "C", CONTROLLER].iter().try_for_each(|end| lab.heal("B", end))
}

/// The same for an apply that has a site cut off: short enough to see it given up.
pub fn hasty(configuration: Configuration) -> Configuration {
    configuration
        .ssh("keep_alive", quoted("3s"))
        .member("timeouts", "{ create = \"30s\", update = \"20s\", delete = \"30s\" }")
}

/// A change that is under way.
pub struct Change<'a> {
    pub scene: Scene<'a>,
    pub what: &'static str,
    /// What is wanted.
    pub configuration: Configuration,
    /// What stands in `main.tf` beside it.
    pub beside: String,
    /// Where members are to be.
    pub hosts: Vec<&'a str>,
    /// Whether those that are not cut off are a quorum, whatever the change did before.
    pub quorum_stays: bool,
    /// Whether it needs what is cut off, and so has to fail.
    pub needs_all: bool,
    /// How many applies it takes.
    pub applies: u32,
}

impl<'a> Change<'a> {
    pub fn new(scene: Scene<'a>, what: &'static str, configuration: Configuration, hosts: &[&'a str]) -> Self {
        Self {
            scene,
            what,
            configuration,
            beside: String::new(),
            hosts: hosts.to_vec(),
            quorum_stays: false,
            needs_all: false,
            applies: 1,
        }
    }

    /// Cuts site B off as soon as `begun` sees that the change has begun, lets the apply end, heals, and applies again.
    pub fn cut_off(mut self, mut begun: impl FnMut(&Lab) -> Result<bool>) -> Result<()> {
        let (lab, what) = (self.scene.lab, self.what);
        let writer = Writer::start(lab, &self.scene.hosts)?;
        for host in self.hosts.iter().filter(|host| !self.scene.hosts.contains(host)) {
            writer.through(host);
        }
        for host in self.scene.hosts.iter().filter(|host| !self.hosts.contains(host)) {
            writer.without(host);
        }
        let hasty = hasty(self.configuration.clone());
        self.scene
            .terraform
            .write("main.tf", &(hasty.render() + &self.beside))?;
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
                "{what}: nothing is written while site B is cut off\n{}{}{}",
                said.stdout,
                said.stderr,
                journals(lab, &self.scene.hosts)
            );
            // Whoever is on this side has a leader.
            eventually("the rest has a quorum", || {
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
        eventually("B is back", || Ok(ctl(lab, "b1", "put after/cut yes").is_ok()))?;
        self.scene
            .terraform
            .write("main.tf", &(self.configuration.render() + &self.beside))?;
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
pub fn names_what_is_cut_off(what: &str, said: &Output) -> Result<()> {
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
