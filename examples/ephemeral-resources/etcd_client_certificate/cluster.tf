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
  version  = "3.6.16"
}
