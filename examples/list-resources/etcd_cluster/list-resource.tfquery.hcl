# terraform query
# terraform query -generate-config-out=found.tf
list "etcd_cluster" "found" {
  provider = etcd

  config {
    servers = {
      a1 = { name = "a1", network = "office", private_address = "10.0.0.11", public_address = "203.0.113.11" }
      b1 = { name = "b1", network = "cloud", private_address = "10.0.0.11", public_address = "203.0.113.21" }
    }
  }
}
