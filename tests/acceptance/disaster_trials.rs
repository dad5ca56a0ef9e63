//! Restoring and recovering, with the provider killed at a random moment: the next apply ends in what was wanted, with everything that was to
//! be there, and never in an empty cluster or in two.
//!
//!     TRIALS=30 ACCEPTANCE_SEED=1 cargo test --features acceptance --test acceptance -- the_provider_is_killed_in_disasters --ignored --nocapture

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab, Output};

use crate::chance::Chance;
use crate::configuration::{Configuration, quoted};
use crate::lost_quorum::{FORGET, recovery};
use crate::outside::{ctl, eventually, one_cluster};
use crate::prefix;
use crate::restore::{restore, with_snapshot};
use crate::snapshots::{resource, said_by_etcd};
use crate::terraform::Terraform;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
const VERSION: &str = "3.6.16";
/// How many moments the ordinary tests try.
const MOMENTS: u32 = 4;

struct Trials<'a> {
    lab: &'a Lab,
    terraform: Terraform<'a>,
    chance: Chance,
    /// A snapshot with these keys, of this revision.
    file: PathBuf,
    keys: BTreeSet<String>,
    /// How long an apply takes that nobody kills: a restore, a recovery, a snapshot.
    usual: [Duration; 3],
}

/// What the first apply said, and when it was killed; `None` if it was done before.
type Killed = Option<(Output, Duration)>;

impl<'a> Trials<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let terraform = Terraform::new(lab, "1.15")?;
        let (file, _, keys, _) = with_snapshot(lab, &terraform, VERSION, "")?;
        let kept = lab.known_hosts_file().with_file_name("kept.db");
        fs::copy(&file, &kept)?;
        let trials = Self {
            lab,
            terraform,
            chance: Chance::new(),
            file: kept,
            keys,
            usual: [Duration::from_secs(12), Duration::from_secs(12), Duration::from_secs(3)],
        };
        trials.clear()?;
        eprintln!("ACCEPTANCE_SEED={}", trials.chance.seed());
        Ok(trials)
    }

    fn clear(&self) -> Result<()> {
        let command = [
            "destroy",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-refresh=false",
        ];
        self.terraform.run(&command)?.ok()?;
        let wipe = "rm -rf /var/lib/etcd; ls -d /etc/etcd /var/lib/etcd-restore 2>/dev/null || true";
        for host in HOSTS {
            let left = self.lab.exec(host, wipe)?.ok()?;
            ensure!(left.trim().is_empty(), "left on {host}: {left}");
        }
        Ok(())
    }

    fn configuration(&self, hosts: &[&str]) -> Result<Configuration> {
        Ok(Configuration::new(self.lab, hosts, VERSION)?.member("on_destroy", quoted("delete_data")))
    }

    /// Applies, and kills the provider at a random moment.
    fn cut_short(&mut self, kind: usize) -> Result<Killed> {
        self.terraform
            .run(&["plan", "-input=false", "-no-color", "-out=saved.plan"])?
            .ok()?;
        let after = self.usual[kind].mul_f64(self.chance.fraction());
        let begun = Instant::now();
        let mut running = self
            .terraform
            .start(&["apply", "-input=false", "-no-color", "saved.plan"])?;
        while begun.elapsed() < after && !running.ended()? {
            std::thread::sleep(Duration::from_millis(5));
        }
        if running.ended()? {
            self.usual[kind] = begun.elapsed();
            running.wait()?.ok()?;
            return Ok(None);
        }
        // It may end in this very moment.
        running.kill_provider().ok();
        let said = running.wait()?;
        Ok((!said.success()).then_some((said, after)))
    }

    fn keys_at(&self, host: &str) -> Result<BTreeSet<String>> {
        let text = ctl(self.lab, host, "get --prefix --keys-only written/")?;
        Ok(text
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn words(&self, what: &str, killed: &Killed) -> String {
        let said = killed
            .as_ref()
            .map(|(said, after)| format!("killed after {after:?}; it said:\n{}{}", said.stdout, said.stderr));
        format!(
            "ACCEPTANCE_SEED={}: {what}, {}",
            self.chance.seed(),
            said.unwrap_or_default()
        )
    }

    fn restores(&mut self) -> Result<bool> {
        let configuration = self.configuration(&HOSTS)?.cluster("restore", restore(&self.file, ""));
        self.terraform.write("main.tf", &configuration.render())?;
        let killed = self.cut_short(0)?;
        let what = || self.words("restore", &killed);
        if killed.is_some() {
            self.terraform.apply().with_context(what)?;
        }
        one_cluster(self.lab, &HOSTS).with_context(what)?;
        for host in HOSTS {
            ensure!(
                self.keys_at(host)? == self.keys,
                "{host} does not hold what the snapshot holds: {}",
                what()
            );
        }
        self.terraform.nothing_to_do().with_context(what)?;
        let at = killed.as_ref().map(|(_, after)| *after);
        self.clear()?;
        eprintln!("restore: killed after {at:.2?}, converged");
        Ok(at.is_some())
    }

    fn recovers(&mut self) -> Result<bool> {
        self.terraform.write("main.tf", &self.configuration(&HOSTS)?.render())?;
        self.terraform.apply()?;
        let old = one_cluster(self.lab, &HOSTS)?;
        ctl(self.lab, "a1", "put kept yes")?;
        eventually("it is on a1", || {
            Ok(ctl(self.lab, "a1", "get --consistency=s --print-value-only kept")?.trim() == "yes")
        })?;
        self.lab.power_off("b1")?;
        self.lab.power_off("c1")?;
        let two = ["a1", "a2"];
        let configuration = self
            .configuration(&two)?
            .cluster("recovery", recovery("a1", &["b1", "c1"]));
        self.terraform.write("main.tf", &configuration.render())?;
        let killed = self.cut_short(1)?;
        let what = || self.words("recovery", &killed);
        if killed.is_some() {
            self.terraform.apply().with_context(what)?;
        }
        ensure!(
            one_cluster(self.lab, &two).with_context(what)? != old,
            "the old cluster: {}",
            what()
        );
        for host in two {
            let kept = ctl(self.lab, host, "get --print-value-only kept")?;
            ensure!(kept.trim() == "yes", "{host} lost it: {}", what());
        }
        self.terraform.nothing_to_do().with_context(what)?;
        let at = killed.as_ref().map(|(_, after)| *after);
        for host in ["b1", "c1"] {
            self.lab.power_on(host)?;
            self.lab.exec(host, FORGET)?.ok()?;
        }
        self.clear()?;
        self.lab.exec("a2", "rm -rf /var/lib/etcd")?.ok()?;
        eprintln!("recovery: killed after {at:.2?}, converged");
        Ok(at.is_some())
    }

    fn snapshots(&mut self) -> Result<bool> {
        let path = self.terraform.work().join("taken.db");
        let configuration = self
            .configuration(&HOSTS)?
            .cluster("restore", restore(&self.file, ""))
            .render();
        self.terraform.write("main.tf", &configuration)?;
        self.terraform.apply()?;
        let arguments = format!("path = {}", quoted(&path.display().to_string()));
        self.terraform
            .write("main.tf", &(configuration + &resource(&arguments)))?;
        let killed = self.cut_short(2)?;
        let what = || self.words("snapshot", &killed);
        // Whole, or not there.
        if path.exists() {
            said_by_etcd(&path).with_context(what)?;
        }
        if killed.is_some() {
            self.terraform.apply().with_context(what)?;
        }
        said_by_etcd(&path).with_context(what)?;
        self.terraform.nothing_to_do().with_context(what)?;
        let left = fs::read_dir(self.terraform.work())?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().contains("partial"));
        ensure!(left.count() == 0, "a piece is left: {}", what());
        let at = killed.as_ref().map(|(_, after)| *after);
        fs::remove_file(&path)?;
        self.clear()?;
        eprintln!("snapshot: killed after {at:.2?}, converged");
        Ok(at.is_some())
    }
}

