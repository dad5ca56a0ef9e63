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

resource "etcd_cluster" "main" {
  name    = "main"
  servers = etcd_server.this
}

resource "etcd_member" "this" {
  for_each = etcd_server.this
  cluster  = etcd_cluster.main
  server   = each.key
  version  = "3.6.14"

  config = {
    "quota-backend-bytes"       = "8589934592"
    "auto-compaction-mode"      = "periodic"
    "auto-compaction-retention" = "1h"
  }

  # Each server takes one every six hours, and the newest 28 stay on it: a week.
  snapshots = {
    schedule = "*-*-* 0/6:00"
    keep     = 28
  }
}

# The same on every member: it is one cluster.
output "cluster_id" {
  value = { for name, member in etcd_member.this : name => member.cluster_id }
}
