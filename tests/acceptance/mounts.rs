//! What is mounted in a member's data directory, and a data directory that is a disk of its own.

use anyhow::{Result, ensure};
use etcd_lab::Builder;

use crate::configuration::{Configuration, quoted};
use crate::outside::ctl;
use crate::prefix;
use crate::terraform::Terraform;

const VERSION: &str = "3.6.16";

#[test]
fn what_is_mounted_in_a_data_directory_outlives_its_member() -> Result<()> {
    let lab = Builder::standard(&prefix("mounts")).only(&["a1", "a2"]).up()?;
    let terraform = Terraform::new(&lab, "1.11")?;
    // A disk of its own, as mkfs makes it.
    let disk = "mkdir -p /var/lib/etcd/main; mount -t tmpfs -o mode=755 tmpfs /var/lib/etcd/main; mkdir /var/lib/etcd/main/lost+found";
    lab.exec("a2", disk)?.ok()?;
    let both = Configuration::new(&lab, &["a1", "a2"], VERSION)?;
    let deleting = both.clone().member("on_destroy", quoted("delete_data"));
    terraform.configure(&deleting.render())?;
    terraform.apply()?;
    lab.exec(
        "a2",
        "mkdir -p /srv/volume '/var/lib/etcd/main/back ups'; echo precious >/srv/volume/file; mount --bind /srv/volume '/var/lib/etcd/main/back ups'",
    )?
    .ok()?;

    // Seen before it leaves.
    terraform.write("main.tf", &deleting.clone().members_on(&["a1"]).render())?;
    let said = terraform.apply_fails()?;
    ensure!(
        lab.read_file("a2", "/srv/volume/file")? == "precious",
        "the volume's file is gone"
    );
    let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in [
        "Nothing was deleted",
        "Nothing was changed",
        "/var/lib/etcd/main/back ups",
    ] {
        ensure!(flat.contains(word), "{word}: {said}");
    }
    ensure!(ctl(&lab, "a1", "member list")?.lines().count() == 2, "it has left");
    ensure!(
        lab.exec("a2", "systemctl is-active etcd-main")?.success(),
        "it was stopped"
    );

    lab.exec("a2", "umount '/var/lib/etcd/main/back ups'")?.ok()?;
    terraform.apply()?;
    let left = lab
        .exec("a2", "mountpoint -q /var/lib/etcd/main && ls -A /var/lib/etcd/main")?
        .ok()?;
    ensure!(left == "lost+found", "{left}");
    ensure!(
        lab.read_file("a2", "/srv/volume/file")? == "precious",
        "the volume's file is gone"
    );

    // Kept aside on a disk of its own it stays on that disk, and another member can use that.
    terraform.write("main.tf", &both.render())?;
    terraform.apply()?;
    terraform.write("main.tf", &both.clone().members_on(&["a1"]).render())?;
    terraform.apply()?;
    let kept = lab.exec("a2", "ls -d /var/lib/etcd/main/member.removed-*/wal && ! id etcd-main")?;
    ensure!(kept.success(), "{}{}", kept.stdout, kept.stderr);
    terraform.write("main.tf", &both.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    terraform.destroy().map(drop)
}
