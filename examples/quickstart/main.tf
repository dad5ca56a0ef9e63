# One etcd cluster of three servers at three sites, with no VPN between them.
#
# For your own machines change the addresses below and, if need be, the two variables. Servers of one network reach each other
# by private address, all others by public address; sshd is entered by the public address.

locals {
  servers = {
    a1 = { network = "A", private = "10.0.0.11", public = "203.0.113.11" }
    b1 = { network = "B", private = "10.0.0.11", public = "203.0.113.21" }    # the same range as A, and even the same address
    c1 = { network = "C", private = "192.168.7.31", public = "203.0.113.30" } # behind a router that forwards 22 and 2380
  }
}

terraform {
  required_providers {
    etcd = { source = "crossnet/etcd" }
  }
}

provider "etcd" {
  ssh = {
    user             = var.ssh_user
    private_key_file = var.private_key_file
    known_hosts_file = var.known_hosts_file
  }
}

resource "etcd_server" "this" {
  for_each        = local.servers
  name            = each.key
  network         = each.value.network
  private_address = each.value.private
  public_address  = each.value.public
}

resource "etcd_cluster" "main" {
  name    = "main"
  servers = etcd_server.this
}

resource "etcd_member" "this" {
  for_each = etcd_server.this
  cluster  = etcd_cluster.main
  server   = each.key
  version  = var.etcd_version
  binary   = var.etcd_binary
}
