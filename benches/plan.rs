//! How long `terraform plan` takes for a fresh configuration of many servers that nobody reaches, and how much memory the provider
//! takes for it. See `benches/README.md`.
//!
//!     cargo bench --bench plan

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use etcd_lab::cache_folder;
use tempfile::TempDir;

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-etcd");
const NAME: &str = "terraform-provider-etcd";

/// Measures plans of many servers.
#[derive(Parser)]
struct Arguments {
    /// How many servers, in one plan after the other; multiples of five.
    #[arg(long, value_delimiter = ',', default_values_t = [30, 100, 300])]
    servers: Vec<usize>,
    /// How often each plan is made; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The minor version of Terraform, one of those that `tests/setup` installs.
    #[arg(long, default_value = "1.15")]
    terraform: String,
    /// Another build of the provider; its file has to be named as this one's.
    #[arg(long, default_value = PROVIDER)]
    provider: PathBuf,
    /// Fail when the longest plan takes more than this many seconds.
    #[arg(long)]
    at_most_s: Option<f64>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is planned.
#[derive(Clone, Copy)]
enum Shape {
    /// As many resources of Terraform's own: what a plan costs without any provider of ours.
    Nothing,
    /// Servers alone.
    Servers,
    /// Servers, clusters of five of them, and their members.
    ClustersOfFive,
}

impl Shape {
    fn title(self) -> &'static str {
        match self {
            Self::Nothing => "terraform_data alone",
            Self::Servers => "etcd_server alone",
            Self::ClustersOfFive => "clusters of five with members",
        }
    }

    fn configuration(self, servers: usize) -> Result<String> {
        let mut text = match self {
            Self::Nothing => String::new(),
            Self::Servers | Self::ClustersOfFive => format!("{REQUIRED}provider \"etcd\" {{}}\n"),
        };
        for cluster in 0..servers / 5 {
            writeln!(
                text,
                "module \"c{cluster}\" {{\n  source = \"./cluster\"\n  number = {cluster}\n}}"
            )?;
        }
        Ok(text)
    }

    /// The module of one cluster's servers.
    fn module(self) -> String {
        match self {
            Self::Nothing => format!("{NUMBER}{DATA}"),
            Self::Servers => format!("{REQUIRED}{NUMBER}{SERVERS}"),
            Self::ClustersOfFive => format!("{REQUIRED}{NUMBER}{SERVERS}{MEMBERS}"),
        }
    }
}

const REQUIRED: &str = "terraform {\n  required_providers {\n    etcd = { source = \"crossnet/etcd\" }\n  }\n}\n";
const NUMBER: &str = "variable \"number\" {\n  type = number\n}\n";
const DATA: &str = r#"resource "terraform_data" "this" {
  for_each = toset(["s1", "s2", "s3", "s4", "s5"])
  input    = "${each.key} of ${var.number}"
}
"#;
const SERVERS: &str = r#"resource "etcd_server" "this" {
  for_each        = toset(["s1", "s2", "s3", "s4", "s5"])
  name            = each.key
  network         = "n${substr(each.key, 1, 1) % 3}"
  private_address = "10.0.${var.number}.${substr(each.key, 1, 1)}"
  public_address  = "198.51.${var.number}.${substr(each.key, 1, 1)}"
}
"#;
const MEMBERS: &str = r#"resource "etcd_cluster" "this" {
  name    = "c${var.number}"
  servers = etcd_server.this
}
resource "etcd_member" "this" {
  for_each = etcd_server.this
  cluster  = etcd_cluster.this
  server   = each.key
  version  = "3.6.16"
}
"#;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "--rounds: at least one is needed");
    ensure!(
        arguments
            .servers
            .iter()
            .all(|servers| servers % 5 == 0 && *servers <= 1000),
        "--servers: multiples of five, up to 1000"
    );
    let terraform = cache_folder()
        .join("terraform")
        .join(&arguments.terraform)
        .join("terraform");
    ensure!(
        terraform.exists(),
        "there is no {}: run tests/setup",
        terraform.display()
    );
    if cfg!(debug_assertions) && arguments.provider == Path::new(PROVIDER) {
        writeln!(io::stdout(), "UNOPTIMIZED BUILD")?;
    }
    writeln!(
        io::stdout(),
        "{:<30} {:>8} {:>10} {:>10} {:>10} {:>14}",
        "plan of",
        "servers",
        "least s",
        "median s",
        "most s",
        "provider MB"
    )?;
    let mut longest = 0.0_f64;
    for shape in [Shape::Nothing, Shape::Servers, Shape::ClustersOfFive] {
        for servers in &arguments.servers {
            let work = Work::new(&arguments.provider, terraform.clone(), shape, *servers)?;
            let mut plans: Vec<Plan> = (0..arguments.rounds).map(|_| work.plan()).collect::<Result<_>>()?;
            plans.sort_by_key(|plan| plan.took);
            let seconds = |index: usize| plans[index].took.as_secs_f64();
            let memory = plans.iter().map(|plan| plan.memory_mb).fold(0.0, f64::max);
            longest = longest.max(seconds(plans.len() / 2));
            writeln!(
                io::stdout(),
                "{:<30} {servers:>8} {:>10.2} {:>10.2} {:>10.2} {memory:>14.1}",
                shape.title(),
                seconds(0),
                seconds(plans.len() / 2),
                seconds(plans.len() - 1)
            )?;
        }
    }
    if arguments.at_most_s.is_some_and(|limit| longest > limit) {
        bail!("a plan takes too long: {longest:.2} s");
    }
    Ok(())
}

