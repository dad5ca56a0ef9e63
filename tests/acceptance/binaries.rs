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
use serde_json::json;

const VERSION: &str = "3.6.16";
const PORT: u16 = 8080;
/// One whose official archive the provider carries the checksum of, and that archive's.
const KNOWN: &str = "3.5.30";
const KNOWN_SUM: &str = "a495115162845640be08c6cda069ff961260dbced53207c5a83b1b006ff2ea8e";
const THREE: [&str; 3] = ["a1", "b1", "c1"];

/// A web server on the controller with an archive that is laid out as the official ones.
struct FileServer {
    process: Child,
    folder: TempDir,
    url: String,
}

impl FileServer {
    fn start(lab: &Lab, reader: &str, version: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let name = format!("etcd-v{version}-linux");
        fs::create_dir(folder.path().join("unpacked"))?;
        std::os::unix::fs::symlink(
            cache_folder().join("etcd").join(version),
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
        Ok(data_encoding::HEXLOWER.encode(&sum))
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
    let server = FileServer::start(&lab, "a1", VERSION)?;
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

/// What a mirror has for a known version is nothing but that, and a version that is not known takes a checksum of the user's.
#[test]
fn a_known_release_is_told_from_another_archive() -> Result<()> {
    let lab = Builder::standard(&prefix("sums")).only(&["a1"]).up()?;
    // An archive of the same version, built by others.
    let server = FileServer::start(&lab, "a1", KNOWN)?;
    let before = Fingerprint::take(&lab)?;
    let binary = format!("{{ url = {} }}", quoted(&server.url));
    let terraform = Terraform::new(&lab, "1.11")?;
    let base = |version| Ok::<_, anyhow::Error>(Configuration::new(&lab, &["a1"], version)?.member("binary", &binary));
    terraform.configure(&base(KNOWN)?.render())?;
    Complaint::expect(
        &terraform.complaints()?,
        "etcd_member.this[\"a1\"]",
        "binary",
        &[&server.sha256()?, KNOWN_SUM, "nothing was unpacked"],
    )?;
    let there = lab.exec("a1", "ls /usr/local/lib/etcd /var/lib/etcd")?.stdout;
    ensure!(there.is_empty(), "in spite of the wrong sum there is {there}");

    terraform.write("main.tf", &base(VERSION)?.render())?;
    Complaint::expect(
        &terraform.complaints()?,
        "etcd_member.this",
        "binary",
        &["carries no checksum of this version"],
    )?;

    // What the user says of a file on the server holds too.
    let host_path = |sum: &str| format!("{{ host_path = \"/opt/etcd/{KNOWN}\", sha256 = {} }}", quoted(sum));
    let own = lab.exec("a1", &format!("sha256sum </opt/etcd/{KNOWN}/etcd"))?.ok()?;
    let own = own.split_whitespace().next().context("no sum")?;
    let refused = Configuration::new(&lab, &["a1"], KNOWN)?.member("on_destroy", quoted("delete_data"));
    terraform.write(
        "main.tf",
        &refused.clone().member("binary", host_path(KNOWN_SUM)).render(),
    )?;
    Complaint::expect(
        &terraform.complaints()?,
        "etcd_member.this[\"a1\"]",
        "binary",
        &[own, KNOWN_SUM, "Nothing was changed"],
    )?;
    terraform.write("main.tf", &refused.member("binary", host_path(own)).render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    let state = terraform.attributes("etcd_member.this[\"a1\"]")?;
    ensure!(state["binary_sha256"] == own, "{}", state["binary_sha256"]);
    terraform.destroy()?;
    before.unchanged(&lab)
}

/// A program that was changed shows in the plan, and is put back; members that run it are restarted, and no other.
#[test]
fn a_changed_program_is_put_back() -> Result<()> {
    let lab = Builder::standard(&prefix("program")).only(&THREE).up()?;
    let folder = cache_folder().join("etcd").join(VERSION);
    let binary = format!("{{ upload = {} }}", quoted(&folder.display().to_string()));
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(
        &Configuration::new(&lab, &THREE, VERSION)?
            .member("binary", binary)
            .render(),
    )?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    let address = "etcd_member.this[\"b1\"]";
    let installed = format!("/usr/local/lib/etcd/{VERSION}/etcd");
    let sum = |path: &str| -> Result<String> {
        let said = lab.exec("b1", &format!("sha256sum <{path}"))?.ok()?;
        Ok(said.split_whitespace().next().context("no sum")?.to_owned())
    };
    let right = sum(&installed)?;
    ensure!(terraform.attributes(address)?["binary_sha256"] == right.as_str());
    let processes = || -> Result<Vec<String>> {
        { THREE.iter() }
            .map(|host| lab.exec(host, "systemctl show --value -p MainPID etcd-main")?.ok())
            .collect()
    };
    let change = format!(
        "cp {installed} {installed}.new && printf changed >>{installed}.new && mv -T {installed}.new {installed}"
    );
    let is_drift = |part: &str, what: &str| -> Result<()> {
        let plan = terraform.run(&[
            "plan",
            "-input=false",
            "-detailed-exitcode",
            "-no-color",
            "-out=the.plan",
        ])?;
        ensure!(plan.code == 2, "exit code {}: {}", plan.code, plan.stdout);
        let plan: serde_json::Value = serde_json::from_str(&terraform.run(&["show", "-json", "the.plan"])?.ok()?)?;
        let changes = plan["resource_changes"].as_array().context("no changes")?;
        for change in changes {
            let (of_it, change) = (change["address"] == address, &change["change"]);
            let expected = if of_it { json!(["update"]) } else { json!(["no-op"]) };
            ensure!(change["actions"] == expected, "{change}");
            ensure!(
                !of_it || change["before"]["drift"][part] == what,
                "{}",
                change["before"]["drift"]
            );
        }
        Ok(())
    };

    // The file alone: what runs is right, and goes on.
    let before = processes()?;
    lab.exec("b1", &change)?.ok()?;
    is_drift(&installed, "is another program than the last apply left there")?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    ensure!(sum(&installed)? == right, "the program was not put back");
    ensure!(
        processes()? == before,
        "a member was restarted for a file that it does not run"
    );

    // The process too, which is restarted in its turn.
    lab.exec("b1", &format!("{change} && systemctl restart etcd-main"))?
        .ok()?;
    let before = processes()?;
    is_drift(&installed, "is another program than the last apply left there")?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    let after = processes()?;
    ensure!(before[0] == after[0] && before[2] == after[2], "{before:?}, {after:?}");
    ensure!(before[1] != after[1], "b1 was not restarted");
    ensure!(sum("/proc/$(systemctl show --value -p MainPID etcd-main)/exe")? == right);
    one_cluster(&lab, &THREE)?;

    // The file was put back by hand, and the process still runs the other one.
    let keep = format!(
        "cp {installed} /root/right && {change} && systemctl restart etcd-main && cp /root/right {installed}.new && mv -T {installed}.new {installed}"
    );
    lab.exec("b1", &keep)?.ok()?;
    is_drift("process", "runs another program than its file is now")?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    ensure!(sum("/proc/$(systemctl show --value -p MainPID etcd-main)/exe")? == right);

    // A state of a provider that did not know the sum yet.
    let file = terraform.work().join("terraform.tfstate");
    let mut state: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    let mut forgotten = 0;
    for resource in state["resources"].as_array_mut().context("no resources")? {
        for instance in resource["instances"].as_array_mut().into_iter().flatten() {
            let attributes = instance["attributes"].as_object_mut();
            forgotten += usize::from(attributes.is_some_and(|all| all.remove("binary_sha256").is_some()));
        }
    }
    ensure!(forgotten == 3, "{forgotten}");
    fs::write(&file, serde_json::to_string(&state)?)?;
    let before = processes()?;
    terraform.nothing_to_do()?;
    let said = terraform.apply()?;
    ensure!(said.contains("No changes") || said.contains("0 changed"), "{said}");
    ensure!(processes()? == before && terraform.attributes(address)?["binary_sha256"] == right.as_str());
    Ok(())
}
