//! An apply that is interrupted anywhere is carried on by the next one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab, Output};

use crate::chance::Chance;
use crate::configuration::{Configuration, quoted};
use crate::outside::{eventually, one_cluster};
use crate::prefix;
use crate::terraform::{Running, Terraform};

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
/// Of a saved plan, so that every moment falls into the changes themselves.
const APPLY: [&str; 4] = ["apply", "-input=false", "-no-color", "saved.plan"];
const PLAN: [&str; 5] = ["plan", "-input=false", "-no-color", "-refresh=false", "-out=saved.plan"];
// What was there has just been looked at: no need to look again.
const DESTROY: [&str; 5] = [
    "destroy",
    "-auto-approve",
    "-input=false",
    "-no-color",
    "-refresh=false",
];
/// At how many moments it is interrupted: one in each of so many equal parts of an apply.
const MOMENTS: u32 = 20;

/// An apply of a saved plan that was interrupted.
struct Interrupted {
    first: Output,
    after: Duration,
}

/// Runs an apply and interrupts it at `fraction` of the time that it takes, `whole`; an apply that is over by then says how long it
/// really takes, and another one is interrupted.
fn interrupted(
    lab: &Lab,
    terraform: &Terraform,
    whole: &mut Duration,
    fraction: f64,
    interrupt: &impl Fn(&Lab, &mut Running) -> Result<()>,
) -> Result<Interrupted> {
    loop {
        terraform.run(&PLAN)?.ok()?;
        let start = Instant::now();
        let mut running = terraform.start(&APPLY)?;
        let after = whole.mul_f64(fraction);
        while start.elapsed() < after && !running.ended()? {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !running.ended()? {
            // It may end in this very moment.
            interrupt(lab, &mut running).ok();
            let first = running.wait()?;
            return Ok(Interrupted { first, after });
        }
        *whole = start.elapsed().min(whole.mul_f64(0.95));
        running.wait()?.ok()?;
        terraform.run(&DESTROY)?.ok()?;
    }
}

/// Interrupts applies at all [`Moments`]; each time the next apply has to end in one cluster.
fn converges(name: &str, interrupt: impl Fn(&Lab, &mut Running) -> Result<()>) -> Result<()> {
    let lab = Builder::standard(&prefix(name)).only(&HOSTS).up()?;
    lab.wan_everywhere(Delay::ms(5.0))?;
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(
        &Configuration::new(&lab, &HOSTS, "3.6.16")?
            .member("on_destroy", quoted("delete_data"))
            .render(),
    )?;
    terraform.run(&PLAN)?.ok()?;
    let start = Instant::now();
    terraform.run(&APPLY)?.ok()?;
    let mut whole = start.elapsed();
    terraform.run(&DESTROY)?.ok()?;

    let mut chance = Chance::new();
    let seed = chance.seed();
    eprintln!("{name}: ACCEPTANCE_SEED={seed}, an apply takes {whole:?}");
    let mut cut_short = 0;
    for part in 0..MOMENTS {
        let fraction = (f64::from(part) + chance.fraction()) / f64::from(MOMENTS);
        let begun = Instant::now();
        let Interrupted { first, after } = interrupted(&lab, &terraform, &mut whole, fraction, &interrupt)?;
        let noticed = !first.success();
        cut_short += u32::from(noticed);
        let what = || {
            format!(
                "ACCEPTANCE_SEED={seed}: interrupted after {after:?} of {whole:?}; the interrupted apply said:\n{}{}",
                first.stdout, first.stderr
            )
        };
        terraform.apply().with_context(what)?;
        one_cluster(&lab, &HOSTS).with_context(what)?;
        terraform.nothing_to_do().with_context(what)?;
        terraform.run(&DESTROY)?.ok().with_context(what)?;
        eprintln!(
            "{name}: interrupted after {after:.2?} of {whole:.2?}, {}; all in {:.1?}",
            if noticed { "cut short" } else { "carried on" },
            begun.elapsed()
        );
    }
    eprintln!("{name}: {cut_short} of {MOMENTS} applies were cut short, and every next one converged");
    ensure!(cut_short > 0, "none of the applies was interrupted");
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
    let lab = Builder::standard(&prefix("int-ctrlc")).only(&HOSTS).up()?;
    lab.wan_everywhere(Delay::ms(50.0))?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&Configuration::new(&lab, &HOSTS, "3.6.16")?.render())?;
    let mut running = terraform.start(&["apply", "-auto-approve", "-input=false", "-no-color"])?;
    eventually("the apply is in the middle", || {
        Ok(lab.exec("a1", "test -e /etc/etcd/main/token")?.success())
    })?;
    ensure!(!running.ended()?, "the apply ended before it could be interrupted");
    running.interrupt()?;
    let pressed = Instant::now();
    let said = running.wait()?;
    let took = pressed.elapsed();
    eprintln!("Ctrl-C: it ended after {took:.1?}");
    ensure!(took < Duration::from_secs(10), "it took {took:?}");
    ensure!(!said.success(), "it was not interrupted");
    let resources = terraform.state()?["values"]["root_module"]["resources"]
        .as_array()
        .map_or(0, Vec::len);
    ensure!(resources > 0, "the state is empty");
    terraform.apply()?;
    one_cluster(&lab, &HOSTS).map(drop)
}
