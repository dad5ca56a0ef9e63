//! `lab`: a lab by hand, for instance the one that the quickstart was told to keep.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::{Parser, Subcommand};
use etcd_lab::{Builder, Delay, Lab, hold_packets};

/// Local virtual machines in separate networks behind NAT. Ends of a link are sites (A, B, C) or ctl, where Terraform runs.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Arguments {
    /// Which lab, when several are up.
    #[arg(long, default_value = "lab", env = "LAB_PREFIX", global = true)]
    prefix: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Bring the standard lab up and leave it up.
    Up {
        /// Only these hosts, separated by commas.
        #[arg(long, value_delimiter = ',')]
        hosts: Vec<String>,
        /// Round-trip time between all sites and to the controller, in milliseconds.
        #[arg(long, default_value_t = 0.0)]
        rtt: f64,
        /// Give everything IPv6 addresses too.
        #[arg(long)]
        dual_stack: bool,
    },
    /// Take the lab down and remove all that it left.
    Down,
    /// Hosts and links.
    Status,
    /// SSH to a host as root, from the controller.
    Ssh {
        host: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a command on a host without SSH.
    Exec {
        host: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command of this machine in the controller's network.
    Ctl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Set a link's delay one way in ms, jitter in ms and loss in percent, in both directions.
    Wan {
        a: String,
        b: String,
        ms: f64,
        #[arg(default_value_t = 0.0)]
        jitter: f64,
        #[arg(default_value_t = 0.0)]
        loss: f64,
    },
    /// The same in one direction.
    Wan1 {
        from: String,
        to: String,
        ms: f64,
        #[arg(default_value_t = 0.0)]
        jitter: f64,
        #[arg(default_value_t = 0.0)]
        loss: f64,
    },
    /// Let nothing through between two ends.
    Cut { a: String, b: String },
    /// Make the link what it was before the cut.
    Heal { a: String, b: String },
    /// Cut a host's power.
    Off { host: String },
    /// Start a host.
    On { host: String },
    /// Cut a host's power and start it again.
    Reset { host: String },
    /// Reboot a host in an orderly way.
    Reboot { host: String },
    /// Stop all processes of a host where they are.
    Freeze { host: String },
    /// Let them go on.
    Thaw { host: String },
    /// Put a host's network cable in.
    Plug { host: String },
    /// Pull a host's network cable.
    Unplug { host: String },
    /// Make a host go out by another address than the one it is reached at.
    Egress { host: String, address: Ipv4Addr },
    /// Give a host another public address.
    SetPublic { host: String, address: Ipv4Addr },
    /// What `up` leaves running: holds the packets of the made-up internet.
    #[command(hide = true)]
    HoldPackets { namespace: PathBuf, rules: PathBuf },
}

fn main() -> Result<()> {
    let Arguments { prefix, action } = Arguments::parse();
    let attach = || Lab::attach(&prefix);
    match action {
        Action::Up { hosts, rtt, dual_stack } => up(&prefix, &hosts, rtt, dual_stack),
        Action::Down => Lab::down(&prefix),
        Action::Status => {
            print!("{}", attach()?.status()?);
            Ok(())
        }
        Action::Ssh { host, command } => Err(attach()?.ssh_command("root", &host)?.args(command).exec().into()),
        Action::Exec { host, command } => {
            let (program, rest) = command
                .split_first()
                .map_or(("sh", &[][..]), |(program, rest)| (program.as_str(), rest));
            Err(attach()?.command_on(&host, program)?.args(rest).exec().into())
        }
        Action::Ctl { command } => {
            let (program, rest) = command
                .split_first()
                .map_or(("sh", &[][..]), |(program, rest)| (program.as_str(), rest));
            Err(attach()?.controller(program).args(rest).exec().into())
        }
        Action::Wan { a, b, ms, jitter, loss } => attach()?.wan(
            &a,
            &b,
            Delay {
                ms,
                jitter_ms: jitter,
                loss_percent: loss,
            },
        ),
        Action::Wan1 {
            from,
            to,
            ms,
            jitter,
            loss,
        } => attach()?.wan_one_way(
            &from,
            &to,
            Delay {
                ms,
                jitter_ms: jitter,
                loss_percent: loss,
            },
        ),
        Action::Cut { a, b } => attach()?.cut(&a, &b),
        Action::Heal { a, b } => attach()?.heal(&a, &b),
        Action::Off { host } => attach()?.power_off(&host),
        Action::On { host } => attach()?.power_on(&host),
        Action::Reset { host } => attach()?.reset(&host),
        Action::Reboot { host } => attach()?.reboot(&host),
        Action::Freeze { host } => attach()?.freeze(&host),
        Action::Thaw { host } => attach()?.thaw(&host),
        Action::Plug { host } => attach()?.plug(&host, true),
        Action::Unplug { host } => attach()?.plug(&host, false),
        Action::Egress { host, address } => attach()?.egress(&host, Some(address)),
        Action::SetPublic { host, address } => attach()?.set_public(&host, address),
        Action::HoldPackets { namespace, rules } => hold_packets(&namespace, &rules, &AtomicBool::new(false)),
    }
}

fn up(prefix: &str, hosts: &[String], rtt: f64, dual_stack: bool) -> Result<()> {
    let mut lab = Builder::standard(prefix);
    if dual_stack {
        lab = lab.dual_stack();
    }
    if !hosts.is_empty() {
        lab = lab.only(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let lab = lab.up()?;
    lab.wan_everywhere(Delay::ms(rtt / 2.0))?;
    print!("{}", lab.status()?);
    println!("known hosts: {}", lab.known_hosts_file().display());
    println!("private key: {}", etcd_lab::private_key_file().display());
    lab.keep()
}
