//! A site is cut off in the middle of a change, from the others and from who runs Terraform, while a client writes. The apply waits or
//! says what it can't reach, and after the cut the next one ends in what was wanted.

mod change;
mod teardown;

use anyhow::{Result, ensure};
use etcd_lab::{Builder, CONTROLLER, Delay, Lab};

use crate::authorities::make_authorities;
use crate::certificates::{grow_old, sums};
use crate::configuration::Configuration;
use crate::outside::{member_list, one_cluster, watch};
use crate::plain::{self, Kind};
use crate::prefix;
use crate::rolling::started;
use crate::scaling::{Scene, VERSION};
use crate::terraform::Terraform;

use change::Change;

const FIVE: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];
const THREE: [&str; 3] = ["a1", "b1", "c1"];

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

/// Site B is further away from who runs Terraform: what is done everywhere at once is done there last.
fn further_away(lab: &Lab) -> Result<()> {
    lab.wan("B", CONTROLLER, Delay::ms(400.0))
}

/// One of the servers that move is cut off, and the other one has the vote that the rest needs.
#[test]
fn while_addresses_move() -> Result<()> {
    let lab = lab("cut-move")?;
    let scene = Scene::found(&lab, &FIVE)?;
    let mut moved = Lab::attach(lab.prefix())?;
    moved.set_public("b1", [203, 0, 113, 29].into())?;
    moved.set_public("c1", [203, 0, 113, 39].into())?;
    further_away(&moved)?;
    let scene = Scene { lab: &moved, ..scene };
    let wanted = Configuration::new(&moved, &FIVE, VERSION)?;
    let mut change = Change::new(scene, "two public addresses", wanted, &FIVE);
    (change.quorum_stays, change.needs_all) = (true, true);
    let has =
        |lab: &Lab, host: &str| Ok::<_, anyhow::Error>(lab.read_file(host, "/etc/hosts")?.contains("203.0.113.39"));
    change.cut_off(|lab| Ok(has(lab, "a1")? && !has(lab, "b2")?))
}

/// Three configurations were edited, and another member was stopped, without which those that are not cut off are no quorum.
#[test]
fn while_drift_is_mended() -> Result<()> {
    let lab = lab("cut-drift")?;
    let scene = Scene::found(&lab, &FIVE)?;
    for host in ["a1", "b1", "b2"] {
        let edit = "sed -i 's/^heartbeat-interval: .*/heartbeat-interval: 150/' /etc/etcd/main/etcd.yaml";
        lab.exec(host, edit)?.ok()?;
    }
    lab.exec("c1", "systemctl stop etcd-main")?.ok()?;
    let begun = one_restarted(&scene)?;
    let mut change = Change::new(scene, "drift", Configuration::new(&lab, &FIVE, VERSION)?, &FIVE);
    (change.quorum_stays, change.needs_all) = (true, true);
    change.cut_off(begun)?;
    for host in FIVE {
        let text = lab.read_file(host, "/etc/etcd/main/etcd.yaml")?;
        ensure!(!text.contains("heartbeat-interval: 150"), "{host} has {text}");
    }
    Ok(())
}

#[test]
fn while_certificates_are_issued_anew() -> Result<()> {
    let lab = lab("cut-renew")?;
    let scene = Scene::found(&lab, &FIVE)?;
    grow_old(&scene)?;
    let (old, processes) = (sums(&lab, &FIVE, "peer.crt")?, started(&lab, &FIVE)?);
    further_away(&lab)?;
    let mut change = Change::new(
        scene,
        "certificates that end soon",
        Configuration::new(&lab, &FIVE, VERSION)?,
        &FIVE,
    );
    (change.quorum_stays, change.needs_all) = (true, true);
    change.cut_off(|lab| {
        let now = sums(lab, &["a1", "b1", "b2"], "peer.crt")?;
        Ok(now["a1"] != old["a1"] && now["b1"] == old["b1"] && now["b2"] == old["b2"])
    })?;
    let new = sums(&lab, &FIVE, "peer.crt")?;
    ensure!(FIVE.iter().all(|host| new[*host] != old[*host]), "one is the old one");
    ensure!(started(&lab, &FIVE)? == processes, "a member was restarted");
    Ok(())
}

#[test]
fn while_a_plain_cluster_is_taken_over() -> Result<()> {
    let lab = lab("cut-adopt")?;
    let terraform = Terraform::new(&lab, "1.15")?;
    make_authorities(&terraform.work())?;
    plain::make(&lab, &THREE, VERSION, Kind::Own, &terraform.work())?;
    let ids = member_list(&lab, "a1")?.into_iter().map(|one| one.id).collect();
    let wanted = plain::configuration(&lab, &THREE, VERSION, Kind::Own)?;
    let imports = plain::imports(&lab, &THREE, Kind::Own, false)?;
    terraform.configure(&(wanted.render() + &imports))?;
    let scene = Scene {
        lab: &lab,
        terraform,
        cluster: one_cluster(&lab, &THREE)?,
        hosts: THREE.to_vec(),
    };
    let mut change = Change::new(scene, "a plain cluster taken over", wanted, &THREE);
    (change.beside, change.quorum_stays, change.needs_all) = (imports, true, true);
    // The first one is being handed over.
    change.cut_off(|lab| {
        let handed = |host: &&str| {
            lab.exec(host, "test -e /etc/etcd/main/adopted-from")
                .is_ok_and(|said| said.success())
        };
        Ok(THREE.iter().any(handed))
    })?;
    plain::by_names(&lab, &THREE, &ids, Kind::Own)
}
