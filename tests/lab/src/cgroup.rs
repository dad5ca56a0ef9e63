//! One cgroup for each host: the only reliable way to name, freeze and kill all that runs in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Where the unified hierarchy is mounted: `/sys/fs/cgroup`, or below it on machines that have the old one too.
pub(crate) fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let found = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let path = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
    });
    found
        .into_iter()
        .next()
        .context("no cgroup2 is mounted on this machine; the lab needs it")
}

/// A cgroup by its folder.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Cgroup {
    pub(crate) fn of_lab(prefix: &str) -> Result<Self> {
        Ok(Self(mount_point()?.join("etcd-lab").join(prefix)))
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    pub(crate) fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.0).with_context(|| format!("making the cgroup {}", self.0.display()))
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.is_dir()
    }

    pub(crate) fn set_frozen(&self, frozen: bool) -> Result<()> {
        fs::write(self.0.join("cgroup.freeze"), if frozen { "1" } else { "0" })
            .with_context(|| format!("freezing {}", self.0.display()))
    }

    /// The processes in it and below.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut all = Vec::new();
        for folder in below(&self.0) {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            all.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        all
    }

    /// Kills everything at once and removes the folders. The kernel refuses to remove one while a killed process is still on its
    /// way out, hence the patience.
    pub(crate) fn kill(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            fs::write(self.0.join("cgroup.kill"), "1").ok();
            for folder in below(&self.0) {
                fs::remove_dir(folder).ok();
            }
            if !self.exists() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("processes {:?} in {} don't die", self.processes(), self.0.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The folder and all below it, deepest first.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(below(&entry.path()));
        }
    }
    all.push(folder.to_path_buf());
    all
}
