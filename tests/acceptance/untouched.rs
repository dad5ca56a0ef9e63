//! After a clean create of every block a refresh finds nothing changed, and what a plan must know of the founding it knows all the same.

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};

use crate::access::ACCESS;
use crate::configuration::{Configuration, quoted};
use crate::outside::{eventually, one_cluster};
use crate::prefix;
use crate::terraform::Terraform;

const THREE: [&str; 3] = ["a1", "b1", "c1"];
const ETCD: &str = "3.6.16";
const CERTIFICATE: &str = "resource \"etcd_client_certificate\" \"backup\" {\n  cluster     = etcd_cluster.main\n  common_name = \"backup\"\n}\n";

fn founding(terraform: &Terraform) -> Result<String> {
    let cluster = terraform.attributes("etcd_cluster.main")?;
    Ok(cluster["founding"].as_str().context("no founding")?.to_owned())
}

fn plan(terraform: &Terraform, arguments: &[&str]) -> Result<(String, i32)> {
    let plan = [&["plan", "-input=false", "-no-color", "-detailed-exitcode"], arguments].concat();
    let output = terraform.run(&plan)?;
    Ok((format!("{}{}", output.stdout, output.stderr), output.code))
}

/// All data is gone, as after a disk that was not mounted. The files of the cluster are there.
fn lose_all_data(lab: &Lab) -> Result<()> {
    for host in THREE {
        lab.exec(host, "systemctl stop etcd-main; rm -rf /var/lib/etcd/main/member")?
            .ok()?;
    }
    Ok(())
}

#[test]
fn after_a_create_a_refresh_finds_nothing() -> Result<()> {
    let lab = Builder::standard(&prefix("untouched")).only(&THREE).up()?;
    lab.wan_everywhere(Delay::ms(27.0))?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &THREE, ETCD)?;
    let folder = terraform.work().join("snapshots").display().to_string();
    let snapshot = crate::snapshots::resource(&format!("  directory = {}", quoted(&folder)));
    // A look at the cluster counts what is written, and with access control on a refresh that tries a password is.
    let access = ACCESS.split_once("data ").context("no data source")?.0;
    let whole = |configuration: &Configuration| configuration.render() + access + CERTIFICATE + &snapshot;
    terraform.configure(&whole(&configuration))?;
    terraform.apply()?;
    // The first one, and a later one.
    terraform.untouched()?;
    terraform.nothing_to_do()?;
    terraform.untouched()?;
    ensure!(founding(&terraform)? == "prepared", "{}", founding(&terraform)?);

    // The state is from before the founding. What rests on that is known: by the refresh, and by the servers where there is none.
    let other = configuration.clone().cluster("name", quoted("other")).render();
    terraform.write("main.tf", &other)?;
    for arguments in [&[][..], &["-refresh=false"]] {
        let (said, code) = plan(&terraform, arguments)?;
        ensure!(
            code == 1 && said.contains("running cluster can't become another one"),
            "{code}: {said}"
        );
    }

    // With all data lost it is not founded again.
    terraform.write("main.tf", &whole(&configuration))?;
    let cluster = one_cluster(&lab, &THREE)?;
    lose_all_data(&lab)?;
    let (said, _) = plan(&terraform, &["-refresh-only"])?;
    ensure!(!said.contains("stranded"), "it would be founded again: {said}");
    terraform
        .run(&[
            "apply",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-target=etcd_cluster.main",
        ])?
        .ok()?;
    for host in THREE {
        let permit = lab.exec(host, "ls /etc/etcd/main/founding-permit")?;
        ensure!(!permit.success(), "{host} may found again");
        eventually("no etcd runs", || Ok(!lab.exec(host, "pgrep -x etcd")?.success()))?;
    }
    eprintln!("cluster {cluster:x} was not founded again");
    Ok(())
}
