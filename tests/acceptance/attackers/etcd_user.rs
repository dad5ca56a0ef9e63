//! Who has taken over etcd's user.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::configuration::{Configuration, quoted};
use crate::outside::{ctl, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;

const ETCD: &str = "3.6.16";
const THREE: [&str; 3] = ["a1", "b1", "c1"];
const DATA: &str = "/var/lib/etcd/main";
/// What the attacker has etcd execute: it takes its own file away and waits. Asked for its version it writes down as whom it runs.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
  if (count > 1 && !strcmp(words[1], "--version")) {
    FILE *ran = fopen("/var/lib/etcd/main/ran", "a");
    if (ran) { fprintf(ran, "%d\n", geteuid()); fclose(ran); }
    puts("etcd Version: 3.6.16");
    return 0;
  }
  unlink(words[0]);
  for (;;) pause();
}
"#;

/// A cluster on whose server a1 etcd's user is the attacker's.
struct Taken<'a> {
    lab: &'a Lab,
    terraform: Terraform<'a>,
}

impl<'a> Taken<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let terraform = Terraform::new(lab, "1.15")?;
        terraform.configure(&Configuration::new(lab, &lab.hosts(), ETCD)?.render())?;
        terraform.apply()?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("program.c"), PROGRAM)?;
        let compiled = Command::new("cc")
            .current_dir(folder.path())
            .args(["-static", "-o", "program", "program.c"])
            .status()?;
        ensure!(compiled.success(), "cc: {compiled}");
        lab.write_file("a1", "/root/program", &std::fs::read(folder.path().join("program"))?)?;
        Ok(Self { lab, terraform })
    }

    fn on(&self, script: &str) -> Result<String> {
        self.lab.exec("a1", script)?.ok().context(script.to_owned())
    }

    /// Has the service run the program from this path, in place of etcd, as if it had been executed there. What the unit does against that is
    /// switched off, as in the units of earlier versions of this provider.
    fn executes(&self, path: &str) -> Result<()> {
        let script = format!(
            "set -e\nmkdir -p \"$(dirname {path})\"\ncp /root/program {path}\nchmod 0755 {path}\nchown -R etcd-main: {DATA}\n\
             mkdir -p /run/systemd/system/etcd-main.service.d\n\
             cat >/run/systemd/system/etcd-main.service.d/attack.conf <<END\n[Service]\nNoExecPaths=\nExecPaths=\nExecStart=\n\
             ExecStart=/bin/sh -c 'exec {DATA}/start'\nEND\n\
             cat >{DATA}/start <<'END'\n#!/bin/sh\nexec {path}\nEND\n\
             chmod 0755 {DATA}/start\nsystemctl daemon-reload\nsystemctl restart etcd-main\n\
             rm -r /run/systemd/system/etcd-main.service.d\nsystemctl daemon-reload"
        );
        self.on(&script).map(drop)
    }

    /// As whom the program ran when it was asked for its version.
    fn ran_as(&self) -> Result<Vec<String>> {
        let said = self.lab.exec("a1", &format!("cat {DATA}/ran 2>/dev/null"))?.stdout;
        Ok(said.lines().map(str::to_owned).collect())
    }
}

#[test]
fn what_etcds_user_has_executed_is_never_run_as_root() -> Result<()> {
    let lab = Builder::standard(&prefix("attack-exe")).only(&THREE).up()?;
    let taken = Taken::new(&lab)?;
    let user = taken.on("id -u etcd-main")?;
    taken.executes(&format!("{DATA}/program"))?;
    let gone = taken.on("readlink /proc/$(systemctl show -p MainPID --value etcd-main)/exe")?;
    ensure!(gone.ends_with("/program (deleted)"), "the attack is none: {gone}");
    taken.terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    let ran_as = taken.ran_as()?;
    ensure!(ran_as.iter().all(|uid| *uid == user.trim()), "it was run as {ran_as:?}");
    // The apply starts etcd in its place.
    taken.terraform.apply()?;
    let ran_as = taken.ran_as()?;
    ensure!(ran_as.iter().all(|uid| *uid == user.trim()), "it was run as {ran_as:?}");
    one_cluster(&lab, &THREE)?;
    taken.terraform.nothing_to_do()
}

