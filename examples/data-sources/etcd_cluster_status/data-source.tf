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

# Looked at with every plan, and after every change of the members.
data "etcd_cluster_status" "main" {
  cluster    = etcd_cluster.main
  depends_on = [etcd_member.this]
}

# What is wrong with the cluster is a warning of every plan and apply.
check "etcd" {
  assert {
    condition     = data.etcd_cluster_status.main.healthy
    error_message = join("\n", data.etcd_cluster_status.main.problems)
  }
  assert {
    condition     = alltrue([for link in data.etcd_cluster_status.main.links : coalesce(link.rtt_ms, 0) < 100])
    error_message = "Some members are more than 100 ms apart: raise election_timeout."
  }
}

# What needs the cluster is not touched while the cluster would not stand the loss of a member.
resource "terraform_data" "schema" {
  input = etcd_cluster.main.id

  lifecycle {
    precondition {
      condition     = data.etcd_cluster_status.main.failures_tolerated >= 1
      error_message = "The cluster stands no further failure:\n${join("\n", data.etcd_cluster_status.main.problems)}"
    }
  }
}

output "links" {
  value = {
    for link in data.etcd_cluster_status.main.links :
    "${link.from} to ${link.to}" => "${link.address}, ${coalesce(link.rtt_ms, "?")} ms"
  }
}
