//! The provider's functions, called from a configuration.

use anyhow::{Result, ensure};
use etcd_lab::Builder;

use crate::prefix;
use crate::terraform::{Terraform, VERSIONS};

const SERVERS: &str = r#"
terraform {
  required_providers {
    etcd = { source = "crossnet/etcd" }
  }
}
locals {
  servers = {
    a1 = { network = "A", private_address = "10.0.0.11", public_address = "203.0.113.11" }
    a2 = { network = "A", private_address = "10.0.0.12", public_address = "203.0.113.12", peer_port = 12380 }
    b1 = { network = "B", private_address = "10.0.0.11", public_address = "203.0.113.21" }
  }
}
"#;

#[test]
fn functions_in_a_configuration() -> Result<()> {
    let lab = Builder::standard(&prefix("functions")).only(&[]).up()?;
    for version in VERSIONS {
        let terraform = Terraform::new(&lab, version)?;
        let outputs = r#"
output "a1" { value = provider::etcd::initial_cluster(local.servers, "a1") }
output "b1" { value = provider::etcd::initial_cluster(local.servers, "b1") }
output "picture" { value = provider::etcd::topology_diagram(local.servers).svg }
output "from_b1" { value = provider::etcd::peer_addresses(local.servers, "b1") }
"#;
        terraform.configure(&format!("{SERVERS}{outputs}"))?;
        terraform.apply()?;
        let state = terraform.state()?;
        let output = |name: &str| state["values"]["outputs"][name]["value"].clone();
        assert_eq!(
            output("a1"),
            "a1=https://10.0.0.11:2380,a2=https://10.0.0.12:12380,b1=https://203.0.113.21:2380"
        );
        assert_eq!(
            output("b1"),
            "a1=https://203.0.113.11:2380,a2=https://203.0.113.12:12380,b1=https://10.0.0.11:2380"
        );
        assert_eq!(
            output("from_b1"),
            serde_json::json!({ "a1": "203.0.113.11", "a2": "203.0.113.12", "b1": "10.0.0.11" })
        );

        ensure!(
            output("picture")
                .as_str()
                .is_some_and(|svg| svg.contains("203.0.113.21")),
            "{}",
            output("picture")
        );

        let nobody = "output \"x\" { value = provider::etcd::initial_cluster(local.servers, \"z9\") }\n";
        terraform.write("main.tf", &format!("{SERVERS}{nobody}"))?;
        let said = terraform.apply_fails()?;
        ensure!(said.contains("z9") && said.contains("a1, a2, b1"), "{said}");
    }
    Ok(())
}
