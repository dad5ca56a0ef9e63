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

  # Everything is looked at before anything is changed; this is what a check is switched off with.
  preflight = {
    disk = false
  }
}

# By which address every server dials every other one.
output "addresses" {
  value = { for name, member in etcd_cluster.main.members : name => member.addresses }
}

# What the preflight measured, and the timing that follows from it.
output "timing" {
  value = {
    longest_round_trip_ms = etcd_cluster.main.measured.longest_round_trip_ms
    heartbeat_interval    = etcd_cluster.main.heartbeat_interval
    election_timeout      = etcd_cluster.main.election_timeout
  }
}
