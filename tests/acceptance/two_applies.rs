//! Two applies at once, of two working directories: the cluster's lock keeps them apart.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_lab::Builder;

use crate::configuration::{Configuration, quoted};
use crate::outside::{ctl, hosts_block, member_list, within};
use crate::prefix;
use crate::scaling::{Scene, VERSION};
use crate::writer::Writer;

const THREE: [&str; 3] = ["a1", "b1", "c1"];
const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];
const LOCK: &str = "terraform-provider-etcd/main/lock";
/// An election, and not a quorum that was broken.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

fn option(count: u32) -> String {
    format!("{{ \"snapshot-count\" = \"{count}\" }}")
}

#[test]
fn one_rolls_while_the_other_adds_a_member() -> Result<()> {
    let hosts = ["a1", "a2", "b1", "c1"];
    let lab = Builder::standard(&prefix("two")).only(&hosts).up()?;
    let scene = Scene::found(&lab, &THREE)?;
    // The same state in another place, as if somebody had copied it.
    let mut other = Scene::resume(&lab, &THREE, scene.cluster)?;
    let state = "terraform.tfstate";
    fs::copy(scene.terraform.work().join(state), other.terraform.work().join(state))?;
    let three = Configuration::new(&lab, &THREE, VERSION)?;
    let four = Configuration::new(&lab, &hosts, VERSION)?;
    scene
        .terraform
        .write("main.tf", &three.clone().member("config", option(20_001)).render())?;
    other.terraform.write("main.tf", &four.render())?;

    let writer = Writer::start(&lab, &THREE)?;
    writer.through("a2");
    let rolls = scene.terraform.start(&APPLY)?;
    let adds = other.terraform.start(&APPLY)?;
    let (rolled, added) = (rolls.wait()?, adds.wait()?);
    added.ok().context("the one that adds")?;
    // Its state does not know the member that was added. Where that one votes before it has its turn, it can't see it well, and
    // has to refuse.
    if !rolled.success() {
        let words: Vec<&str> = rolled.stderr.split_whitespace().filter(|word| *word != "│").collect();
        let words = words.join(" ");
        ensure!(
            words.contains("2 of 4 voting members would be healthy, where 3 have to be"),
            "{words}"
        );
    }
    let listed = member_list(&lab, "a1")?;
    ensure!(listed.len() == 4 && listed.iter().all(|one| !one.learner), "{listed:?}");

    // Whoever applies last has it his way, in the same state as if he had been alone.
    fs::copy(other.terraform.work().join(state), scene.terraform.work().join(state))?;
    let both = four.member("config", option(20_001)).render();
    other.terraform.write("main.tf", &both)?;
    other.terraform.apply()?;
    other.hosts = hosts.to_vec();
    other.is_whole()?;
    ensure!(hosts_block(&lab, "b1")?.len() == 4, "b1 does not have its view");
    let written = writer.stop()?;
    eprintln!("one rolls, the other adds: {written}");
    written.nothing_lost()?;
    ensure!(written.longest_pause.length < LONGEST_PAUSE, "{written}");
    Ok(())
}

#[test]
fn who_finds_the_lock_taken_waits_and_then_names_its_holder() -> Result<()> {
    let lab = Builder::standard(&prefix("two-lock")).only(&THREE).up()?;
    let scene = Scene::found(&lab, &THREE)?;
    // Somebody on another machine, in the middle of something.
    ctl(&lab, "a1", &format!("put {LOCK} 'a colleague on another machine'"))?;
    let rolling = |timeout: &str| -> Result<String> {
        let configuration = Configuration::new(&lab, &THREE, VERSION)?.member("config", option(20_001));
        Ok(configuration
            .member("timeouts", format!("{{ update = {} }}", quoted(timeout)))
            .render())
    };
    scene.terraform.write("main.tf", &rolling("15s")?)?;
    let said = scene.terraform.apply_fails()?;
    ensure!(
        said.contains("a colleague on another machine is changing this cluster"),
        "{said}"
    );
    for host in THREE {
        let text = lab.read_file(host, "/etc/etcd/main/etcd.yaml")?;
        ensure!(!text.contains("20001"), "{host} was changed: {text}");
    }
    // It goes with its lease, which nobody keeps alive, and whoever has time waits for that.
    let lease = ctl(&lab, "a1", "lease grant 20")?;
    let lease = lease.split_whitespace().nth(1).context("no lease")?;
    ctl(
        &lab,
        "a1",
        &format!("put {LOCK} --lease={lease} 'a colleague on another machine'"),
    )?;
    scene.terraform.write("main.tf", &rolling("300s")?)?;
    scene.terraform.apply()?;
    scene.is_whole()?;
    within("the lock is given back", Duration::from_secs(15), || {
        Ok(ctl(&lab, "a1", &format!("get --keys-only {LOCK}"))?.trim().is_empty())
    })
}
