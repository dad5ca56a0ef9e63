//! Trials: a change of a running cluster whose provider is killed at a random moment, while a client writes all the time. The next
//! apply ends in what was wanted, a plan after it finds nothing to do, and nothing that was acknowledged is lost.
//!
//!     TRIALS=100 ACCEPTANCE_SEED=1 cargo test --features acceptance --test acceptance -- the_provider_is_killed_in_changes --ignored --nocapture
//!
//! `TRIALS_OF=drift,addresses` makes only the changes that have one of these words in their names.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab, Output};

use crate::certificates::grow_old;
use crate::chance::Chance;
use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, journals, one_cluster, status};
use crate::prefix;
use crate::scaling::Scene;
use crate::terraform::Terraform;
use crate::writer::{Writer, Written};

const ALL: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];
const VERSIONS: [&str; 3] = ["3.5.30", "3.6.16", "3.7.3"];
/// How many trials there are without `TRIALS`: one each of the changes that take least time.
const FEW: usize = 4;
/// Both authorities trusted, certificates issued by the new one, the old one forgotten.
const STEPS_OF_A_ROTATION: u32 = 3;
/// An election takes one or two seconds, and a client finds another member within one: a pause that is this long is none of these,
/// but a quorum that was broken.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// Another option, for which every member is restarted.
    Option,
    /// Three become five.
    Grow,
    /// A member whose data is lost.
    Wiped,
    /// Five become three.
    Shrink,
    /// The next minor version of etcd.
    Upgrade,
    /// A machine that is gone for good, and another server in its place.
    Replace,
    /// Other authorities, in three applies.
    Rotate,
    /// Other public addresses of two servers.
    Move,
    /// Configurations that somebody edited, and a service that somebody stopped.
    Drift,
    /// Certificates that end soon.
    Renew,
    /// Other ports of all that no router forwards them to.
    Ports,
}

const CHANGES: [Change; 11] = [
    Change::Option,
    Change::Renew,
    Change::Drift,
    Change::Move,
    Change::Rotate,
    Change::Grow,
    Change::Wiped,
    Change::Shrink,
    Change::Upgrade,
    Change::Replace,
    Change::Ports,
];

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option => "another option",
            Self::Grow => "three become five",
            Self::Wiped => "data lost",
            Self::Shrink => "five become three",
            Self::Upgrade => "next minor version",
            Self::Replace => "dead server replaced",
            Self::Rotate => "other authorities",
            Self::Move => "other public addresses",
            Self::Drift => "drift",
            Self::Renew => "certificates that end soon",
            Self::Ports => "other ports",
        })
    }
}

/// What came of the trials of one change.
#[derive(Default)]
struct Record {
    killed: u32,
    in_time: u32,
    longest_pause: Duration,
    /// How long an apply takes that nobody kills, as far as that is known.
    whole: Option<Duration>,
}

/// The cluster that all is tried on.
struct Trials<'a> {
    scene: Scene<'a>,
    chance: Chance,
    version: usize,
    /// The option that changes; none at first.
    snapshots: Option<u32>,
    /// How often the authorities were replaced.
    rotations: u32,
    /// How often an address was changed.
    moves: u8,
    /// How often ports were changed.
    ports: u16,
    /// What is tried.
    changes: Vec<Change>,
    records: BTreeMap<Change, Record>,
}

/// What becomes of the provider that a trial kills, and of the apply after it.
struct Outcome {
    after: Duration,
    killed: bool,
    took: Duration,
    written: Written,
}

