//! Servers that answer badly: too much, too long, or without end. Each is tried in a process of its own, since what it costs is measured there.

mod etcd;
mod handshake;
mod shell;

use std::process::Command;
use std::time::{Duration, Instant};

/// What one hostile server cost.
pub struct Cost {
    /// How much the memory of the process grew at its highest, in MiB.
    grew: u64,
    /// How long it took until there was an error.
    took: Duration,
    /// The error.
    error: String,
}

/// The most that a hostile server may cost, in MiB. The whole process is to stay below 100, of which it has some 20 by itself.
const MOST: u64 = 20;
const MOST_OF_NINE: u64 = 70;

impl Cost {
    fn of(began: Instant, before: u64, error: String) -> Self {
        let grew = memory("VmHWM").saturating_sub(before);
        let took = began.elapsed();
        Self { grew, took, error }
    }

    fn tell(&self) {
        let error = self.error.replace('\n', "⏎");
        eprintln!("cost {} {} {error}", self.grew, self.took.as_millis());
    }
}

/// One line of `/proc/self/status`, in MiB.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let text = status.lines().find_map(|all| all.strip_prefix(line)?.strip_prefix(':'));
    let text = text.expect("a line").trim().trim_end_matches(" kB");
    text.parse::<u64>().expect("a number") / 1024
}

/// What the process has now; its highest is counted from here.
fn memory_now() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
    memory("VmRSS")
}

/// Runs an ignored test in a process of its own, and returns what it told.
fn cost_of(test: &str, what: &str) -> Cost {
    let cost = cost(test, what, 1);
    assert!(cost.grew < MOST, "{what}: {} MiB", cost.grew);
    cost
}

/// The same of nine hostile servers at once: a cluster has no more.
fn cost_of_nine(test: &str, what: &str) -> Cost {
    let cost = cost(test, what, 9);
    assert!(cost.grew < MOST_OF_NINE, "nine of {what}: {} MiB", cost.grew);
    cost
}

fn cost(test: &str, what: &str, count: usize) -> Cost {
    let this = std::env::current_exe().expect("this test");
    let ran = Command::new(this)
        .args(["--ignored", "--exact", "--nocapture", test])
        .env("HOSTILE", what)
        .env("HOSTILE_COUNT", count.to_string())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let errors = String::from_utf8_lossy(&ran.stderr);
    let told = errors
        .lines()
        .find_map(|line| line.split_once("cost "))
        .map(|(_, told)| told);
    let told = told.unwrap_or_else(|| panic!("{what}: {said}{errors}"));
    let mut words = told.splitn(3, ' ');
    let mut word = || words.next().expect("a word");
    let cost = Cost {
        grew: word().parse().expect("MiB"),
        took: Duration::from_millis(word().parse().expect("ms")),
        error: word().to_owned(),
    };
    eprintln!("{count} of {what}: {} MiB, {:?}: {}", cost.grew, cost.took, cost.error);
    assert!(ran.status.success(), "{what}: {said}{errors}");
    cost
}

/// How many hostile servers there are at once.
fn how_many() -> usize {
    std::env::var("HOSTILE_COUNT").map_or(1, |count| count.parse().expect("a number"))
}

fn what() -> String {
    std::env::var("HOSTILE").expect("cost_of sets it")
}
