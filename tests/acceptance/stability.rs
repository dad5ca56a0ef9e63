//! Three sites that are 150 ms from each other, under load for half an hour: with etcd's own timing, and with the one that follows from the
//! measured round trips, on a clean line and on one that jitters and loses packets. Both at once, in labs of their own.
//!
//!     STABILITY_MINUTES=30 cargo test --features acceptance --test acceptance -- stability:: --ignored --nocapture

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use etcd_lab::{Builder, Delay, Lab};

use crate::configuration::Configuration;
use crate::outside::{ctl, one_cluster};
use crate::prefix;
use crate::scaling::{Scene, VERSION};
use crate::writer::Writer;

const THREE: [&str; 3] = ["a1", "b1", "c1"];
const MINUTES: u64 = 30;
/// Each writes through every member, a write at a time: a round trip or two of 150 ms each.
const WRITERS: usize = 2;

/// The term of all members: every election raises it.
fn term(lab: &Lab) -> Result<u64> {
    let mut terms = Vec::new();
    for host in THREE {
        let text = ctl(lab, host, "endpoint status -w json")?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        terms.push(value[0]["Status"]["raftTerm"].as_u64().context("no term")?);
    }
    terms.iter().copied().max().context("no members")
}

/// How often a leader was elected in that time.
fn elections(name: &str, timing: Option<(u32, u32)>, line: Delay, lasts: Duration) -> Result<u64> {
    let lab = Builder::standard(&prefix(name)).only(&THREE).up()?;
    lab.wan_everywhere(Delay::ms(75.0))?;
    let mut configuration = Configuration::new(&lab, &THREE, VERSION)?;
    if let Some((heartbeat, election)) = timing {
        configuration = configuration
            .cluster("heartbeat_interval", heartbeat.to_string())
            .cluster("election_timeout", election.to_string());
    }
    let scene = Scene::found_as(&lab, &THREE, &configuration)?;
    let cluster = scene.terraform.attributes("etcd_cluster.main")?;
    lab.wan_everywhere(line)?;
    let before = term(&lab)?;
    let writers: Vec<Writer> = (0..WRITERS)
        .map(|_| Writer::start(&lab, &THREE))
        .collect::<Result<_>>()?;
    let begun = Instant::now();
    // The time itself is what is tried here.
    std::thread::sleep(lasts);
    let after = term(&lab)?;
    let mut text = format!(
        "{name}: heartbeat {} ms, election {} ms, {:.0} minutes: {} elections",
        cluster["heartbeat_interval"],
        cluster["election_timeout"],
        begun.elapsed().as_secs_f64() / 60.0,
        after - before
    );
    let (mut acknowledged, mut pause) = (0, Duration::ZERO);
    for writer in writers {
        let written = writer.stop()?;
        written.nothing_lost()?;
        acknowledged += written.acknowledged;
        pause = pause.max(written.longest_pause.length);
    }
    text += &format!(", {acknowledged} writes, none lost, longest pause {pause:.1?}");
    eprintln!("{text}");
    ensure!(one_cluster(&lab, &THREE)? == scene.cluster);
    Ok(after - before)
}

fn compare(name: &str, line: Delay) -> Result<(u64, u64)> {
    let minutes = std::env::var("STABILITY_MINUTES").map_or(Ok(MINUTES), |text| text.parse())?;
    let lasts = Duration::from_secs(60 * minutes);
    let (ours, own) = (format!("{name}-ours"), format!("{name}-own"));
    std::thread::scope(|scope| {
        let ours = scope.spawn(move || elections(&ours, None, line, lasts));
        let own = scope.spawn(move || elections(&own, Some((100, 1000)), line, lasts));
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<u64>>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        };
        Ok((join(ours)?, join(own)?))
    })
}

#[test]
#[ignore = "half an hour: run it by name with --ignored"]
fn a_clean_line() -> Result<()> {
    let (ours, _) = compare("clean", Delay::ms(75.0))?;
    ensure!(
        ours == 0,
        "{ours} elections with the timing that follows from the round trips"
    );
    Ok(())
}

#[test]
#[ignore = "half an hour: run it by name with --ignored"]
fn a_poor_line() -> Result<()> {
    let line = Delay {
        ms: 75.0,
        jitter_ms: 15.0,
        loss_percent: 1.0,
    };
    compare("poor", line).map(drop)
}
