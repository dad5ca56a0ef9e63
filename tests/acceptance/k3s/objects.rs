//! Servers that are created before they are destroyed, a cluster at another address in the configuration, and one that is protected.

use super::*;

const HOSTS: [&str; 3] = ["a1", "a2", "b1"];

#[test]
fn servers_that_are_created_before_they_are_destroyed() -> Result<()> {
    let lab = lab("k3s-objects", &HOSTS)?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let three = K3s::new(&lab, &HOSTS)?.cluster("deletion_protection", "true");
    terraform.configure(&three.render())?;
    terraform.apply()?;
    terraform.untouched()?;
    terraform.nothing_to_do()?;
    terraform.untouched()?;
    let processes = || {
        let show = "systemctl show -p MainPID --value k3s";
        HOSTS
            .iter()
            .map(|host| lab.exec(host, show)?.ok())
            .collect::<Result<Vec<_>>>()
    };
    let before = processes()?;
    let server = "server = each.key\n";
    let first = three.render().replace(
        server,
        &format!("{server}  lifecycle {{ create_before_destroy = true }}\n"),
    );
    terraform.write("main.tf", &first)?;
    for replaced in [&HOSTS[1..2], &HOSTS[..]] {
        let addresses: Vec<String> = { replaced.iter() }
            .map(|host| format!("-replace=etcd_k3s_server.this[\"{host}\"]"))
            .collect();
        let mut apply = vec!["apply", "-auto-approve", "-input=false", "-no-color"];
        apply.extend(addresses.iter().map(String::as_str));
        let said = terraform.run(&apply)?.ok()?;
        ensure!(
            said.contains(&format!("{0} added, 0 changed, {0} destroyed", replaced.len())),
            "{said}"
        );
        one_cluster(&lab, &HOSTS)?;
        ensure!(processes()? == before, "k3s was restarted");
        terraform.nothing_to_do()?;
    }

    let refused = |text: &str, arguments: &[&str]| -> Result<String> {
        terraform.write("main.tf", text)?;
        let said = terraform.run(&[&["plan", "-input=false", "-no-color"], arguments].concat())?;
        ensure!(!said.success(), "{}", said.stdout);
        Ok(said.stderr.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let elsewhere = three
        .render()
        .replace("\"etcd_k3s_cluster\" \"main\"", "\"etcd_k3s_cluster\" \"other\"");
    let elsewhere = elsewhere.replace("etcd_k3s_cluster.main", "etcd_k3s_cluster.other");
    let said = refused(
        &elsewhere.replace("deletion_protection = true", "deletion_protection = false"),
        &[],
    )?;
    ensure!(
        said.contains("founded cluster main would be") && said.contains("from = etcd_k3s_cluster.<old>"),
        "{said}"
    );
    let said = refused(&three.render(), &["-destroy"])?;
    ensure!(said.contains("is protected from being"), "{said}");
    ensure!(processes()? == before, "k3s was restarted");
    let free = three.cluster("deletion_protection", "false");
    terraform.write("main.tf", &free.render())?;
    terraform.apply()?;
    terraform.destroy()?;
    for host in HOSTS {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "{host} has {left}");
    }
    Ok(())
}
