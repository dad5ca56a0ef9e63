//! `terraform query` finds clusters on servers, and what it writes imports them.

use anyhow::{Result, ensure};
use etcd_lab::Builder;

use crate::configuration::{Configuration, quoted};
use crate::prefix;
use crate::terraform::Terraform;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

#[test]
fn clusters_are_found_on_their_servers() -> Result<()> {
    let lab = Builder::standard(&prefix("query")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &HOSTS, "3.6.16")?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;

    // Somebody else, who knows the servers and nothing of the cluster.
    let finder = Terraform::new(&lab, "1.15")?;
    finder.configure(&configuration.clone().only_servers().render())?;
    finder.apply()?;
    let servers: Vec<String> = HOSTS
        .iter()
        .map(|host| {
            let arguments = &configuration.servers[*host];
            let arguments: Vec<String> = arguments
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect();
            format!("      {} = {{ {} }}\n", quoted(host), arguments.join(", "))
        })
        .collect();
    finder.write(
        "find.tfquery.hcl",
        &format!(
            "list \"etcd_cluster\" \"all\" {{\n  provider = etcd\n  config {{\n    servers = {{\n{}    }}\n  }}\n}}\n",
            servers.concat()
        ),
    )?;
    let found = finder.run(&["query", "-no-color"])?.ok()?;
    eprintln!("{found}");
    ensure!(found.contains("main on a1, b1, c1"), "{found}");
    finder
        .run(&["query", "-no-color", "-generate-config-out=found.tf"])?
        .ok()?;
    let written = std::fs::read_to_string(finder.work().join("found.tf"))?;
    eprintln!("{written}");
    ensure!(
        written.contains("resource \"etcd_cluster\"") && written.contains("import {"),
        "{written}"
    );
    let plan = finder.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    ensure!(plan.contains("1 to import") && plan.contains("0 to destroy"), "{plan}");
    Ok(())
}
