//! An apply that is interrupted anywhere is carried on by the next one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};

use crate::configuration::Configuration;
use crate::outside::one_cluster;
use crate::terraform::{Running, Terraform};

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];
/// At how many moments, spread evenly over an apply, it is interrupted.
const MOMENTS: u32 = 20;

/// Interrupts applies at [`MOMENTS`] moments; each time the next apply has to end in one cluster.
fn converges(prefix: &str, interrupt: impl Fn(&Lab, &mut Running) -> Result<()>) -> Result<()> {
    let lab = Builder::standard(prefix).only(&HOSTS).up()?;
    lab.wan_everywhere(Delay::ms(5.0))?;
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(
        &Configuration::new(&lab, &HOSTS, "3.6.16")?
            .member("on_destroy", "{ keep_data = false }")
            .render(),
    )?;
    let start = Instant::now();
    terraform.apply()?;
    let whole = start.elapsed();
    terraform.destroy()?;
    for moment in 1..=MOMENTS {
        let after = whole * moment / (MOMENTS + 1);
        let mut running = terraform.start(&APPLY)?;
        std::thread::sleep(after);
        interrupt(&lab, &mut running).ok();
        let first = running.wait()?;
        let what = || {
            format!(
                "interrupted after {after:?} of {whole:?}; the interrupted apply said:\n{}",
                first.stderr
            )
        };
        terraform.apply().with_context(what)?;
        one_cluster(&lab, &HOSTS).with_context(what)?;
        terraform.nothing_to_do().with_context(what)?;
        terraform.destroy().with_context(what)?;
    }
    Ok(())
}

#[test]
fn the_provider_is_killed() -> Result<()> {
    converges("int-kill", |_, running| running.kill_provider())
}

#[test]
fn the_ssh_connections_are_cut() -> Result<()> {
    converges("int-ssh", |lab, _| {
        HOSTS.iter().try_for_each(|host| lab.cut_ssh(host).map(drop))
    })
}

#[test]
fn ctrl_c_ends_within_ten_seconds_with_state() -> Result<()> {
    let lab = Builder::standard("int-ctrlc").only(&HOSTS).up()?;
    lab.wan_everywhere(Delay::ms(50.0))?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&Configuration::new(&lab, &HOSTS, "3.6.16")?.render())?;
    let mut running = terraform.start(&APPLY)?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(!running.ended()?, "the apply ended before it could be interrupted");
    running.interrupt()?;
    let pressed = Instant::now();
    let said = running.wait()?;
    ensure!(
        pressed.elapsed() < Duration::from_secs(10),
        "it took {:?}",
        pressed.elapsed()
    );
    ensure!(!said.success(), "it was not interrupted");
    let resources = terraform.state()?["values"]["root_module"]["resources"]
        .as_array()
        .map_or(0, Vec::len);
    ensure!(resources > 0, "the state is empty");
    terraform.apply()?;
    one_cluster(&lab, &HOSTS).map(drop)
}
