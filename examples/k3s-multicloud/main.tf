# Three k3s servers with embedded etcd at three sites, with no VPN between them.

locals {
  servers = {
    a1 = { network = "aws", private = "10.0.0.11", public = "203.0.113.11" }
    b1 = { network = "hetzner", private = "10.0.0.11", public = "203.0.113.21" } # the same address as a1
    c1 = { network = "office", private = "192.168.7.31", public = "203.0.113.30" }
  }
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

resource "etcd_k3s_cluster" "main" {
  name    = "main"
  servers = etcd_server.this
}

resource "etcd_k3s_server" "this" {
  for_each = etcd_server.this
  cluster  = etcd_k3s_cluster.main
  server   = each.key
  version  = var.k3s_version
  install  = { upload = var.k3s }
}

output "kubeconfig" {
  sensitive = true
  value     = etcd_k3s_server.this["a1"].kubeconfig
}
