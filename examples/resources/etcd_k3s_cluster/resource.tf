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
  pool    = "100.64.77.0/24" # for members whose servers' private addresses are not unique
}

# What etcd knows its members by, the same text on every server.
output "member_addresses" {
  value = etcd_k3s_cluster.main.addresses
}
