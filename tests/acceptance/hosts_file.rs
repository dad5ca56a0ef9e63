//! `/etc/hosts` is written by others: at boot, as cloud-init does with `manage_etc_hosts: true`, and while members run.

use anyhow::{Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::configuration::Configuration;
use crate::outside::{eventually, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;

const VERSION: &str = "3.6.16";
const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

/// A unit that writes the file again at each boot, before the network is there (early) or once it is there (late). Which one, it is told by `when`.
fn rewrites_at_boot(lab: &Lab, host: &str, when: &str) -> Result<()> {
    let order = match when {
        "early" => "DefaultDependencies=no\nAfter=local-fs.target\nBefore=sysinit.target network-pre.target",
        _ => "Wants=network-online.target\nAfter=network-online.target etcd-main.service",
    };
    let target = if when == "early" {
        "sysinit.target"
    } else {
        "multi-user.target"
    };
    let unit = format!(
        "[Unit]\n{order}\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/bin/sh -c 'printf \"127.0.0.1 localhost\\n127.0.1.1 {host}\\n\" >/etc/hosts.new; mv /etc/hosts.new /etc/hosts; touch /run/rewritten'\n\
         [Install]\nWantedBy={target}\n"
    );
    lab.write_file(host, "/etc/systemd/system/rewrite-hosts.service", unit.as_bytes())?;
    lab.exec(
        host,
        "systemctl daemon-reload; systemctl --quiet reenable rewrite-hosts",
    )?
    .ok()
    .map(drop)
}

/// Whether the host's file has its lines for the cluster once, and no others.
fn has_names(lab: &Lab, host: &str) -> Result<bool> {
    let text = lab.read_file(host, "/etc/hosts")?;
    let block = text.matches("# BEGIN etcd cluster main ").count() == 1;
    Ok(block
        && HOSTS
            .iter()
            .all(|other| text.matches(&format!(" {other}.main.etcd.internal")).count() == 1))
}

#[test]
fn the_quorum_outlives_what_others_write_into_the_hosts_file() -> Result<()> {
    let lab = Builder::standard(&prefix("hosts-file"))
        .only(&["a1", "a2", "b1", "c1"])
        .up()?;
    let terraform = Terraform::new(&lab, "1.11")?;
    let base = Configuration::new(&lab, &HOSTS, VERSION)?;
    terraform.configure(&base.render())?;
    terraform.apply()?;
    let cluster = one_cluster(&lab, &HOSTS)?;
    let processes = |lab: &Lab| -> Result<Vec<String>> {
        HOSTS
            .iter()
            .map(|host| lab.exec(host, "pgrep -xo etcd")?.ok())
            .collect()
    };
    let before = processes(&lab)?;

    // While they run, by a program that writes into it, and by one that replaces it. Names are looked up at each dial.
    for write in [
        "echo 127.0.0.1 localhost >/etc/hosts",
        "echo 127.0.0.1 localhost >/etc/h && mv /etc/h /etc/hosts",
        "rm /etc/hosts; sleep 0.3; echo 127.0.0.1 localhost >/etc/hosts",
    ] {
        for host in HOSTS {
            lab.exec(host, write)?.ok()?;
        }
        eventually(&format!("the names are back after {write}"), || {
            Ok(HOSTS.iter().all(|host| has_names(&lab, host).unwrap_or(false)))
        })?;
    }
    // A program that writes it again and again does not end what puts them back.
    lab.exec(
        "a1",
        "systemd-run --quiet --unit=again sh -c 'while :; do echo 127.0.0.1 localhost >/etc/hosts; sleep 0.2; done'",
    )?
    .ok()?;
    let rounds = "journalctl -u 'etcd-hosts@main.service' -o cat | grep -c 'are put back'";
    let count = |lab: &Lab| -> Result<u32> { Ok(lab.exec("a1", rounds)?.stdout.trim().parse().unwrap_or(0)) };
    let first = count(&lab)?;
    eventually("they are put back again and again", || Ok(count(&lab)? >= first + 2))?;
    lab.exec("a1", "systemctl stop again")?.ok()?;
    eventually("the names are back", || has_names(&lab, "a1"))?;
    let alive = lab.exec("a1", "systemctl is-active etcd-hosts@main.path")?;
    ensure!(alive.success(), "{}", alive.stdout);
    ensure!(processes(&lab)? == before, "a member was restarted");
    terraform.nothing_to_do()?;

    // All servers boot again, without an apply.
    for when in ["early", "late"] {
        for host in HOSTS {
            rewrites_at_boot(&lab, host, when)?;
        }
        for host in HOSTS {
            lab.power_off(host)?;
        }
        // Without a network: what is there before etcd starts does not depend on it.
        lab.plug("c1", false)?;
        for host in HOSTS {
            lab.power_on(host)?;
        }
        for host in HOSTS {
            eventually("its file was written at boot, and has the names", || {
                Ok(lab.exec(host, "test -e /run/rewritten")?.success() && has_names(&lab, host)?)
            })?;
        }
        eventually("two are a quorum", || Ok(one_cluster(&lab, &["a1", "b1"])? == cluster))?;
        lab.plug("c1", true)?;
        eventually("the quorum is back", || Ok(one_cluster(&lab, &HOSTS)? == cluster))?;
    }

    // A view that changes is kept as it is then, from the first moment on.
    let more = Configuration::new(&lab, &["a1", "a2", "b1", "c1"], VERSION)?;
    terraform.write("main.tf", &more.members_on(&HOSTS).render())?;
    terraform.apply()?;
    lab.exec("a1", "echo 127.0.0.1 localhost >/etc/hosts")?.ok()?;
    eventually("the new view is put back", || {
        let text = lab.read_file("a1", "/etc/hosts")?;
        Ok(text.contains(" a2.main.etcd.internal") && has_names(&lab, "a1")?)
    })?;

    // One of an earlier version has no copy, and gets what it lacks without a restart.
    let earlier = "systemctl disable --quiet --now etcd-hosts@main.path; rm -f /etc/systemd/system/etcd-hosts@main.* /etc/etcd/main/hosts; systemctl daemon-reload";
    lab.exec("a1", earlier)?.ok()?;
    let before = processes(&lab)?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    ensure!(processes(&lab)? == before, "a member was restarted");
    lab.exec("a1", "echo 127.0.0.1 localhost >/etc/hosts")?.ok()?;
    eventually("the names are back", || has_names(&lab, "a1"))?;

    // A file that can't be written keeps no member from starting.
    lab.exec("a1", "echo 127.0.0.1 localhost >/run/hosts; mount --bind -o ro /run/hosts /etc/hosts; mount -o remount,ro,bind /etc/hosts; systemctl restart etcd-main")?.ok()?;
    eventually("it runs", || Ok(status(&lab, "a1").is_ok()))?;
    let said = lab.exec(
        "a1",
        "journalctl -u etcd-main -o cat | grep \"/etc/hosts can't be read and written\"",
    )?;
    ensure!(said.success(), "it does not say why");
    lab.exec("a1", "umount /etc/hosts")?.ok()?;
    eventually("the names are back", || {
        lab.exec("a1", "touch /etc/hosts; echo >>/etc/hosts")?.ok()?;
        has_names(&lab, "a1")
    })?;

    for host in HOSTS {
        let script = "systemctl --quiet disable --now rewrite-hosts; rm /etc/systemd/system/rewrite-hosts.service; systemctl daemon-reload";
        lab.exec(host, script)?.ok()?;
    }
    terraform.destroy()?;
    for host in HOSTS {
        let left = lab.exec(host, "ls -d /etc/etcd /etc/systemd/system/*etcd* /etc/systemd/system/*/*etcd* 2>/dev/null; systemctl --no-legend --all list-units 'etcd*'; grep etcd /etc/hosts")?;
        ensure!(left.stdout.is_empty(), "{host} has {}", left.stdout);
    }
    Ok(())
}
