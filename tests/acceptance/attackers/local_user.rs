//! Other users of a server, who have nothing to do with etcd.

use anyhow::{Result, ensure};
use etcd_lab::Builder;

use crate::complaint::Complaint;
use crate::configuration::{Configuration, quoted};
use crate::outside::one_cluster;
use crate::prefix;
use crate::terraform::Terraform;

const ETCD: &str = "3.6.16";

/// Every user may open /etc/hosts and /run, and so may hold a lock on them.
#[test]
fn a_lock_holds_no_apply_up() -> Result<()> {
    let lab = Builder::standard(&prefix("attack-lock")).only(&["a1"]).up()?;
    for locked in ["/etc/hosts", "/run"] {
        let hold = format!("systemd-run --quiet --uid=guest flock {locked} sleep infinity");
        lab.exec("a1", &hold)?.ok()?;
        crate::outside::eventually("it is locked", || {
            Ok(!lab.exec("a1", &format!("flock -n {locked} true"))?.success())
        })?;
    }
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(&Configuration::new(&lab, &["a1"], ETCD)?.render())?;
    terraform.apply()?;
    one_cluster(&lab, &["a1"])?;
    // The locks that are waited for are files of root's.
    let tries = "for lock in /run/terraform-provider-etcd.*; do setpriv --reuid=guest --clear-groups flock -n \"$lock\" true 2>&1 && echo got; done";
    let said = lab.exec("a1", tries)?.stdout;
    ensure!(said.contains("Permission denied") && !said.contains("got"), "{said}");
    terraform.destroy().map(drop)
}

/// What others can change is refused by name, before anything is changed; what the error says helps.
#[test]
fn a_program_that_others_can_change_is_refused() -> Result<()> {
    let lab = Builder::standard(&prefix("attack-host-path")).only(&["a1"]).up()?;
    let folder = "/opt/unpacked/etcd";
    // As `tar` unpacks a release for root: with the owner that is in the archive.
    let unpack = format!(
        "mkdir -p {folder} && cp /opt/etcd/{ETCD}/* {folder} && chmod 0755 /opt/unpacked {folder} {folder}/* && chown 528287 {folder} {folder}/*"
    );
    lab.exec("a1", &unpack)?.ok()?;
    let chosen = |path: &str| {
        Configuration::new(&lab, &["a1"], ETCD)
            .map(|all| all.member("binary", format!("{{ host_path = {} }}", quoted(path))))
    };
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(&chosen(folder)?.render())?;
    let refused = |words: &[&str]| -> Result<()> {
        let complaints = terraform.complaints()?;
        Complaint::expect(&complaints, "etcd_member.this[\"a1\"]", "binary", words)?;
        let there = lab.exec("a1", "ls -d /var/lib/etcd/main/member /etc/systemd/system/etcd-main.service 2>/dev/null; id etcd-main 2>/dev/null")?;
        ensure!(there.stdout.is_empty(), "{}", there.stdout);
        Ok(())
    };
    refused(&[
        "another user than root",
        &format!("{folder} 528287:0 755"),
        "chown root:root",
        "Nothing was changed",
    ])?;
    lab.exec(
        "a1",
        &format!("chown -R root:root {folder}; chmod g+w {folder}/etcdctl"),
    )?
    .ok()?;
    refused(&[&format!("{folder}/etcdctl root:root 775"), "chmod go-w"])?;
    lab.exec("a1", &format!("chmod go-w {folder}/etcdctl; chmod 1777 /opt/unpacked"))?
        .ok()?;
    refused(&["/opt/unpacked root:root 1777"])?;
    // As the error says.
    lab.exec("a1", "chmod go-w /opt/unpacked")?.ok()?;
    terraform.apply()?;
    one_cluster(&lab, &["a1"])?;
    terraform.nothing_to_do()?;
    // Later it is drift, and nothing is done with it.
    lab.exec("a1", &format!("chmod o+w {folder}"))?.ok()?;
    let plan = terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    ensure!(plan.contains("can be changed by another user than root"), "{plan}");
    lab.exec("a1", &format!("chmod o-w {folder}"))?.ok()?;
    terraform.nothing_to_do()?;
    terraform.destroy().map(drop)
}
