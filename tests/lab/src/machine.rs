//! One host: its disk, its power, and the processes inside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cgroup::{Cgroup, mount_point};
use crate::command::{must, run};
use crate::image::cache_folder;
use crate::network::namespace;
use crate::spec::{HostSpec, Init};

const BOOT: &str = include_str!("boot.sh");
/// A host that needs longer than this to boot is broken, on the busiest machine too.
const BOOT_TIME: Duration = Duration::from_secs(180);
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) struct Machine<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) spec: &'a HostSpec,
    /// `upper` (what the host wrote; outlives a power cut), `work` and `root` of the overlay, and `console.log`.
    pub(crate) folder: PathBuf,
    pub(crate) cgroup: Cgroup,
}

impl Machine<'_> {
    /// Lays out the host's disk: name, machine id, host key.
    pub(crate) fn prepare(&self) -> Result<()> {
        let name = &self.spec.name;
        let etc = self.folder.join("upper/etc");
        for folder in [&etc.join("ssh"), &self.folder.join("work"), &self.folder.join("root")] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")
            .context("making a machine id")?
            .replace('-', "");
        for (file, text) in [
            ("hostname", format!("{name}\n")),
            ("hosts", format!("127.0.0.1 localhost\n127.0.1.1 {name}\n")),
            ("machine-id", id),
        ] {
            fs::write(etc.join(file), text).with_context(|| format!("writing {file} of {name}"))?;
        }
        let key = etc.join("ssh/ssh_host_ed25519_key");
        must(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(key),
            "",
        )
        .map(drop)
    }

    /// The host's public key as it was made, type and base64.
    pub(crate) fn host_key(&self) -> Result<String> {
        let file = self.folder.join("upper/etc/ssh/ssh_host_ed25519_key.pub");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.split(' ').take(2).collect::<Vec<_>>().join(" "))
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.cgroup.processes().is_empty()
    }

    /// Starts the host; doesn't wait for it.
    pub(crate) fn start(&self, root: &Path) -> Result<()> {
        if self.is_on() {
            bail!("{} is on already", self.spec.name);
        }
        self.cgroup.kill()?;
        self.cgroup.create()?;
        let script = self.folder.join("boot.sh");
        fs::write(&script, BOOT).context("writing boot.sh")?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.console())
            .context("opening the console's log")?;
        let mount = mount_point()?;
        let group = self
            .cgroup
            .0
            .strip_prefix(&mount)
            .context("the host's cgroup is not below the mount")?;
        let mut command = Command::new("setsid");
        command
            .args(["--fork", "unshare", "--mount", "--propagation", "private", "bash"])
            .arg(&script);
        command
            .arg(&mount)
            .arg(group)
            .arg(&self.folder)
            .arg(root)
            .arg(namespace(self.prefix, &self.spec.name));
        command.args([&self.spec.name, &format!("etcdlab-{}-{}", self.prefix, self.spec.name)]);
        command.arg(match self.spec.init {
            Init::Systemd => "systemd",
            Init::SshOnly => "ssh-only",
        });
        command.arg(cache_folder().join("etcd"));
        let started = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .context("starting boot.sh")?;
        if !started.success() {
            bail!("starting {}: {started}", self.spec.name);
        }
        Ok(())
    }

    /// Waits until the host has booted, its sshd included; `not` is a process 1 that doesn't count (the one before a reboot).
    pub(crate) fn wait_until_up(&self, not: Option<u32>) -> Result<()> {
        let question = match self.spec.init {
            // A system that is stuck must not be waited for beyond our own patience.
            Init::Systemd => "timeout 5 systemctl is-system-running --wait",
            Init::SshOnly => "ss -Hltn sport = :22 | grep -q . && echo running",
        };
        let until = Instant::now() + BOOT_TIME;
        let mut said = String::new();
        while Instant::now() < until {
            if let Some(leader) = self.leader().filter(|leader| Some(*leader) != not) {
                said = run(self.inside(leader).args(["sh", "-c", question]), b"")?.stdout;
                match said.trim() {
                    "running" => return Ok(()),
                    "degraded" => bail!(
                        "{} booted with failed units:\n{}",
                        self.spec.name,
                        self.exec("systemctl --failed --no-legend", b"")?.stdout
                    ),
                    _ => {}
                }
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        let console = fs::read_to_string(self.console()).unwrap_or_default();
        let tail: Vec<_> = console.lines().rev().take(15).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        bail!(
            "{} did not come up in {BOOT_TIME:?} (last said: {}); its console:\n{}",
            self.spec.name,
            said.trim(),
            tail.join("\n")
        )
    }

    /// The host's process 1, by its number on this machine.
    pub(crate) fn leader(&self) -> Option<u32> {
        self.cgroup.processes().into_iter().find(|process| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let numbers: Vec<_> = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .into_iter()
                .flat_map(str::split_whitespace)
                .collect();
            numbers.len() > 1 && numbers.last() == Some(&"1")
        })
    }

    /// A command that runs its further words inside the host, as root, with a clean environment and without sshd.
    pub(crate) fn inside(&self, leader: u32) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &leader.to_string(),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
            "--root",
            "--wd",
            "--",
        ]);
        command.args(["env", "-i", PATH, "HOME=/root", "LANG=C.UTF-8"]);
        command
    }

    pub(crate) fn command(&self) -> Result<Command> {
        match self.leader() {
            Some(leader) => Ok(self.inside(leader)),
            None => bail!("{} is off", self.spec.name),
        }
    }

    pub(crate) fn exec(&self, script: &str, input: &[u8]) -> Result<crate::Output> {
        run(self.command()?.args(["sh", "-c", script]), input).with_context(|| format!("on {}", self.spec.name))
    }

    fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }
}
