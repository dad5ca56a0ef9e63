//! A client from outside of the provider that writes numbered keys all the time, through every member at once, from the machine
//! that runs Terraform. At the end it reads all of them back: what was acknowledged and is not there was lost.
//!
//! Each member has a stream of its own, so the longest time without any acknowledged write is the cluster's pause, and not that of a
//! client that happened to ask the wrong member.

mod client;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use etcd_lab::Lab;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::outside::eventually;

use client::Client;
pub use report::Written;
use report::{Acknowledged, report};

/// How long a stream waits between two writes: what the measured pauses are exact to, at most. More of them keep the machine busy.
const PACE: Duration = Duration::from_millis(50);
/// How long a write may take before another one is tried.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a member may take to give a page of keys.
const READING: Duration = Duration::from_secs(20);
/// How often all of it is read through a member that does not answer before it counts as one that can't be read from.
const READS: usize = 5;

/// The writer at work. Stops when it is dropped.
pub struct Writer {
    orders: mpsc::UnboundedSender<Order>,
    thread: JoinHandle<Result<Written>>,
    acknowledged: Arc<AtomicU64>,
}

enum Order {
    Through(String),
    Without(String),
    Stop,
}

impl Writer {
    /// Starts writing through the members on `hosts`, those of the cluster `main`. Returns when the first write was acknowledged.
    pub fn start(lab: &Lab, hosts: &[&str]) -> Result<Self> {
        let (orders, taken) = mpsc::unbounded_channel();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (prefix, count) = (lab.prefix().to_owned(), Arc::clone(&acknowledged));
        let thread = std::thread::spawn(move || {
            let lab = Lab::attach(&prefix)?;
            lab.enter_controller()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(write(&prefix, taken, count))
        });
        let writer = Self {
            orders,
            thread,
            acknowledged,
        };
        hosts.iter().for_each(|host| writer.through(host));
        let mut ended = false;
        eventually(&format!("one of {hosts:?} takes a write"), || {
            ended = writer.thread.is_finished();
            Ok(ended || writer.acknowledged() > 0)
        })?;
        ensure!(!ended, "the writer ended");
        Ok(writer)
    }

    /// Writes through the member on this host too, from when it answers on. Where it does already it looks up anew where that is.
    pub fn through(&self, host: &str) {
        self.orders.send(Order::Through(host.to_owned())).ok();
    }

    /// No longer writes through the member on this host.
    pub fn without(&self, host: &str) {
        self.orders.send(Order::Without(host.to_owned())).ok();
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Stops writing, reads everything back through every member that it wrote through last, and says how it went.
    pub fn stop(self) -> Result<Written> {
        self.orders.send(Order::Stop).ok();
        self.thread.join().map_err(|_| anyhow!("the writer panicked"))?
    }
}

/// One thread does all of it, in the controller's network.
async fn write(prefix: &str, mut orders: mpsc::UnboundedReceiver<Order>, count: Arc<AtomicU64>) -> Result<Written> {
    let begun = Instant::now();
    // One of its own for each writer: a lab may see several.
    let keys = format!("written/{}/", uniquely()?);
    let (ended, end) = watch::channel(false);
    let (told, mut acknowledged) = mpsc::unbounded_channel();
    let mut streams: BTreeMap<String, watch::Sender<bool>> = BTreeMap::new();
    let mut all = JoinSet::new();
    let number = Arc::new(AtomicU64::new(0));
    loop {
        match orders.recv().await.context("nobody asks for what was written")? {
            Order::Stop => break,
            Order::Without(host) => drop(streams.remove(&host)),
            Order::Through(host) => {
                let (alive, watched) = watch::channel(false);
                let stream = Stream {
                    client: Client::new(prefix, &host),
                    keys: keys.clone(),
                    number: Arc::clone(&number),
                    count: Arc::clone(&count),
                    begun,
                    told: told.clone(),
                };
                all.spawn(stream.run(watched, end.clone()));
                streams.insert(host, alive);
            }
        }
    }
    let lasted = begun.elapsed();
    ended.send(true).ok();
    while all.join_next().await.is_some() {}
    drop(told);
    let mut writes: Vec<Acknowledged> = Vec::new();
    while let Some(one) = acknowledged.recv().await {
        writes.push(one);
    }
    let mut read = BTreeMap::new();
    for host in streams.keys() {
        read.insert(host.clone(), read_back(prefix, host, &keys).await);
    }
    report(writes, lasted, read)
}

/// All keys that the member on `host` has, by number.
async fn read_back(prefix: &str, host: &str, keys: &str) -> Result<std::collections::BTreeSet<u64>> {
    let mut client = Client::new(prefix, host);
    let mut last = None;
    for _ in 0..READS {
        match client.numbers(keys, READING).await {
            Ok(numbers) => return Ok(numbers),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(PATIENCE).await;
    }
    Err(last.context("never read")?).with_context(|| format!("reading back through {host}"))
}

/// Writes through one member, a number after the other. What was not acknowledged is not tried again under its number.
struct Stream {
    client: Client,
    keys: String,
    number: Arc<AtomicU64>,
    count: Arc<AtomicU64>,
    begun: Instant,
    told: mpsc::UnboundedSender<Acknowledged>,
}

impl Stream {
    /// Until all end, or this one's `alive` is dropped.
    async fn run(mut self, mut alive: watch::Receiver<bool>, mut end: watch::Receiver<bool>) {
        loop {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let key = format!("{}{number:010}", self.keys);
            // A write that has been sent is seen through: it may be acknowledged.
            if self.client.put(&key, PATIENCE).await.is_ok() {
                self.count.fetch_add(1, Ordering::Relaxed);
                let one = Acknowledged {
                    number,
                    host: self.client.host().to_owned(),
                    at: self.begun.elapsed(),
                };
                self.told.send(one).ok();
            }
            tokio::select! {
                _ = end.changed() => return,
                _ = alive.changed() => return,
                () = tokio::time::sleep(PACE) => {}
            }
        }
    }
}

fn uniquely() -> Result<u128> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(now.context("a clock before 1970")?.as_nanos())
}
