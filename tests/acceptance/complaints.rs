//! What is wrong with a cluster shows in every plan, once, with names and with what to do.

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::configuration::Configuration;
use crate::outside::{eventually, one_cluster};
use crate::prefix;
use crate::rolling::started;
use crate::terraform::Terraform;

const HOSTS: [&str; 3] = ["a1", "a2", "b1"];
const ETCD: &str = "3.6.16";

/// What Terraform said, on one line: it breaks lines where it likes.
pub(crate) fn said(terraform: &Terraform, arguments: &[&str]) -> Result<(String, i32)> {
    let output = terraform.run(&[arguments, &["-no-color", "-input=false"]].concat())?;
    let text = format!("{} {}", output.stdout, output.stderr);
    Ok((text.split_whitespace().collect::<Vec<_>>().join(" "), output.code))
}

/// Whether all of this was said.
pub(crate) fn has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "not said: {part:?} in {text}");
    }
    Ok(())
}

fn once(text: &str, what: &str) -> Result<()> {
    let times = text.matches(what).count();
    ensure!(times == 1, "{what:?} is said {times} times: {text}");
    Ok(())
}

#[test]
fn a_plan_says_what_is_wrong_with_the_cluster() -> Result<()> {
    let lab = Builder::standard(&prefix("complaints")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &HOSTS, ETCD)?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;

    // Two of three are stopped.
    for host in ["a2", "b1"] {
        lab.exec(host, "systemctl stop etcd-main")?.ok()?;
    }
    let (text, _) = said(&terraform, &["plan"])?;
    once(&text, "Warning: The cluster main has no quorum")?;
    has(
        &text,
        &[
            "0 of its 3 members",
            "2 have to agree",
            "a1: it runs, and knows no leader",
            "a2: its service is inactive",
            "b1: its service is inactive",
        ],
    )?;
    terraform.apply().context("the stopped members are started")?;
    terraform.nothing_to_do()?;

    // A restart that has to wait for a server which is down: named, and not waited for a minute.
    lab.power_off("b1")?;
    let other = configuration
        .clone()
        .member("config", "{ \"snapshot-count\" = \"20001\" }");
    terraform.write("main.tf", &other.render())?;
    let (text, code) = said(&terraform, &["apply", "-auto-approve"])?;
    ensure!(code == 1, "{text}");
    once(&text, "These members are not well: b1: its server was not reached")?;
    has(&text, &["for the same reason as that of"])?;
    lab.power_on("b1")?;
    eventually("b1 is back", || {
        Ok(lab.exec("b1", "systemctl is-active etcd-main")?.success())
    })?;
    terraform.apply().context("with all servers")?;
    terraform.nothing_to_do()
}

fn configurations(lab: &Lab) -> Result<Vec<String>> {
    let sums = HOSTS
        .iter()
        .map(|host| lab.exec(host, "cat /etc/etcd/main/etcd.yaml")?.ok());
    sums.collect()
}

/// The member on `b1` can't read its database any more.
fn spoil(lab: &Lab) -> Result<()> {
    let spoil = "systemctl stop etcd-main; dd if=/dev/zero of=/var/lib/etcd/main/member/snap/db bs=4096 count=4 conv=notrunc status=none; \
                 systemctl start --no-block etcd-main";
    lab.exec("b1", spoil)?.ok().map(drop)
}

#[test]
fn what_ends_a_member_is_said_with_the_way_out() -> Result<()> {
    let lab = Builder::standard(&prefix("endings")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.11")?;
    let configuration = Configuration::new(&lab, &HOSTS, ETCD)?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;

    // An option that etcd refuses: it is asked before any member is restarted, and the cause is said.
    let before = (started(&lab, &HOSTS)?, configurations(&lab)?);
    let refused = configuration
        .clone()
        .member("config", "{ \"auto-compaction-retention\" = \"never\" }");
    terraform.write("main.tf", &refused.render())?;
    let (text, code) = said(&terraform, &["apply", "-auto-approve"])?;
    ensure!(code == 1, "{text}");
    has(
        &text,
        &[
            "was not changed",
            "etcd 3.6.16 does not accept this configuration",
            "error parsing CompactionRetention: time: invalid duration \\\"never\\\"",
        ],
    )?;
    let after = (started(&lab, &HOSTS)?, configurations(&lab)?);
    ensure!(before == after, "a member was restarted, or its files are others");

    // A folder that is full: which file, why, and what was changed.
    let fill = "cp -a /etc/etcd /root/etc-etcd; mount -t tmpfs -o size=1m,mode=755 tmpfs /etc/etcd; cp -a /root/etc-etcd/. /etc/etcd/; \
                cat /dev/zero >/etc/etcd/filler || true";
    lab.exec("a1", fill)?.ok()?;
    let other = configuration
        .clone()
        .member("config", "{ \"snapshot-count\" = \"20001\" }");
    terraform.write("main.tf", &other.render())?;
    let (text, code) = said(&terraform, &["apply", "-auto-approve"])?;
    ensure!(code == 1, "{text}");
    has(
        &text,
        &[
            "/etc/etcd/main/pki/peer-ca.crt can't be written: No space left on device",
            "Files that this step has written before: none",
            "df -h /etc/etcd/main/pki",
        ],
    )?;
    ensure!(!text.contains("I/O error"), "{text}");
    ensure!(started(&lab, &["a1"])?["a1"] == before.0["a1"], "a1 was restarted");
    lab.exec("a1", "umount /etc/etcd")?.ok()?;
    terraform.apply().context("with room")?;
    terraform.write("main.tf", &configuration.render())?;
    terraform.apply().context("without the option")?;

    spoil(&lab)?;
    eventually("it ends again and again", || {
        let times = lab.exec("b1", "systemctl show -p NRestarts --value etcd-main")?.stdout;
        Ok(times.trim().parse::<u32>().unwrap_or_default() >= 3)
    })?;
    let (text, code) = said(&terraform, &["plan", "-detailed-exitcode"])?;
    ensure!(code == 2, "the plan shows nothing to do: {text}");
    once(&text, "Warning: The member on server b1 ends again and again")?;
    has(
        &text,
        &[
            "\"restarting\" -> \"running\"",
            "the member's data is damaged",
            "That is safe now",
            "-replace=",
        ],
    )?;
    // The advice, word by word.
    let replace = "-replace=etcd_member.this[\"b1\"]";
    let (text, code) = said(&terraform, &["apply", "-auto-approve", replace])?;
    ensure!(code == 0, "the advice did not help: {text}");
    terraform.nothing_to_do()?;
    one_cluster(&lab, &HOSTS).map(drop)?;
    Ok(())
}
