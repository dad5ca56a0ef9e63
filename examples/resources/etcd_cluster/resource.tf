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

  # For sites that are 100 ms apart (round trip).
  heartbeat_interval = 100
  election_timeout   = 1500
}

# By which address every server dials every other one.
output "addresses" {
  value = { for name, member in etcd_cluster.main.members : name => member.addresses }
}
