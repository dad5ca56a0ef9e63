# An etcd cluster across networks, and k3s on each of its servers that uses the member beside it.

locals {
  servers = {
    a1 = { network = "aws", private = "10.0.0.11", public = "203.0.113.11" }
    b1 = { network = "hetzner", private = "10.0.0.11", public = "203.0.113.21" }
    c1 = { network = "office", private = "192.168.7.31", public = "203.0.113.30" }
  }
  pki = "/etc/etcd/main/pki"
}

provider "etcd" {
  ssh = {
    user             = "admin"
    private_key_file = "~/.ssh/id_ed25519"
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
  version  = "3.6.16"
}

resource "etcd_k3s_cluster" "main" {
  name    = "main"
  servers = etcd_server.this

  # Files that etcd_member has put on every server.
  datastore = {
    endpoint  = "https://127.0.0.1:2379"
    ca_file   = "${local.pki}/client-ca.crt"
    cert_file = "${local.pki}/server.crt"
    key_file  = "${local.pki}/server.key"
  }
}

resource "etcd_k3s_server" "this" {
  for_each   = etcd_server.this
  cluster    = etcd_k3s_cluster.main
  server     = each.key
  install    = { host_path = "/usr/local/bin/k3s" }
  depends_on = [etcd_member.this]
}
