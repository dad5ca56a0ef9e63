//! A server is destroyed with its data while a volume is mounted below.

use super::*;

/// Binds a volume into the folder of a pod of k3s', where a process keeps it busy. The volume has a file.
const BUSY_VOLUME: &str = "set -e
    mkdir -p /srv/volume; echo precious >/srv/volume/file
    pod='/var/lib/kubelet/pods/p 1/volumes/nfs'; mkdir -p \"$pod\"; mount --bind /srv/volume \"$pod\"
    cd \"$pod\"; systemd-run --quiet --unit=busy --working-directory=\"$pod\" sleep infinity
    line=$(printf '/var/lib/rancher/k3s/storage/a\\nb'); mkdir -p /srv/other \"$line\"; echo precious >/srv/other/file; mount --bind /srv/other \"$line\"
    mkdir -p '/var/lib/kubelet/pods/idle'; mount -t tmpfs tmpfs /var/lib/kubelet/pods/idle";

#[test]
fn a_volume_in_use_outlives_the_data_of_its_server() -> Result<()> {
    let lab = lab("k3s-volumes", &["a1", "a2"])?;
    let terraform = Terraform::new(&lab, "1.11")?;
    let both = K3s::new(&lab, &["a1", "a2"])?;
    terraform.configure(&both.render())?;
    terraform.apply()?;
    lab.exec("a2", BUSY_VOLUME)?.ok()?;
    let volumes = |host: &str| lab.exec(host, "cat /srv/volume/file /srv/other/file");

    terraform.write("main.tf", &both.clone().running(&["a1"]).render())?;
    let said = terraform.apply_fails()?;
    ensure!(volumes("a2")?.ok()? == "precious\nprecious", "a volume's file is gone");
    let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in [
        "Nothing was deleted",
        "\"/var/lib/kubelet/pods/p 1/volumes/nfs\"",
        "\"/var/lib/rancher/k3s/storage/a\\nb\"",
    ] {
        ensure!(flat.contains(word), "{word}: {said}");
    }
    ensure!(
        !flat.contains("pods/idle"),
        "one that is not in use was unmounted: {said}"
    );
    // It has left, nothing of it is lost, and a boot does not start it.
    becomes_one_cluster(&lab, &["a1"])?;
    let there = lab.exec(
        "a2",
        "test -e /var/lib/rancher/k3s/server/db/etcd/member && test -e /etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml && ! systemctl is-enabled --quiet k3s && ! systemctl is-active --quiet k3s",
    )?;
    ensure!(there.success(), "{}", there.stderr);

    // The same again, word by word as it was said.
    ensure!(terraform.apply_fails()?.contains("Nothing was deleted"));
    let script = "systemctl stop busy; umount '/var/lib/kubelet/pods/p 1/volumes/nfs'; umount \"$(printf '/var/lib/rancher/k3s/storage/a\\nb')\"";
    lab.exec("a2", script)?.ok()?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    ensure!(volumes("a2")?.ok()? == "precious\nprecious", "a volume's file is gone");
    let left = lab.exec(
        "a2",
        "ls -d /var/lib/rancher /var/lib/kubelet /etc/systemd/system/k3s.service 2>/dev/null",
    )?;
    ensure!(left.stdout.is_empty(), "a2 has {}", left.stdout);

    // It comes back with a disk of its own for the data, which is emptied, and stays mounted.
    lab.exec("a2", "mkdir -p /var/lib/rancher/k3s; mount -t tmpfs tmpfs /var/lib/rancher/k3s; mkdir /var/lib/rancher/k3s/lost+found")?.ok()?;
    terraform.write("main.tf", &both.render())?;
    terraform.apply()?;
    becomes_one_cluster(&lab, &["a1", "a2"])?;
    terraform.destroy()?;
    let left = lab
        .exec("a2", "mountpoint -q /var/lib/rancher/k3s && ls -A /var/lib/rancher/k3s")?
        .ok()?;
    ensure!(left == "lost+found", "{left}");
    Ok(())
}
