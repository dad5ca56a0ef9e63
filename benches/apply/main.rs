//! How long `terraform apply` takes to form a cluster, beside the same files pushed by parallel OpenSSH (the floor) and by
//! Terraform's own provisioners. In the lab: it needs root and what `tests/setup` installs. See `benches/README.md`.
//!
//!     cargo bench --features acceptance --bench apply

mod pushed;
mod table;
mod terraform;

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use etcd_lab::{Builder, Delay, Lab, private_key_file};
use serde_json::{Map, json};

use crate::pushed::Gathered;
use crate::table::Times;
use crate::terraform::Terraform;

/// Measures how long it takes to form a cluster in the lab, in three ways.
#[derive(Parser)]
struct Arguments {
    /// Round-trip times between all sites and to whoever runs Terraform, in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "0,100")]
    rtt: Vec<f64>,
    /// The lab's hosts that become members.
    #[arg(long, value_delimiter = ',', default_value = "a1,b1,c1")]
    hosts: Vec<String>,
    /// How often each way is measured at each round-trip time.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The version of etcd, one of those on the lab's hosts.
    #[arg(long, default_value = "3.6.16")]
    etcd: String,
    /// The minor version of Terraform.
    #[arg(long, default_value = "1.11")]
    terraform: String,
    /// Fail when the provider's median is more than this many times OpenSSH's.
    #[arg(long)]
    at_most: Option<f64>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "--rounds: at least one is needed");
    let hosts: Vec<&str> = arguments.hosts.iter().map(String::as_str).collect();
    let lab = Builder::standard("bench").only(&hosts).up()?;
    ensure!(
        lab.hosts().len() == hosts.len(),
        "--hosts: the lab has {:?} of these",
        lab.hosts()
    );
    let bench = Bench::new(&lab, &arguments)?;
    let mut slow = Vec::new();
    say(&table::head(hosts.len(), &arguments.etcd))?;
    for rtt in &arguments.rtt {
        lab.wan_everywhere(Delay::ms(rtt / 2.0))?;
        let times = bench.measure(arguments.rounds)?;
        say(&times.render(*rtt))?;
        if let Some(limit) = arguments.at_most
            && times.ratio() > limit
        {
            slow.push(format!("{:.2} times OpenSSH's at {rtt} ms", times.ratio()));
        }
    }
    if !slow.is_empty() {
        bail!("the provider's time is {}", slow.join(", "));
    }
    Ok(())
}

/// Everything that is ready before a clock runs.
struct Bench<'a> {
    lab: &'a Lab,
    etcd: &'a str,
    provider: Terraform<'a>,
    provisioners: Terraform<'a>,
    gathered: Vec<Gathered>,
}

impl<'a> Bench<'a> {
    /// Prepares the three ways. The provider forms a cluster once, uncounted: its files are what the others push.
    fn new(lab: &'a Lab, arguments: &'a Arguments) -> Result<Self> {
        let provider = Terraform::new(lab, &arguments.terraform, include_str!("provider.tf"))?;
        let mut servers = Map::new();
        for host in lab.hosts() {
            let server = json!({
                "network": lab.spec().site_of(host)?,
                "private": lab.private_address(host)?,
                "public": public_address(lab, host)?,
            });
            servers.insert(host.to_owned(), server);
        }
        provider.prepare(&json!({
            "servers": servers,
            "private_key_file": private_key_file(),
            "known_hosts_file": lab.known_hosts_file(),
            "etcd_version": arguments.etcd,
            "etcd_folder": format!("/opt/etcd/{}", arguments.etcd),
        }))?;
        provider.apply()?;
        let gathered = pushed::gather(lab)?;
        let provisioners = Terraform::new(lab, &arguments.terraform, include_str!("provisioners.tf"))?;
        let mut scripts = Map::new();
        for member in &gathered {
            let file = provisioners.write(&format!("install-{}.sh", member.host), &member.script)?;
            let server = json!({ "public": public_address(lab, &member.host)?, "script": file });
            scripts.insert(member.host.clone(), server);
        }
        provisioners.prepare(&json!({ "servers": scripts, "private_key_file": private_key_file() }))?;
        let bench = Self {
            lab,
            etcd: &arguments.etcd,
            provider,
            provisioners,
            gathered,
        };
        bench.clear()?;
        Ok(bench)
    }

    /// Takes the ways in turn, so that what else the machine does meets all of them alike.
    fn measure(&self, rounds: usize) -> Result<Times> {
        let mut times = Times::default();
        for _ in 0..rounds {
            times
                .openssh
                .push(self.time("OpenSSH", || pushed::push(self.lab, &self.gathered))?);
            times
                .provider
                .push(self.time("the provider", || self.provider.apply())?);
            times
                .provisioners
                .push(self.time("provisioners", || self.provisioners.apply())?);
        }
        Ok(times)
    }

    fn time(&self, way: &str, form: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let start = Instant::now();
        form().with_context(|| format!("forming the cluster by {way}"))?;
        let took = start.elapsed();
        // A way that is quick because it did not do its work is not quick.
        pushed::healthy(self.lab, self.etcd).with_context(|| format!("the cluster formed by {way}"))?;
        self.clear()?;
        Ok(took)
    }

    fn clear(&self) -> Result<()> {
        pushed::clear(self.lab)?;
        self.provider.forget()?;
        self.provisioners.forget()
    }
}

fn public_address(lab: &Lab, host: &str) -> Result<String> {
    let address = lab.public_address(host)?;
    Ok(address
        .with_context(|| format!("{host} has no public address"))?
        .to_string())
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
