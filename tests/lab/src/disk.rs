//! A disk that the kernel holds back: a file system of its own on a loop device, and a limit on the writes of the host's processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Lab;
use crate::cgroup::{Cgroup, mount_point};
use crate::command::must;

/// Where the hierarchy of block devices is on machines that have the old one.
const OLD: &str = "/sys/fs/cgroup/blkio";

impl Lab {
    /// Puts a disk of its own at `place`, which takes so many writes in a second. It goes with the host's power.
    ///
    /// # Errors
    /// When the host is off, or this machine has no limits for block devices.
    pub fn slow_disk(&self, host: &str, place: &str, writes_per_second: u32) -> Result<()> {
        let machine = self.machine(host)?;
        let file = self.folder.join(format!("{host}.disk"));
        fs::File::create(&file)
            .and_then(|file| file.set_len(1 << 32))
            .with_context(|| format!("making {}", file.display()))?;
        must(
            Command::new("mkfs.ext4")
                .args(["-q", "-O", "^has_journal", "-E", "lazy_itable_init=1"])
                .arg(&file),
            "",
        )?;
        let device = must(Command::new("losetup").args(["--find", "--show"]).arg(&file), "")?;
        let device = device.trim();
        let name = device.rsplit('/').next().unwrap_or_default();
        let number = fs::read_to_string(format!("/sys/block/{name}/dev")).context("reading the device's number")?;
        let number = number.trim();
        let (major, minor) = number.split_once(':').context("a device number")?;
        let node = format!("/dev/{name}");
        let mount = format!("mkdir -p {place} && mknod {node} b {major} {minor} && mount {node} {place} && rm {node}");
        let mounted = machine.exec(&mount, b"").and_then(crate::Output::ok);
        // It goes away with its last user.
        must(Command::new("losetup").args(["--detach", device]), "")?;
        mounted.with_context(|| format!("mounting a disk on {host}"))?;
        limit(&machine.cgroup, &self.spec.prefix, host, number, writes_per_second)
    }

    /// Lets the disk that [`Lab::slow_disk`] has put at `place` take another number of writes from now on.
    ///
    /// # Errors
    /// As there, or when no such disk is at `place`.
    pub fn limit_disk(&self, host: &str, place: &str, writes_per_second: u32) -> Result<()> {
        let machine = self.machine(host)?;
        let number = machine
            .exec(&format!("mountpoint -d {place}"), b"")?
            .ok()
            .with_context(|| format!("{host} has no disk at {place}"))?;
        limit(
            &machine.cgroup,
            &self.spec.prefix,
            host,
            number.trim(),
            writes_per_second,
        )
    }
}

fn limit(cgroup: &Cgroup, prefix: &str, host: &str, device: &str, writes_per_second: u32) -> Result<()> {
    if !Path::new(OLD).join("cgroup.procs").exists() {
        let mut above = mount_point()?;
        let inner = cgroup
            .0
            .strip_prefix(&above)
            .context("the host's cgroup is not below the mount")?;
        for part in inner {
            let control = above.join("cgroup.subtree_control");
            fs::write(&control, "+io").with_context(|| format!("writing {}", control.display()))?;
            above.push(part);
        }
        return fs::write(cgroup.0.join("io.max"), format!("{device} wiops={writes_per_second}"))
            .context("limiting the host's writes");
    }
    let group = old_group(prefix, host);
    fs::create_dir_all(&group).with_context(|| format!("making {}", group.display()))?;
    let rule = group.join("blkio.throttle.write_iops_device");
    fs::write(&rule, format!("{device} {writes_per_second}")).with_context(|| format!("writing {}", rule.display()))?;
    let processes = cgroup.processes();
    ensure!(!processes.is_empty(), "{host} is off");
    for process in processes {
        // It may have ended in the meantime.
        fs::write(group.join("cgroup.procs"), process.to_string()).ok();
    }
    Ok(())
}

fn old_group(prefix: &str, host: &str) -> PathBuf {
    Path::new(OLD).join(format!("etcd-lab.{prefix}.{host}"))
}

/// Removes the limits of a lab whose processes have ended.
pub(crate) fn forget_limits(prefix: &str) {
    let start = format!("etcd-lab.{prefix}.");
    for entry in fs::read_dir(OLD).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&start) {
            fs::remove_dir(entry.path()).ok();
        }
    }
}
