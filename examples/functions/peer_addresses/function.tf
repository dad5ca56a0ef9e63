locals {
  servers = {
    a1 = { network = "site-a", private_address = "10.0.0.11", public_address = "203.0.113.11" }
    b1 = { network = "site-b", private_address = "10.0.0.11", public_address = "203.0.113.21" }
  }
}

# { a1 = "10.0.0.11", b1 = "203.0.113.21" }
output "from_a1" {
  value = provider::etcd::peer_addresses(local.servers, "a1")
}