/// The path of an executable may hold anything: also what would be another answer of the script that tells it.
#[test]
fn a_path_makes_no_other_answer() -> Result<()> {
    let lab = Builder::standard(&prefix("attack-path")).only(&THREE).up()?;
    let taken = Taken::new(&lab)?;
    let unit = taken.on("cat /etc/systemd/system/etcd-main.service")?;
    let path = format!("\"{DATA}/x\nbinary-path={DATA}/evil\nbinary={ETCD}\nescape=\x1b[2J\"");
    taken.executes(&path)?;
    let plan = taken.terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    ensure!(plan.contains("process"), "the plan does not see it: {plan}");
    ensure!(!plan.contains('\x1b'), "an escape sequence came through: {plan:?}");
    taken.terraform.apply()?;
    let now = taken.on("cat /etc/systemd/system/etcd-main.service")?;
    ensure!(now == unit, "the unit was changed: {now}");
    one_cluster(&lab, &THREE)?;
    taken.terraform.nothing_to_do()
}

/// In the member's own sandbox nothing that etcd's user has written can be executed.
#[test]
fn the_unit_lets_etcd_execute_nothing_of_its_own() -> Result<()> {
    let lab = Builder::standard(&prefix("attack-unit")).only(&["a1"]).up()?;
    let scheduled = "{ schedule = \"*-*-* 03:30 UTC\", keep = 3 }";
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &["a1"], ETCD)?.member("snapshots", scheduled);
    terraform.configure(&configuration.render())?;
    terraform.apply()?;
    // Everywhere it can write. (From outside, as nothing that copies can be executed inside either.)
    let script = format!(
        "main=$(systemctl show -p MainPID --value etcd-main)\n\
         inside() {{ nsenter -t \"$main\" -m -S \"$(id -u etcd-main)\" -G \"$(id -g etcd-main)\" \"$@\" 2>/dev/null; echo \"$1 $?\"; }}\n\
         inside /bin/sh -c :; inside /bin/true\n\
         for folder in {DATA} {DATA}/member /tmp /var/tmp /dev/shm /dev/mqueue /run/etcd-main /run/lock; do\n\
           if [ -d \"/proc/$main/root$folder\" ]; then\n\
             cp /bin/true \"/proc/$main/root$folder/true\" && chown etcd-main \"/proc/$main/root$folder/true\"\n\
             inside \"$folder/true\"; rm \"/proc/$main/root$folder/true\"\n\
           fi\n\
         done"
    );
    let said = lab.exec("a1", &script)?.ok()?;
    let executed: Vec<&str> = said.lines().filter(|line| line.ends_with(" 0")).collect();
    ensure!(executed == ["/bin/sh 0"] && said.lines().count() >= 8, "{said}");
    // How much systemd thinks that a service may do, from 0 to 10.
    for (unit, most) in [("etcd-main.service", 1.5), ("etcd-snapshot@main.service", 1.8)] {
        let said = lab
            .exec("a1", &format!("systemd-analyze security --no-pager {unit} | tail -n 1"))?
            .ok()?;
        let number = said
            .split_once(": ")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
        let number = number.with_context(|| said.clone())?;
        eprintln!("{said}");
        ensure!(number <= most, "{unit}: {said}");
    }
    // And it takes snapshots as before.
    lab.exec("a1", "systemctl start etcd-snapshot@main.service")?.ok()?;
    ensure!(!lab.exec("a1", "ls /var/lib/etcd-snapshots/main/*.db")?.ok()?.is_empty());
    terraform.destroy().map(drop)
}

/// Root reads the log before the upgrade to 3.7: no link leads it elsewhere, and no pipe keeps it.
#[test]
fn traps_in_the_data_directory_catch_nothing() -> Result<()> {
    let lab = Builder::standard(&prefix("attack-traps")).only(&["a1"]).up()?;
    let taken = Taken::new(&lab)?;
    taken.on(&format!(
        "cd {DATA}/member\nln -s /dev/zero wal/x.wal\nmkfifo wal/y.wal\nln -s /etc/shadow restored\nchown -h etcd-main: wal/* restored"
    ))?;
    ctl(&lab, "a1", "put kept through-the-upgrade")?;
    let newer =
        Configuration::new(&lab, &["a1"], "3.7.3")?.member("timeouts", format!("{{ update = {} }}", quoted("3m")));
    taken.terraform.write("main.tf", &newer.render())?;
    taken.terraform.apply()?;
    ensure!(status(&lab, "a1")?.version == "3.7.3");
    ensure!(ctl(&lab, "a1", "get kept")?.contains("through-the-upgrade"));
    let state = std::fs::read_to_string(taken.terraform.work().join("terraform.tfstate"))?;
    ensure!(!state.contains("root:"), "a line of /etc/shadow is in the state");
    Ok(())
}
