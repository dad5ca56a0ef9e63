//! No secret where it doesn't belong: plan output, logs, process lists, files of others, state.

use std::fs;

use anyhow::{Result, ensure};
use etcd_lab::{Builder, PASSWORD, private_key_file};

use crate::configuration::{Configuration, quoted};
use crate::terraform::Terraform;

#[test]
fn secrets_stay_where_they_belong() -> Result<()> {
    let hosts = ["a1", "b1", "c1"];
    let lab = Builder::standard("secrets").only(&hosts).up()?;
    let key = fs::read_to_string(private_key_file())?;
    // A line from the middle of the key: what would be seen of it if it were printed in any form.
    let line = key.lines().nth(3).unwrap_or_default().to_owned();
    let mut configuration = Configuration::new(&lab, &hosts, "3.6.16")?
        .ssh("user", quoted("ops"))
        .ssh("private_key", quoted(&key))
        .ssh("sudo", format!("{{ password = {} }}", quoted(PASSWORD)));
    configuration.ssh.remove("private_key_file");
    let mut terraform = Terraform::new(&lab, "1.15")?;
    let log = terraform.log_everything();
    // From the environment, and not from the configuration, which Terraform itself may log.
    configuration.ssh.remove("private_key");
    configuration.ssh.remove("sudo");
    terraform.set_environment("ETCD_SSH_PRIVATE_KEY", &key);
    terraform.set_environment("ETCD_SSH_SUDO_PASSWORD", PASSWORD);
    terraform.configure(&configuration.render())?;
    let plan = terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;

    let running = terraform.start(&["apply", "-auto-approve", "-input=false", "-no-color"])?;
    let mut running = running;
    let mut processes = String::new();
    while !running.ended()? {
        for host in hosts {
            processes += &lab
                .exec(
                    host,
                    "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '",
                )?
                .stdout;
        }
    }
    let said = running.wait()?;
    ensure!(said.success(), "{}", said.stderr);

    let log = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let state = fs::read_to_string(terraform.work().join("terraform.tfstate"))?;
    for (where_it_is, text) in [
        ("plan", &plan),
        ("apply", &said.stdout),
        ("log", &log),
        ("process list", &processes),
        ("state", &state),
    ] {
        ensure!(!text.contains(PASSWORD), "the sudo password is in the {where_it_is}");
        ensure!(!text.contains(&line), "the SSH key is in the {where_it_is}");
    }
    for (where_it_is, text) in [
        ("plan", &plan),
        ("apply", &said.stdout),
        ("log", &log),
        ("process list", &processes),
    ] {
        ensure!(
            !text.contains("PRIVATE KEY-----"),
            "a private key is in the {where_it_is}"
        );
    }
    for host in hosts {
        // Every private key on the host, by what is in the file, is closed to others.
        let script = "grep -rIlE 'PRIVATE KEY' /etc /var/lib /opt /run /tmp /home /root /usr/local 2>/dev/null | xargs -r stat -c '%a %U %n' | grep -v '/ssh_host_'";
        let keys = lab.exec(host, script)?.stdout;
        ensure!(
            !keys.is_empty(),
            "no member keys on {host}: the test looks in the wrong places"
        );
        for key in keys.lines() {
            let mode = key.split(' ').next().unwrap_or_default();
            ensure!(mode.ends_with('0'), "others can read a private key on {host}: {key}");
        }
        // Keys of members are never in the state.
        for key in lab
            .exec(host, "grep -rlE 'PRIVATE KEY' /etc/etcd* /var/lib/etcd* 2>/dev/null")?
            .stdout
            .lines()
        {
            let text = lab.read_file(host, key)?;
            let middle = text.lines().nth(1).unwrap_or_default();
            ensure!(
                !middle.is_empty() && !state.contains(middle),
                "{key} of {host} is in the state"
            );
        }
    }
    Ok(())
}
