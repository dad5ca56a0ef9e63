//! The lab does what it says. Needs root and what `tests/setup` installs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, CONTROLLER, Delay, Hairpin, HostSpec, Lab, Site};

/// Sends `word` from one host to a port of an address, and says what the other host, by name, heard and from where.
fn heard(lab: &Lab, from: &str, address: &str, to: &str, word: &str) -> Result<String> {
    let mut listener = lab.command_on(to, "timeout")?;
    let listener = listener.args(["5", "nc", "-n", "-v", "-l", "-p", "2380"]);
    let child = listener
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let until = Instant::now() + Duration::from_secs(3);
    while !lab.exec(to, "ss -Hltn sport = :2380 | grep -q .")?.success() {
        ensure!(Instant::now() < until, "nc on {to} doesn't listen");
    }
    lab.exec(from, &format!("echo {word} | nc -n -N -w 2 {address} 2380"))?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_same_private_address_at_two_sites_and_the_public_ones_in_between() -> Result<()> {
    let mut lab = Builder::standard("t-overlap").only(&["a1", "a2", "b1", "c1"]).up()?;
    assert_eq!(lab.private_address("a1")?, lab.private_address("b1")?);

    let at_b1 = heard(&lab, "a1", "203.0.113.21", "b1", "across")?;
    assert!(at_b1.contains("across") && at_b1.contains("203.0.113.11"), "{at_b1}");
    let at_c1 = heard(&lab, "b1", "203.0.113.30", "c1", "forwarded")?;
    assert!(at_c1.contains("forwarded") && at_c1.contains("203.0.113.21"), "{at_c1}");
    let at_a2 = heard(&lab, "a1", "10.0.0.12", "a2", "inside")?;
    assert!(at_a2.contains("inside") && at_a2.contains("10.0.0.11"), "{at_a2}");
    let hairpin = heard(&lab, "a1", "203.0.113.12", "a2", "hairpin")?;
    assert!(hairpin.contains("hairpin") && hairpin.contains("10.0.0.1"), "{hairpin}");

    // What the user reaches is the host that is meant, and not the other one with the same private address.
    for host in ["a1", "a2", "b1", "c1"] {
        assert_eq!(lab.ssh("admin", host, "sudo -n hostname")?.ok()?, host);
    }
    assert!(!lab.ssh("ops", "a1", "sudo -n true")?.success());
    assert!(
        lab.ssh(
            "ops",
            "a1",
            &format!("echo {} | sudo -S -p '' true", etcd_lab::PASSWORD)
        )?
        .success()
    );
    assert!(
        !lab.ssh(
            "guest",
            "a1",
            &format!("echo {} | sudo -S -p '' true", etcd_lab::PASSWORD)
        )?
        .success()
    );

    // Going out by another address than coming in, and a new address to come in by.
    lab.egress("a1", Some([203, 0, 113, 19].into()))?;
    let other = heard(&lab, "a1", "203.0.113.21", "b1", "egress")?;
    assert!(other.contains("203.0.113.19"), "{other}");
    lab.set_public("b1", [203, 0, 113, 29].into())?;
    let moved = heard(&lab, "a2", "203.0.113.29", "b1", "moved")?;
    assert!(moved.contains("moved"), "{moved}");
    assert!(!lab.exec("a2", "nc -n -w 1 -z 203.0.113.21 22")?.success());
    Ok(())
}

#[test]
fn distance_cut_and_heal() -> Result<()> {
    let lab = Builder::standard("t-wan").only(&["a1", "b1"]).up()?;
    lab.wan("A", "B", Delay::ms(25.0))?;
    let ping = |from: &str| -> Result<f64> {
        let text = lab.exec(from, "ping -n -q -c 4 -i 0.1 203.0.113.21")?.ok()?;
        // rtt min/avg/max/mdev = 50.6/50.8/51.1/0.2 ms
        Ok(text
            .rsplit(" = ")
            .next()
            .and_then(|numbers| numbers.split('/').next())
            .unwrap_or_default()
            .parse()?)
    };
    let rtt = ping("a1")?;
    assert!((50.0..56.0).contains(&rtt), "{rtt} ms");

    lab.cut("A", "B")?;
    assert!(!lab.exec("a1", "ping -n -q -c 1 -W 1 203.0.113.21")?.success());
    assert!(
        lab.ssh("root", "b1", "true")?.success(),
        "the controller's link is another one"
    );
    lab.heal("A", "B")?;
    let rtt = ping("a1")?;
    assert!((50.0..56.0).contains(&rtt), "{rtt} ms after healing");

    lab.cut_one_way(CONTROLLER, "A")?;
    assert!(!lab.ssh("root", "a1", "true")?.success());
    Ok(())
}

#[test]
fn power_cut_reboot_freeze_and_ssh_sessions() -> Result<()> {
    let lab = Builder::standard("t-power").only(&["a1", "b1"]).up()?;
    lab.write_file("a1", "/var/lib/test/kept", b"disk")?;
    let boot = |host: &str| {
        lab.exec(
            host,
            "systemctl show -p UserspaceTimestampMonotonic; stat -c %Y /proc/1",
        )?
        .ok()
    };

    let before = boot("a1")?;
    lab.power_off("a1")?;
    assert!(!lab.is_on("a1")?);
    assert!(lab.exec("a1", "true").is_err());
    lab.power_on("a1")?;
    assert_ne!(boot("a1")?, before);
    assert_eq!(lab.read_file("a1", "/var/lib/test/kept")?, "disk");

    let before = boot("b1")?;
    lab.reboot("b1")?;
    assert_ne!(boot("b1")?, before);
    assert!(lab.ssh("root", "b1", "true")?.success());

    lab.freeze("a1")?;
    assert!(!lab.ssh("root", "a1", "true")?.success());
    lab.thaw("a1")?;
    assert!(lab.ssh("root", "a1", "true")?.success());

    let mut session = lab
        .ssh_command("admin", "a1")?
        .arg("sleep 60")
        .stdin(std::process::Stdio::null())
        .spawn()?;
    let until = Instant::now() + Duration::from_secs(5);
    while !lab.exec("a1", "pgrep -x sleep")?.success() {
        ensure!(Instant::now() < until, "no session on a1");
    }
    assert!(lab.cut_ssh("a1")? > 0);
    assert!(!session.wait()?.success());
    lab.stop_sshd("a1")?;
    assert!(!lab.ssh("root", "a1", "true")?.success());
    lab.start_sshd("a1")?;
    lab.change_host_key("a1")?;
    let refused = lab.ssh("root", "a1", "true")?;
    assert!(
        refused.stderr.contains("verification failed") || refused.stderr.contains("IDENTIFICATION HAS CHANGED"),
        "{}",
        refused.stderr
    );
    Ok(())
}

#[test]
fn a_bastion_a_host_without_systemd_and_no_hairpin() -> Result<()> {
    let lab = Builder::new("t-bastion")
        .site(Site::new("A", [10, 0, 0, 1], 24, [203, 0, 113, 10]))
        .host(HostSpec::new("door", "A", [10, 0, 0, 2]).one_to_one([203, 0, 113, 11]))
        .host(HostSpec::new("inner", "A", [10, 0, 0, 3]))
        .host(
            HostSpec::new("bare", "A", [10, 0, 0, 4])
                .one_to_one([203, 0, 113, 12])
                .ssh_only(),
        )
        .hairpin(Hairpin::Dropped)
        .up()?;
    assert!(lab.ssh("root", "inner", "true").is_err(), "it has no public address");
    assert!(lab.exec("door", "nc -n -z -w 1 10.0.0.3 22")?.success());
    assert_eq!(
        lab.ssh("root", "bare", "cat /proc/1/comm")?
            .ok()
            .map(|name| name.contains("systemd"))
            .ok(),
        Some(false)
    );
    assert!(!lab.exec("door", "nc -n -z -w 1 203.0.113.12 22")?.success());
    Ok(())
}

#[test]
fn a_lab_that_is_up_is_not_taken_away_and_leftovers_are() -> Result<()> {
    let lab = Builder::standard("t-twice").only(&["a1"]).up()?;
    let again = Builder::standard("t-twice")
        .only(&["a1"])
        .up()
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(again.contains("is up already"), "{again}");
    // As if the process that made it had been killed: another one's stamp.
    std::fs::write("/run/etcd-lab/t-twice/owner", "1 1")?;
    let second = Builder::standard("t-twice").only(&["a1"]).up()?;
    assert!(second.ssh("root", "a1", "true")?.success());
    drop(second);
    assert!(!std::path::Path::new("/run/etcd-lab/t-twice").exists());
    drop(lab);
    Ok(())
}

#[test]
fn ipv6_has_no_nat_and_the_same_distance() -> Result<()> {
    let lab = Builder::standard("t-six").only(&["a1", "a2", "b1"]).dual_stack().up()?;
    lab.wan("A", "B", Delay::ms(30.0))?;
    let addresses = |host: &str| -> Result<etcd_lab::Ipv6> { lab.ipv6(host)?.context("no IPv6 addresses") };
    let (a1, a2, b1) = (addresses("a1")?, addresses("a2")?, addresses("b1")?);
    assert_eq!(a1.private, b1.private);
    let rtt = |from: &str, to: std::net::Ipv6Addr| -> Result<f64> {
        let text = lab.exec(from, &format!("ping -6 -n -c 1 -W 2 {to}"))?.ok()?;
        let time = text.split("time=").nth(1).and_then(|rest| rest.split(' ').next());
        Ok(time.context(text.clone())?.parse()?)
    };
    let (far, near) = (rtt("a1", b1.public)?, rtt("a1", a2.private)?);
    assert!(far >= 60.0 && near < 60.0, "{far} ms across, {near} ms inside");
    let known_hosts = std::fs::read_to_string(lab.known_hosts_file())?;
    assert!(known_hosts.contains(&b1.public.to_string()));
    Ok(())
}
