# Two sites behind NAT. Both use 10.0.0.0/24, and their first servers even have the same private address.
locals {
  servers = {
    a1 = { network = "site-a", private = "10.0.0.11", public = "203.0.113.11" }
    a2 = { network = "site-a", private = "10.0.0.12", public = "203.0.113.12" }
    b1 = { network = "site-b", private = "10.0.0.11", public = "203.0.113.21" }
  }
}

resource "etcd_server" "this" {
  for_each        = local.servers
  name            = each.key
  network         = each.value.network
  private_address = each.value.private
  public_address  = each.value.public
}

# A server whose SSH differs from what the provider says: another port, and a host key that is known beforehand.
resource "etcd_server" "c1" {
  name            = "c1"
  network         = "site-c"
  private_address = "192.168.1.10"
  public_address  = "203.0.113.31"

  ssh = {
    port     = 2222
    user     = "ops"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
  }

  timeouts = {
    create = "15m" # the machine is only just being created
  }
}
