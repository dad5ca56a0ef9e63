# Terraform 1.12 and later. The servers are for the import only.
import {
  to = etcd_auth.main
  identity = {
    cluster = "main"
    servers = jsonencode({
      a1 = { network = "site-a", private_address = "10.0.0.11", public_address = "203.0.113.11" }
      b1 = { network = "site-b", private_address = "10.0.0.11", public_address = "203.0.113.21" }
      c1 = { network = "site-c", private_address = "192.168.7.31", public_address = "203.0.113.30" }
    })
  }
}
