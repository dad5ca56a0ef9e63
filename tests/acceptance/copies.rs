//! Data that is not the member's own, or older than what it has told the cluster: shown in every plan, never counted as the other's, and
//! mended by what the message says.

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::complaints::{has, said};
use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, member_list, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;

const HOSTS: [&str; 3] = ["a1", "a2", "b1"];
const ETCD: &str = "3.6.16";
const REPLACE: &str = "-replace=etcd_member.this[\"b1\"]";

fn service(lab: &Lab, host: &str, verb: &str) -> Result<()> {
    lab.exec(host, &format!("systemctl {verb} etcd-main"))?.ok().map(drop)
}

/// The data of one server's member comes to another's, whose member does not run.
fn copy(lab: &Lab, from: &str, to: &str) -> Result<()> {
    let packed = lab
        .exec(from, "tar -C /var/lib/etcd/main -cz member | base64 -w0")?
        .ok()?;
    lab.write_file(to, "/root/copied", packed.as_bytes())?;
    let unpack = "cd /var/lib/etcd/main && { [ ! -e member ] || mv member /root/own.$$; } && base64 -d /root/copied | tar -xz && chown -R --reference=. member";
    lab.exec(to, unpack)?.ok().map(drop)
}

/// Whether etcd on this server answers.
fn answers(lab: &Lab, host: &str) -> Result<bool> {
    Ok(status(lab, host).is_ok())
}

#[test]
fn a_member_with_anothers_data_is_never_taken_for_the_other() -> Result<()> {
    let lab = Builder::standard(&prefix("copied")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &HOSTS, ETCD)?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;

    // As on a clone of a2's machine, before it is started: it is not started.
    service(&lab, "b1", "stop")?;
    service(&lab, "a2", "stop")?;
    copy(&lab, "a2", "b1")?;
    let (text, code) = said(&terraform, &["plan", "-detailed-exitcode"])?;
    ensure!(code == 2, "the plan shows nothing to do: {text}");
    has(&text, &["is that of the member on a2, whose data was copied"])?;
    let (text, code) = said(&terraform, &["apply", "-auto-approve"])?;
    ensure!(code == 1, "{text}");
    has(
        &text,
        &["Member b1 was not changed", "is a copy of that of a2", "-replace="],
    )?;
    let runs = lab.exec("b1", "systemctl is-active etcd-main")?.success();
    ensure!(!runs, "two processes have one ID by our doing");
    let (text, code) = said(&terraform, &["plan", "-detailed-exitcode"])?;
    ensure!(code == 2, "the plan shows nothing to do: {text}");
    has(
        &text,
        &[
            "Warning: The member on server b1 is not itself",
            "That is safe now: without it 2 members remain, 2 of them have to agree, and 2 are well",
        ],
    )?;
    // The advice, word by word.
    let (text, code) = said(&terraform, &["apply", "-auto-approve", REPLACE])?;
    ensure!(code == 0, "the advice did not help: {text}");
    terraform.nothing_to_do()?;

    // It is started by hand, while a2 is down: the copy runs as a2.
    service(&lab, "b1", "stop")?;
    service(&lab, "a2", "stop")?;
    copy(&lab, "a2", "b1")?;
    service(&lab, "b1", "start")?;
    eventually("b1 answers as a2", || answers(&lab, "b1"))?;
    ctl(&lab, "a1", "put written-through the-copy")?;
    let (text, code) = said(&terraform, &["plan", "-detailed-exitcode"])?;
    ensure!(code == 2, "the plan shows nothing to do: {text}");
    has(
        &text,
        &["is a copy of that of a2", "Do not replace it yet", "1 are well now"],
    )?;
    // Taken for a2, it would be removed as b1, and one of two would be left.
    let (text, code) = said(&terraform, &["apply", "-auto-approve", REPLACE])?;
    ensure!(code == 1, "b1 was taken for a2: {text}");
    ensure!(member_list(&lab, "a1")?.len() == 3, "a member was removed: {text}");
    has(&text, &["are healthy now"])?;
    let (text, code) = said(&terraform, &["apply", "-auto-approve"])?;
    ensure!(code == 1, "{text}");
    has(
        &text,
        &[
            "Member a2 was not changed",
            "The etcd on b1 runs as this member",
            "Stop the service on b1",
        ],
    )?;

    // That advice, word by word.
    service(&lab, "b1", "stop")?;
    lab.exec("a2", "mv /var/lib/etcd/main/member /root/older")?.ok()?;
    copy(&lab, "b1", "a2")?;
    lab.exec("b1", "rm -r /var/lib/etcd/main/member")?.ok()?;
    service(&lab, "a2", "start")?;
    eventually("a2 answers", || answers(&lab, "a2"))?;
    let (text, code) = said(&terraform, &["apply", "-auto-approve"])?;
    ensure!(code == 0, "the advice did not help: {text}");
    terraform.nothing_to_do()?;
    let kept = ctl(&lab, "b1", "get written-through --print-value-only")?;
    ensure!(kept.trim() == "the-copy", "a write was lost: {kept}");
    one_cluster(&lab, &HOSTS).map(drop)
}

#[test]
fn a_member_set_back_to_an_older_image_shows_in_every_plan() -> Result<()> {
    let lab = Builder::standard(&prefix("set-back")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.11")?;
    let configuration = Configuration::new(&lab, &HOSTS, ETCD)?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;

    service(&lab, "b1", "stop")?;
    lab.exec("b1", "cp -a /var/lib/etcd/main/member /root/image")?.ok()?;
    service(&lab, "b1", "start")?;
    eventually("b1 answers", || answers(&lab, "b1"))?;
    for value in 0..20 {
        ctl(&lab, "a1", &format!("put key {value}"))?;
    }
    eventually("b1 has what it has told", || {
        Ok(ctl(&lab, "b1", "get key --consistency=s --print-value-only")?.trim() == "19")
    })?;
    // Its leader has to know what it had: one that is elected later asks it again.
    let back = "systemctl stop etcd-main; cd /var/lib/etcd/main && rm -r member && cp -a /root/image member";
    lab.exec("b1", back)?.ok()?;

    // Whichever part of the loop is met: its first start, its first ends, and many.
    lab.exec("b1", "systemctl start --no-block etcd-main")?.ok()?;
    for times in [0, 1, 2, 4] {
        eventually("it was started again", || {
            let restarts = lab.exec("b1", "systemctl show -p NRestarts --value etcd-main")?.stdout;
            Ok(restarts.trim().parse::<u32>().unwrap_or_default() >= times)
        })?;
        let (text, code) = said(&terraform, &["plan", "-detailed-exitcode"])?;
        ensure!(code == 2, "after {times} restarts the plan shows nothing to do: {text}");
    }
    let (text, _) = said(&terraform, &["plan"])?;
    has(
        &text,
        &[
            "Warning: The member on server b1 ends again and again",
            "set back to an older image",
            "That is safe now",
        ],
    )?;
    let (text, code) = said(&terraform, &["apply", "-auto-approve", REPLACE])?;
    ensure!(code == 0, "the advice did not help: {text}");
    terraform.nothing_to_do().context("after the replacement")?;
    one_cluster(&lab, &HOSTS).map(drop)
}