impl<'a> Trials<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let only = std::env::var("TRIALS_OF").unwrap_or_default();
        let is_wanted = |change: &Change| only.split(',').any(|word| change.to_string().contains(word));
        let changes: Vec<Change> = CHANGES.into_iter().filter(is_wanted).collect();
        ensure!(
            !changes.is_empty(),
            "no change has one of these words in its name: {only}"
        );
        Ok(Self {
            scene: Scene::found_with(lab, &["a1", "b1", "c1"], VERSIONS[0])?,
            chance: Chance::new(),
            version: 0,
            snapshots: None,
            rotations: 0,
            moves: 0,
            ports: 0,
            records: changes.iter().map(|change| (*change, Record::default())).collect(),
            changes,
        })
    }

    fn lab(&self) -> &'a Lab {
        self.scene.lab
    }

    /// The change that was tried least often among those that can be made.
    fn next(&self) -> Change {
        let fits = |change: &&Change| match change {
            Change::Grow => self.scene.hosts.len() == 3,
            Change::Shrink => self.scene.hosts.len() == 5,
            // With five there is no server left to come in its place.
            Change::Replace => self.scene.hosts.len() == 3,
            _ => true,
        };
        let tried = |change: &&Change| self.records.get(change).map_or(0, |record| record.killed);
        { self.changes.iter() }
            .filter(fits)
            .min_by_key(tried)
            .copied()
            .unwrap_or(Change::Option)
    }

    /// A new cluster of the oldest version, as no version goes back.
    fn begin_anew(&mut self) -> Result<()> {
        self.scene.terraform.destroy()?;
        (self.version, self.snapshots, self.rotations, self.ports) = (0, None, 0, 0);
        self.scene.hosts = vec!["a1", "b1", "c1"];
        self.scene.terraform.write("main.tf", &self.configuration()?)?;
        self.scene.terraform.apply()?;
        self.scene.cluster = one_cluster(self.lab(), &self.scene.hosts)?;
        Ok(())
    }

    fn configuration(&self) -> Result<String> {
        let configuration = Configuration::new(self.lab(), &self.scene.hosts, VERSIONS[self.version])?;
        let configuration = match self.snapshots {
            Some(count) => configuration.member("config", format!("{{ \"snapshot-count\" = \"{count}\" }}")),
            None => configuration,
        };
        let configuration = match self.rotations {
            0 => configuration,
            number => configuration.cluster("tls", format!("{{ ca_rotation = \"{number}\" }}")),
        };
        let hosts = self.scene.hosts.iter().filter(|host| **host != "c1" && self.ports > 0);
        let configuration = hosts.fold(configuration, |configuration, host| {
            let port = |first: u16| (first + self.ports).to_string();
            configuration
                .server(host, "peer_port", port(12_000))
                .server(host, "client_port", port(13_000))
        });
        Ok(configuration.render())
    }

    /// Makes a trial of the change, and says whether the provider was killed in it.
    fn make(&mut self, change: Change) -> Result<bool> {
        if change == Change::Upgrade && self.version + 1 == VERSIONS.len() {
            self.begin_anew()?;
        }
        let lab = self.lab();
        let writer = Writer::start(lab, &self.scene.hosts)?;
        let dead = self.wish(change, &writer)?;
        let outcome = self.try_it(change, writer)?;
        if let Some(dead) = dead {
            // Another machine for a later trial; nothing of the old one is left.
            lab.replace_machine(dead)?;
            lab.power_on(dead)?;
            lab.trust(dead)?;
        }
        for host in ALL {
            lab.exec(host, "rm -rf /var/lib/etcd/main.*")?.ok()?;
        }
        let record = self.records.entry(change).or_default();
        if outcome.killed {
            record.killed += 1;
            record.longest_pause = record.longest_pause.max(outcome.written.longest_pause.length);
            eprintln!(
                "{change}: killed after {:.2?}, the next apply took {:.1?}; {} writes, longest pause {:.0?}",
                outcome.after, outcome.took, outcome.written.acknowledged, outcome.written.longest_pause.length
            );
        } else {
            record.in_time += 1;
            record.whole = Some(outcome.took);
            eprintln!("{change}: done in {:.1?} before it was killed", outcome.took);
        }
        Ok(outcome.killed)
    }

    /// Writes the wanted configuration, and does to the cluster what the change is to mend. Returns the host that is dead now.
    fn wish(&mut self, change: Change, writer: &Writer) -> Result<Option<&'a str>> {
        let hosts = self.scene.hosts.clone();
        let mut dead = None;
        match change {
            Change::Option => self.snapshots = Some(self.snapshots.unwrap_or(20_000) + 1),
            Change::Upgrade => self.version += 1,
            Change::Rotate => self.rotations += 1,
            Change::Ports => self.ports += 1,
            Change::Renew => grow_old(&self.scene)?,
            Change::Drift => self.spoil()?,
            Change::Move => self.move_some()?,
            Change::Grow => {
                ALL.into_iter()
                    .filter(|host| !hosts.contains(host))
                    .for_each(|host| writer.through(host));
                self.scene.hosts = ALL.to_vec();
            }
            Change::Shrink => {
                for _ in 0..2 {
                    let goes = self.chance.one_of(&self.scene.hosts).context("nobody to go")?;
                    writer.without(goes);
                    self.scene.hosts.retain(|host| *host != goes);
                }
            }
            Change::Wiped => {
                let host = self.chance.one_of(&hosts).context("nobody to wipe")?;
                let wipe =
                    "systemctl kill --signal=KILL etcd-main; systemctl stop etcd-main; rm -rf /var/lib/etcd/main";
                self.lab().exec(host, wipe)?.ok()?;
            }
            Change::Replace => {
                let gone = self.chance.one_of(&hosts).context("nobody to die")?;
                let spare: Vec<&str> = ALL.into_iter().filter(|host| !hosts.contains(host)).collect();
                let comes = self.chance.one_of(&spare).context("nobody to come")?;
                writer.without(gone);
                self.lab().power_off(gone)?;
                writer.through(comes);
                self.scene.hosts = hosts.into_iter().filter(|host| *host != gone).chain([comes]).collect();
                dead = Some(gone);
            }
        }
        self.scene.terraform.write("main.tf", &self.configuration()?)?;
        Ok(dead)
    }

    /// So many of the hosts that a quorum stays without them, by chance.
    fn some(&mut self) -> Result<Vec<&'a str>> {
        let mut left = self.scene.hosts.clone();
        let count = (left.len() - 1) / 2;
        let mut some = Vec::new();
        for _ in 0..count {
            let one = self.chance.one_of(&left).context("nobody left")?;
            left.retain(|host| *host != one);
            some.push(one);
        }
        Ok(some)
    }

    /// Stops some members, and edits what another one is started with.
    fn spoil(&mut self) -> Result<()> {
        let stopped = self.some()?;
        for host in &stopped {
            self.lab().exec(host, "systemctl stop etcd-main")?.ok()?;
        }
        let edited = self.scene.hosts.iter().filter(|host| !stopped.contains(host));
        for host in edited.take(2) {
            let edit = "sed -i 's/^heartbeat-interval: .*/heartbeat-interval: 150/' /etc/etcd/main/etcd.yaml";
            self.lab().exec(host, edit)?.ok()?;
        }
        Ok(())
    }

    /// Gives some hosts other public addresses.
    fn move_some(&mut self) -> Result<()> {
        let mut lab = Lab::attach(self.lab().prefix())?;
        for host in self.some()? {
            self.moves += 1;
            lab.set_public(host, [203, 0, 113, 100 + self.moves].into())?;
            // Terraform may have forgotten it by the time that it comes back.
            lab.trust(host)?;
        }
        // Whoever asks for an address from now on is to have the new one. The process ends with the trials.
        self.scene.lab = Box::leak(Box::new(lab));
        Ok(())
    }

    fn try_it(&mut self, change: Change, writer: Writer) -> Result<Outcome> {
        let terraform = &self.scene.terraform;
        let steps = if change == Change::Rotate {
            STEPS_OF_A_ROTATION
        } else {
            1
        };
        // The provider is killed in one of them.
        let before = (self.chance.fraction() * f64::from(steps)) as u32;
        for _ in 0..before {
            let seen = || format!("{change}\n{}", journals(self.lab(), &self.scene.hosts));
            terraform.apply().with_context(seen)?;
        }
        let plan = ["plan", "-input=false", "-no-color", "-out=saved.plan"];
        terraform.run(&plan)?.ok().with_context(|| change.to_string())?;
        let usual = self.records.get(&change).and_then(|record| record.whole);
        let after = usual.unwrap_or(Duration::from_secs(20)).mul_f64(self.chance.fraction());
        let begun = Instant::now();
        let (first, killed) = kill_after(terraform, after)?;
        let what = || {
            format!(
                "ACCEPTANCE_SEED={}: {change}, killed after {after:?}: {killed}; that apply said:\n{}{}\n{}",
                self.chance.seed(),
                first.stdout,
                first.stderr,
                journals(self.lab(), &self.scene.hosts)
            )
        };
        if !killed {
            first.clone().ok().with_context(what)?;
        }
        let mut took = begun.elapsed();
        if killed {
            let again = Instant::now();
            terraform.apply().with_context(what)?;
            took = again.elapsed();
        }
        for _ in 1..steps {
            if terraform.nothing_to_do().is_ok() {
                break;
            }
            // The client trusts and shows what the hosts do, from its next connection on.
            self.scene.hosts.iter().for_each(|host| writer.through(host));
            terraform.apply().with_context(what)?;
        }
        self.scene.is_whole().with_context(what)?;
        self.runs_what_is_wanted().with_context(what)?;
        let written = writer.stop().with_context(what)?;
        written.nothing_lost().with_context(what)?;
        let pause = written.longest_pause;
        ensure!(
            pause.length < LONGEST_PAUSE,
            "{}: nothing was written for {pause:?}",
            what()
        );
        Ok(Outcome {
            after,
            killed,
            took,
            written,
        })
    }

    /// As each member itself says, and its configuration.
    fn runs_what_is_wanted(&self) -> Result<()> {
        for host in &self.scene.hosts {
            let runs = status(self.lab(), host)?.version;
            ensure!(runs == VERSIONS[self.version], "{host} runs {runs}");
            let text = self.lab().read_file(host, "/etc/etcd/main/etcd.yaml")?;
            let count = self.snapshots.map(|count| format!("snapshot-count: {count}"));
            ensure!(count.is_none_or(|count| text.contains(&count)), "{host} has {text}");
            let command = "tr '\\0' ' ' < /proc/$(pgrep -xo etcd)/cmdline";
            let command = self.lab().exec(host, command)?.ok()?;
            ensure!(!command.contains("snapshot.yaml"), "{host} runs {command}");
        }
        // Where nothing was left to do the dead provider's may still be there, and goes by itself.
        eventually("no lock is left", || {
            let host = self.scene.hosts.first().context("no hosts")?;
            Ok(
                ctl(self.lab(), host, "get --prefix --keys-only terraform-provider-etcd/")?
                    .trim()
                    .is_empty(),
            )
        })
    }
}

