//! Where a member's binaries come from: an archive that the server fetches, and a folder beside Terraform.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab, cache_folder};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::complaint::Complaint;
use crate::configuration::{Configuration, quoted};
use crate::fingerprint::Fingerprint;
use crate::outside::{eventually, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;

const VERSION: &str = "3.6.16";
const PORT: u16 = 8080;

/// A web server on the controller with an archive that is laid out as the official ones.
struct FileServer {
    process: Child,
    folder: TempDir,
    url: String,
}

impl FileServer {
    fn start(lab: &Lab, reader: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let name = format!("etcd-v{VERSION}-linux");
        fs::create_dir(folder.path().join("unpacked"))?;
        std::os::unix::fs::symlink(
            cache_folder().join("etcd").join(VERSION),
            folder.path().join("unpacked").join(&name),
        )?;
        let packed = Command::new("tar")
            .args(["--dereference", "--use-compress-program=gzip -1", "-cf"])
            .arg(folder.path().join("etcd.tar.gz"))
            .arg("-C")
            .arg(folder.path().join("unpacked"))
            .arg(&name)
            .status()?;
        ensure!(packed.success(), "tar: {packed}");
        let address = lab.controller_address();
        let process = lab
            .controller("python3")
            .args(["-m", "http.server", "--bind", &address.to_string(), "--directory"])
            .arg(folder.path())
            .arg(PORT.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the web server")?;
        let server = Self {
            process,
            folder,
            url: format!("http://{address}:{PORT}/etcd.tar.gz"),
        };
        eventually("the web server answers", || {
            Ok(lab.exec(reader, &format!("curl -sfI {}", server.url))?.success())
        })?;
        Ok(server)
    }

    fn sha256(&self) -> Result<String> {
        let sum = Sha256::digest(fs::read(self.archive())?);
        Ok(sum.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("etcd.tar.gz")
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Forms a cluster of one on `a1` with the binaries in the usual place, and destroys it without a trace.
fn forms(lab: &Lab, terraform: &Terraform, before: &Fingerprint) -> Result<()> {
    terraform.apply()?;
    one_cluster(lab, &["a1"])?;
    ensure!(status(lab, "a1")?.version == VERSION);
    let program = lab.exec("a1", "readlink /proc/$(pgrep -xo etcd)/exe")?.ok()?;
    ensure!(
        Path::new(&program) == Path::new("/usr/local/lib/etcd").join(VERSION).join("etcd"),
        "etcd runs from {program}"
    );
    let others = lab.exec("a1", &format!("ls /usr/local/lib/etcd/{VERSION}"))?.ok()?;
    ensure!(
        others.lines().collect::<Vec<_>>() == ["etcd", "etcdctl", "etcdutl"],
        "there are {others}"
    );
    terraform.nothing_to_do()?;
    terraform.destroy()?;
    before.unchanged(lab)
}

#[test]
fn an_archive_that_the_server_fetches_and_a_folder_that_is_uploaded() -> Result<()> {
    let lab = Builder::standard(&prefix("binaries")).only(&["a1"]).up()?;
    let server = FileServer::start(&lab, "a1")?;
    let before = Fingerprint::take(&lab)?;
    let archive = |sum: &str| {
        format!(
            "{{\n    url = {}\n    sha256 = {}\n  }}",
            quoted(&server.url),
            quoted(sum)
        )
    };
    let base = Configuration::new(&lab, &["a1"], VERSION)?.member("on_destroy", quoted("delete_data"));
    let sum = server.sha256()?;

    let terraform = Terraform::new(&lab, "1.11")?;
    let other = "0".repeat(64);
    terraform.configure(&base.clone().member("binary", archive(&other)).render())?;
    let complaints = terraform.complaints()?;
    Complaint::expect(
        &complaints,
        "etcd_member.this[\"a1\"]",
        "binary",
        &[&sum, &other, "203.0.113.11"],
    )?;
    let there = lab
        .exec(
            "a1",
            "ls /usr/local/lib/etcd /etc/systemd/system/etcd-main.service /var/lib/etcd; id etcd-main",
        )?
        .stdout;
    ensure!(there.is_empty(), "in spite of the wrong sum there is {there}");

    terraform.write("main.tf", &base.clone().member("binary", archive(&sum)).render())?;
    forms(&lab, &terraform, &before).context("fetched")?;

    let folder = cache_folder().join("etcd").join(VERSION);
    let upload = format!("{{ upload = {} }}", quoted(&folder.display().to_string()));
    terraform.write("main.tf", &base.clone().member("binary", upload).render())?;
    forms(&lab, &terraform, &before).context("uploaded")?;

    terraform.write(
        "main.tf",
        &base
            .clone()
            .member("binary", "{ host_path = \"/opt/etcd/3.5.30\" }")
            .render(),
    )?;
    Complaint::expect(
        &terraform.complaints()?,
        "etcd_member.this[\"a1\"]",
        "binary",
        &["/opt/etcd/3.5.30", "is etcd 3.5.30", VERSION],
    )?;
    terraform.destroy()?;
    before.unchanged(&lab)
}
