locals {
  servers = {
    a1 = { network = "site-a", private_address = "10.0.0.11", public_address = "203.0.113.11" }
    a2 = { network = "site-a", private_address = "10.0.0.12", public_address = "203.0.113.12" }
    b1 = { network = "site-b", private_address = "10.0.0.11", public_address = "203.0.113.21" }
  }
}

# To be looked at before there is any server.
output "mermaid" {
  value = provider::etcd::topology_diagram(local.servers).mermaid
}

# terraform output -raw svg > topology.svg
output "svg" {
  value = provider::etcd::topology_diagram(local.servers).svg
}
