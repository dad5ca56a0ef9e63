//! An apply that is interrupted anywhere is carried on by the next one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};

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
/// At how many moments, spread over an apply, it is interrupted.
const MOMENTS: u32 = 20;

/// One moment in each of [`MOMENTS`] equal parts of an apply, as fractions of it. `ACCEPTANCE_SEED` repeats a run.
struct Moments {
    seed: u64,
}

impl Moments {
    fn new() -> Self {
        let given = std::env::var("ACCEPTANCE_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |now| now.as_secs());
        Self {
            seed: given.unwrap_or(now),
        }
    }

    fn all(&self) -> impl Iterator<Item = f64> {
        // A linear congruential generator (Knuth's MMIX); its upper bits are good enough here.
        let mut number = self.seed;
        (0..MOMENTS).map(move |part| {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (f64::from(part) + (number >> 40) as f64 / f64::from(1 << 24)) / f64::from(MOMENTS)
        })
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
    let whole = start.elapsed();
    terraform.run(&DESTROY)?.ok()?;

    let moments = Moments::new();
    eprintln!("{name}: ACCEPTANCE_SEED={}, an apply takes {whole:?}", moments.seed);
    let mut cut_short = 0;
    for fraction in moments.all() {
        let begun = Instant::now();
        terraform.run(&PLAN)?.ok()?;
        let mut running = terraform.start(&APPLY)?;
        std::thread::sleep(whole.mul_f64(fraction).saturating_sub(Duration::from_millis(20)));
        // It may have ended already.
        let interrupted = interrupt(&lab, &mut running);
        let first = running.wait()?;
        cut_short += u32::from(!first.success());
        let what = || {
            format!(
                "ACCEPTANCE_SEED={}: interrupted after {fraction:.3} of {whole:?} ({interrupted:?}); the interrupted apply said:\n{}{}",
                moments.seed, first.stdout, first.stderr
            )
        };
        terraform.apply().with_context(what)?;
        one_cluster(&lab, &HOSTS).with_context(what)?;
        terraform.nothing_to_do().with_context(what)?;
        terraform.run(&DESTROY)?.ok().with_context(what)?;
        eprintln!(
            "{name}: at {fraction:.3}, {}: {:?}",
            if first.success() { "not noticed" } else { "cut short" },
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
    eventually("the apply is in the middle", Duration::from_secs(30), || {
        Ok(lab.exec("a1", "test -e /etc/etcd/main/token")?.success())
    })?;
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
