locals {
  servers = {
    a1 = { network = "site-a", private_address = "10.0.0.11", public_address = "203.0.113.11" }
    b1 = { network = "site-b", private_address = "10.0.0.11", public_address = "203.0.113.21" }
  }
}

# {
#   a1 = "a1=https://10.0.0.11:2380,b1=https://203.0.113.21:2380"
#   b1 = "a1=https://203.0.113.11:2380,b1=https://10.0.0.11:2380"
# }
output "initial_cluster" {
  value = { for name in keys(local.servers) : name => provider::etcd::initial_cluster(local.servers, name) }
}
