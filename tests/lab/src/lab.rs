//! Bringing a lab up and taking it down.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;
use crate::command::{must, namespace_path};
use crate::disk::forget_limits;
use crate::image;
use crate::machine::Machine;
use crate::network::{internet, remove_network};
use crate::spec::Builder;
use crate::wan::LinkStates;

/// Where labs keep what they need while they are up, one folder a prefix.
const RUN: &str = "/run/etcd-lab";
/// In the file `owner`: the lab outlives the process that made it.
const KEPT: &str = "kept";

/// A lab that is up. It is taken down when this is dropped, unless [`Lab::keep`] was called or it was only attached to.
pub struct Lab {
    pub(crate) spec: Builder,
    pub(crate) folder: PathBuf,
    pub(crate) root: PathBuf,
    holder: Option<Holder>,
    owned: bool,
}

/// The thread that holds the packets, where this process does it itself.
struct Holder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Lab {
    pub(crate) fn bring_up(spec: Builder) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("a lab needs root");
        }
        let root = image::ensure()?;
        allow_many_systemds()?;
        let folder = Path::new(RUN).join(&spec.prefix);
        if folder.exists() {
            if let Some(owner) = owner_alive(&folder) {
                bail!(
                    "the lab {} is up already ({owner}); take it down first: lab --prefix {0} down",
                    spec.prefix
                );
            }
            take_down(&spec.prefix).context("removing what an earlier run left")?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        // Hosts write to memory: quick, and nothing is left behind.
        must(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", "mode=755,size=8g", "etcd-lab"])
                .arg(&folder),
            "",
        )?;
        fs::write(
            folder.join("owner"),
            process_stamp(std::process::id()).unwrap_or_default(),
        )
        .context("writing the owner")?;
        // From here on, whatever fails, dropping this takes down what there is.
        let mut lab = Self {
            spec,
            folder,
            root,
            holder: None,
            owned: true,
        };
        lab.write_spec()?;
        lab.spec.build_network().context("building the networks")?;
        Cgroup::of_lab(&lab.spec.prefix)?.create()?;
        fs::write(
            lab.folder.join("links.json"),
            serde_json::to_string(&LinkStates::default())?,
        )
        .context("writing links.json")?;
        lab.start_holding()?;
        lab.change_links(|_| ())?;
        lab.start_hosts()?;
        Ok(lab)
    }

    /// A lab that another process brought up and kept.
    ///
    /// # Errors
    /// When no lab with this prefix is up.
    pub fn attach(prefix: &str) -> Result<Self> {
        let folder = Path::new(RUN).join(prefix);
        let file = folder.join("lab.json");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("no lab {prefix} is up: there is no {}", file.display()))?;
        let spec = serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        Ok(Self {
            spec,
            folder,
            root: image::ensure()?,
            holder: None,
            owned: false,
        })
    }

    /// Leaves the lab up when this process ends. Where the process itself held the packets (everywhere but in the `lab` program),
    /// the links are without delay from then on.
    ///
    /// # Errors
    /// When the owner's file can't be written.
    pub fn keep(mut self) -> Result<()> {
        fs::write(self.folder.join("owner"), KEPT).context("writing the owner")?;
        if self.holder.is_some() {
            let forget = "while ip rule del prio 100 2>/dev/null; do :; done";
            must(
                crate::command::in_namespace(&internet(&self.spec.prefix), "sh").args(["-c", forget]),
                "",
            )?;
        }
        self.owned = false;
        Ok(())
    }

    /// Takes the lab `prefix` down, whoever brought it up. Nothing happens when it isn't up.
    ///
    /// # Errors
    /// When processes don't die or namespaces can't be removed.
    pub fn down(prefix: &str) -> Result<()> {
        take_down(prefix)
    }

    pub(crate) fn write_spec(&self) -> Result<()> {
        fs::write(self.folder.join("lab.json"), serde_json::to_string_pretty(&self.spec)?).context("writing lab.json")
    }

    pub(crate) fn machine(&self, host: &str) -> Result<Machine<'_>> {
        Ok(Machine {
            prefix: &self.spec.prefix,
            spec: self.spec.host_named(host)?,
            folder: self.folder.join("hosts").join(host),
            cgroup: Cgroup::of_lab(&self.spec.prefix)?.child(host),
        })
    }

    pub(crate) fn change_links(&self, change: impl FnOnce(&mut LinkStates)) -> Result<()> {
        let mut links = LinkStates::load(&self.folder)?;
        change(&mut links);
        links.store(&self.folder, &self.spec)
    }

    /// The `lab` program starts a process that outlives it; any other program (a test) does the work in a thread.
    fn start_holding(&mut self) -> Result<()> {
        let namespace = namespace_path(&internet(&self.spec.prefix));
        let rules = self.folder.join("rules");
        let program = std::env::current_exe().context("finding this program")?;
        if program.file_name().is_some_and(|name| name == "lab") {
            let group = Cgroup::of_lab(&self.spec.prefix)?.child("wan");
            group.create()?;
            let log = fs::File::create(self.folder.join("wan.log")).context("making wan.log")?;
            let join = "echo 0 >\"$0\"/cgroup.procs && exec \"$@\"";
            let mut command = Command::new("setsid");
            command
                .args(["--fork", "sh", "-c", join])
                .arg(&group.0)
                .arg(program)
                .arg("hold-packets")
                .arg(namespace)
                .arg(rules);
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .status()
                .context("starting the packet holder")?;
            return Ok(());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (told, log) = (stop.clone(), self.folder.join("wan.log"));
        let thread = std::thread::spawn(move || {
            if let Err(error) = crate::hold_packets(&namespace, &rules, &told) {
                fs::write(log, format!("{error:#}")).ok();
            }
        });
        self.holder = Some(Holder { stop, thread });
        Ok(())
    }

    fn start_hosts(&self) -> Result<()> {
        let mut known_hosts = String::new();
        for host in &self.spec.hosts {
            let machine = self.machine(&host.name)?;
            machine.prepare()?;
            let key = machine.host_key()?;
            // A host that can't be entered from outside is entered over a bastion, by its private address.
            let outside = self.spec.public_address(host).zip(self.ssh_port(&host.name).ok());
            known_hosts += &match outside.unwrap_or((host.private, 22)) {
                (address, 22) => format!("{address} {key}\n"),
                (address, port) => format!("[{address}]:{port} {key}\n"),
            };
            if let Some(six) = self.spec.ipv6(host) {
                known_hosts += &format!("{} {key}\n", six.public);
            }
            machine.start(&self.root)?;
        }
        fs::write(self.known_hosts_file(), known_hosts).context("writing known_hosts")?;
        std::thread::scope(|scope| {
            let waits: Vec<_> = self
                .spec
                .hosts
                .iter()
                .map(|host| scope.spawn(|| self.machine(&host.name)?.wait_until_up(None)))
                .collect();
            waits
                .into_iter()
                .try_for_each(|wait| wait.join().unwrap_or_else(|_| bail!("waiting for a host panicked")))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let end = |holder: Holder| {
            holder.stop.store(true, Ordering::Relaxed);
            holder.thread.join().ok();
        };
        if self.owned
            && let Err(error) = take_down(&self.spec.prefix)
        {
            eprintln!("taking the lab {} down: {error:#}", self.spec.prefix);
        }
        self.holder.take().into_iter().for_each(end);
    }
}

fn take_down(prefix: &str) -> Result<()> {
    Cgroup::of_lab(prefix)?.kill()?;
    forget_limits(prefix);
    remove_network(prefix)?;
    let folder = Path::new(RUN).join(prefix);
    if folder.exists() {
        // Not mounted, when an earlier run was killed early. Lazily, as the last process may not be quite gone.
        Command::new("umount")
            .arg("--lazy")
            .arg(&folder)
            .stderr(Stdio::null())
            .status()
            .ok();
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

/// What tells a process from a later one with the same number: number and start time.
fn process_stamp(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may have spaces in it; the start time is the 20th field after it.
    let start = stat.rsplit(')').next()?.split_whitespace().nth(19)?;
    Some(format!("{process} {start}"))
}

/// Who owns the lab in this folder, if it is somebody who is still there.
fn owner_alive(folder: &Path) -> Option<String> {
    let owner = fs::read_to_string(folder.join("owner")).ok()?;
    if owner == KEPT {
        return Some("it was kept".into());
    }
    let process = owner.split(' ').next()?.parse().ok()?;
    (process_stamp(process)? == owner).then(|| format!("process {process} runs it"))
}

/// Each host's systemd watches files, and all of them count as root's: the usual limit is enough for about ten hosts.
fn allow_many_systemds() -> Result<()> {
    const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
    const ENOUGH: u32 = 4096;
    let now: u32 = fs::read_to_string(LIMIT)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    if now < ENOUGH {
        fs::write(LIMIT, ENOUGH.to_string()).with_context(|| format!("raising {LIMIT}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another() {
        let mine = process_stamp(std::process::id()).unwrap();
        assert_eq!(process_stamp(std::process::id()).unwrap(), mine);
        assert_ne!(process_stamp(1).unwrap(), mine);
        assert_eq!(process_stamp(u32::MAX), None);
    }
}