#[test]
fn a_restore_is_interrupted() -> Result<()> {
    let lab = Builder::standard(&prefix("restore-kill")).only(&HOSTS).up()?;
    let mut trials = Trials::new(&lab)?;
    let mut killed = 0;
    for _ in 0..MOMENTS {
        killed += u32::from(trials.restores()?);
    }
    ensure!(killed > 0, "none of the applies was interrupted");
    Ok(())
}

#[test]
#[ignore = "takes half a minute for each trial: run it by name with --ignored"]
fn the_provider_is_killed_in_disasters() -> Result<()> {
    let wanted: u32 = match std::env::var("TRIALS") {
        Ok(count) => count.parse().context("TRIALS is no number")?,
        Err(_) => 6,
    };
    let lab = Builder::standard(&prefix("disasters"))
        .only(&["a1", "a2", "b1", "c1"])
        .up()?;
    let mut trials = Trials::new(&lab)?;
    let (mut killed, mut by_kind) = (0, [0; 3]);
    for round in 0.. {
        if killed >= wanted {
            break;
        }
        ensure!(
            round < 3 * wanted + 3,
            "of {round} applies only {killed} were killed in time"
        );
        let kind = (round % 3) as usize;
        let was = match kind {
            0 => trials.restores(),
            1 => trials.recovers(),
            _ => trials.snapshots(),
        };
        let was = u32::from(was?);
        killed += was;
        by_kind[kind] += was;
        eprintln!("{killed} of {wanted}");
    }
    eprintln!(
        "killed and converged: {} restores, {} recoveries, {} snapshots",
        by_kind[0], by_kind[1], by_kind[2]
    );
    Ok(())
}
