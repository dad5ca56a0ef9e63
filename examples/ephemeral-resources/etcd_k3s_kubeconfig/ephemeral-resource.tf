variable "servers" {
  description = "Servers by name."
  type = map(object({
    network = string
    private = string
    public  = string
  }))
}

resource "etcd_server" "this" {
  for_each        = var.servers
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
  install  = { host_path = "/usr/local/bin/k3s" }
}

ephemeral "etcd_k3s_kubeconfig" "admin" {
  cluster = etcd_k3s_cluster.main
  server  = etcd_k3s_server.this["a1"].id
}

# For the configuration of another provider, such as `kubernetes`.
locals {
  kubeconfig = yamldecode(ephemeral.etcd_k3s_kubeconfig.admin.kubeconfig)
}