/// What one plan took.
struct Plan {
    took: Duration,
    /// The most memory that the provider has had, in MB (10^6 bytes); 0 where there is no provider.
    memory_mb: f64,
}

/// A working directory for one configuration.
struct Work {
    terraform: PathBuf,
    folder: TempDir,
}

impl Work {
    fn new(provider: &Path, terraform: PathBuf, shape: Shape, servers: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let built = provider.canonicalize().context("the provider")?;
        let built = built.parent().context("the provider is in no folder")?;
        fs::write(
            folder.path().join("terraformrc"),
            format!(
                "disable_checkpoint = true\nprovider_installation {{\n  dev_overrides {{\n    \"crossnet/etcd\" = {:?}\n  }}\n}}\n",
                built.display().to_string()
            ),
        )?;
        fs::create_dir_all(folder.path().join("work/cluster"))?;
        fs::write(folder.path().join("work/main.tf"), shape.configuration(servers)?)?;
        fs::write(folder.path().join("work/cluster/main.tf"), shape.module())?;
        let work = Self { terraform, folder };
        let output = work.command(&["get", "-no-color"]).output()?;
        ensure!(
            output.status.success(),
            "terraform get: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(work)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.terraform);
        command
            .args(arguments)
            .current_dir(self.folder.path().join("work"))
            .env("TF_CLI_CONFIG_FILE", self.folder.path().join("terraformrc"))
            .env("TF_IN_AUTOMATION", "1")
            .env_remove("TF_LOG")
            .stdin(Stdio::null());
        command
    }

    fn plan(&self) -> Result<Plan> {
        let log = fs::File::create(self.folder.path().join("log"))?;
        let begun = Instant::now();
        let mut running = self
            .command(&["plan", "-input=false", "-no-color"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting Terraform")?;
        let mut memory_mb = 0.0_f64;
        let status = loop {
            if let Some(status) = running.try_wait()? {
                break status;
            }
            memory_mb = memory_mb.max(provider_memory_mb(running.id()));
            std::thread::sleep(Duration::from_millis(10));
        };
        let took = begun.elapsed();
        ensure!(
            status.success(),
            "terraform plan: {}",
            fs::read_to_string(self.folder.path().join("log"))?
        );
        Ok(Plan { took, memory_mb })
    }
}

/// The most memory that the provider which this Terraform runs has had so far, in MB.
fn provider_memory_mb(terraform: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{terraform}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let of_threads = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let all: String = of_threads.collect();
    let most = all
        .split_whitespace()
        .filter_map(|child| fs::read_to_string(format!("/proc/{child}/status")).ok())
        // The kernel keeps 15 bytes of a name.
        .filter(|status| status.starts_with(&format!("Name:\t{}\n", &NAME[..15])))
        .filter_map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        })
        .fold(0.0, f64::max);
    most * 1024.0 / 1e6
}
