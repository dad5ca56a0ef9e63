//! `terraform test`: several runs and a teardown, which Terraform 1.15 has one process of the provider do.

use anyhow::{Result, ensure};
use etcd_lab::Builder;

use crate::configuration::Configuration;
use crate::outside::leftovers;
use crate::prefix;
use crate::scaling::VERSION;
use crate::terraform::{OPENTOFU, Terraform, VERSIONS};

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

const RUNS: &str = r#"
run "founds" {
  variables {
    members = ["a1", "b1"]
  }
}
run "grows" {
  variables {
    members = ["a1", "b1", "c1"]
  }
}
run "changes" {
  variables {
    members = ["a1", "b1", "c1"]
    quota = 3
  }
}
run "shrinks" {
  variables {
    members = ["a1"]
    quota = 3
  }
}
"#;

fn runs_and_teardown(minor: &str) -> Result<()> {
    let lab = Builder::standard(&prefix(&format!("test-{}", minor.replace('.', "-")))).up()?;
    let terraform = Terraform::new(&lab, minor)?;
    let member = Configuration::new(&lab, &HOSTS, VERSION)?;
    let member = member.member("config", "{ \"max-txn-ops\" = tostring(120 + var.quota) }");
    let text = member.render() + "variable \"quota\" { default = 2 }\nvariable \"members\" { default = [\"a1\"] }\n";
    let text = text.replace(r#"toset(["a1", "b1", "c1"])"#, "toset(var.members)");
    // Where the test itself has the provider's configuration, 1.15 has one process of the provider for all of it.
    let begin = text.find("provider \"etcd\"").unwrap_or_default();
    let end = text.find("resource \"etcd_server\"").unwrap_or_default();
    let provider = text[begin..end].to_owned();
    terraform.configure(&text.replace(&provider, ""))?;
    std::fs::create_dir_all(terraform.work().join("tests"))?;
    terraform.write("tests/cluster.tftest.hcl", &(provider + RUNS))?;
    let said = terraform.run(&["test", "-no-color"])?;
    ensure!(said.success(), "{minor}: {}{}", said.stdout, said.stderr);
    for host in HOSTS {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
    }
    Ok(())
}

#[test]
fn runs_end_with_a_teardown() -> Result<()> {
    VERSIONS.into_iter().chain([OPENTOFU]).try_for_each(runs_and_teardown)
}
