//! The other way: k3s without an etcd of its own, on one of `etcd_member`s.

use super::*;

const HOSTS: [&str; 2] = ["a1", "b1"];

#[test]
fn k3s_runs_on_members_of_an_etcd_cluster() -> Result<()> {
    let lab = lab("k3s-store", &HOSTS)?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let pki = "/etc/etcd/main/pki";
    let mut k3s = K3s::new(&lab, &HOSTS)?.cluster(
        "datastore",
        format!(
            "{{ endpoint = \"https://127.0.0.1:2379\", ca_file = \"{pki}/client-ca.crt\", cert_file = \"{pki}/server.crt\", key_file = \"{pki}/server.key\" }}"
        ),
    );
    k3s = k3s.server("depends_on", "[etcd_member.this]");
    k3s.more = format!(
        "resource \"etcd_cluster\" \"main\" {{\n  name = \"main\"\n  servers = {{ a1 = etcd_server.a1, b1 = etcd_server.b1 }}\n}}\n\
         resource \"etcd_member\" \"this\" {{\n  for_each = toset([\"a1\", \"b1\"])\n  cluster = etcd_cluster.main\n  server = each.key\n  version = \"{ETCD}\"\n  \
         binary = {{ host_path = \"/opt/etcd/{ETCD}\" }}\n}}\n"
    );
    terraform.configure(&k3s.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    for host in HOSTS {
        ensure!(lab.exec(host, "systemctl is-active k3s")?.success());
        ensure!(
            !lab.exec(host, "nft list table ip etcd_k3s_main")?.success(),
            "{host} translates"
        );
        ensure!(
            !lab.exec(host, "test -e /var/lib/rancher/k3s/server/db/etcd")?.success(),
            "{host} has an etcd of k3s' own"
        );
    }
    // k3s' keys are in the cluster of the members.
    let keys = crate::outside::ctl(&lab, "b1", "get --prefix --keys-only --limit 20 /")?;
    ensure!(keys.contains("/bootstrap/") || keys.contains("/registry/"), "{keys}");
    terraform.destroy()?;
    for host in HOSTS {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "{host} has {left}");
    }
    Ok(())
}
