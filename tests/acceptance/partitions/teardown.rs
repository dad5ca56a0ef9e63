//! A site is cut off while everything is destroyed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::Lab;

use super::change::{ENDS, cut, hasty, heal, names_what_is_cut_off};
use super::{FIVE, lab};
use crate::configuration::Configuration;
use crate::outside::leftovers;
use crate::scaling::{Scene, VERSION};

const DESTROY: [&str; 4] = ["destroy", "-auto-approve", "-input=false", "-no-color"];
/// Has the services of site B take a while to stop, so that there is a moment in which they do.
const SLOWLY: &str = "d=/run/systemd/system/etcd-main.service.d; mkdir -p $d; \
    printf '[Service]\\nExecStop=/bin/sleep 5\\n' >$d/slow.conf; systemctl daemon-reload";
const USUALLY: &str = "rm -r /run/systemd/system/etcd-main.service.d; systemctl daemon-reload";

fn nothing_is_left(lab: &Lab, hosts: &[&str]) -> Result<()> {
    for host in hosts {
        let left = leftovers(lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
    }
    Ok(())
}

/// What a destroy says that is to be done by hand on a server that it does not reach.
const BY_HAND: &str = "systemctl disable --now etcd-main.service etcd-hosts@main.path; \
    rm -r /etc/etcd/main /etc/systemd/system/etcd-main.service /etc/systemd/system/etcd-hosts@main.service \
    /etc/systemd/system/etcd-hosts@main.path; systemctl daemon-reload; systemctl reset-failed; \
    userdel etcd-main; sed '/^# BEGIN etcd cluster main/,/^# END etcd cluster main/d' /etc/hosts >/root/hosts && cat /root/hosts >/etc/hosts";

/// What the servers of site B were told to do they do; nobody hears of it.
#[test]
fn while_everything_is_destroyed() -> Result<()> {
    let lab = lab("cut-destroy")?;
    let scene = Scene::found(&lab, &FIVE)?;
    scene
        .terraform
        .write("main.tf", &hasty(Configuration::new(&lab, &FIVE, VERSION)?).render())?;
    for host in ["b1", "b2"] {
        lab.exec(host, SLOWLY)?.ok()?;
    }
    let mut running = scene.terraform.start(&DESTROY)?;
    let start = Instant::now();
    let stops = |host: &str| {
        let state = lab.exec(host, "systemctl is-active etcd-main")?;
        Ok::<_, anyhow::Error>(state.stdout.trim() == "deactivating")
    };
    while !stops("b1")? {
        ensure!(!running.ended()?, "it ended before it was seen to begin");
        ensure!(start.elapsed() < ENDS, "it does not begin");
    }
    cut(&lab)?;
    let cut_at = Instant::now();
    while !running.ended()? {
        ensure!(cut_at.elapsed() < ENDS, "the destroy does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = running.wait()?;
    eprintln!("destroyed, site B cut off: it ended after {:.1?}", cut_at.elapsed());
    ensure!(!said.success(), "it succeeded with a site cut off: {}", said.stdout);
    names_what_is_cut_off("everything destroyed", &said)?;
    heal(&lab)?;
    for host in ["b1", "b2"] {
        lab.exec(host, USUALLY)?.ok()?;
    }
    let begun = Instant::now();
    scene.terraform.destroy().context("after the cut")?;
    eprintln!("destroyed, after the cut: {:.1?}", begun.elapsed());
    nothing_is_left(&lab, &FIVE)?;

    // Cut off before it begins, they count as dead: nobody waits for them, and what is left there is said.
    let scene = Scene::found(&lab, &FIVE)?;
    cut(&lab)?;
    let begun = Instant::now();
    let said = scene.terraform.destroy().context("with site B cut off")?;
    eprintln!("destroyed, site B cut off before: {:.1?}", begun.elapsed());
    let said = said.replace('\n', " ");
    for host in ["b1", "b2"] {
        for words in [
            format!("Server {host} was left as it is"),
            format!("Server {host} was not cleared"),
        ] {
            ensure!(said.contains(&words), "not said: {words}\n{said}");
        }
    }
    nothing_is_left(&lab, &["a1", "a2", "c1"])?;
    heal(&lab)?;
    for host in ["b1", "b2"] {
        lab.exec(host, BY_HAND)?.ok()?;
    }
    nothing_is_left(&lab, &FIVE)
}