/// Applies the saved plan, and kills the provider after some time; what Terraform said, and whether it was killed in time.
fn kill_after(terraform: &Terraform, after: Duration) -> Result<(Output, bool)> {
    let begun = Instant::now();
    let mut running = terraform.start(&["apply", "-input=false", "-no-color", "saved.plan"])?;
    while begun.elapsed() < after && !running.ended()? {
        std::thread::sleep(Duration::from_millis(5));
    }
    if !running.ended()? {
        // It may end in this very moment.
        running.kill_provider().ok();
    }
    let said = running.wait()?;
    let killed = !said.success();
    Ok((said, killed))
}

#[test]
#[ignore = "takes minutes for each trial: run it by name with --ignored"]
fn the_provider_is_killed_in_changes() -> Result<()> {
    let wanted = match std::env::var("TRIALS") {
        Ok(count) => count.parse().context("TRIALS is no number")?,
        Err(_) => FEW,
    };
    let lab = Builder::standard(&prefix("trials")).only(&ALL).up()?;
    let mut trials = Trials::new(&lab)?;
    let seed = trials.chance.seed();
    eprintln!("ACCEPTANCE_SEED={seed}");
    let mut killed = 0;
    for round in 0.. {
        if killed == wanted {
            break;
        }
        ensure!(
            round < 3 * wanted + 3,
            "of {round} applies only {killed} were killed in time"
        );
        let change = trials.next();
        eprint!("{killed} of {wanted}: ");
        killed += usize::from(trials.make(change)?);
    }
    for (change, record) in &trials.records {
        eprintln!(
            "{change}: {} killed and converged, {} were done before; longest pause {:.0?}",
            record.killed, record.in_time, record.longest_pause
        );
    }
    Ok(())
}
