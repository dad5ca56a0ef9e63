# Terraform 1.12 and later.
import {
  to = etcd_server.this["a1"]
  identity = {
    name            = "a1"
    network         = "site-a"
    private_address = "10.0.0.11"
    public_address  = "203.0.113.11"
  }
}
