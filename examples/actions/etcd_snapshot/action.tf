variable "servers" {
  description = "Servers by name."
  type = map(object({
    network = string
    private = string
    public  = string
  }))
}

variable "etcd_version" {
  description = "The version of etcd."
  type        = string
  default     = "3.6.16"
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

# Also by hand: terraform apply -invoke=action.etcd_snapshot.main
action "etcd_snapshot" "main" {
  config {
    cluster   = etcd_cluster.main
    directory = "${path.module}/snapshots"
    keep      = 14
  }
}

# Before every change of version: members wait for this, and what it stands for changes with the version.
resource "terraform_data" "version" {
  input = var.etcd_version

  lifecycle {
    action_trigger {
      events  = [before_update]
      actions = [action.etcd_snapshot.main]
    }
  }
}

resource "etcd_member" "this" {
  for_each = etcd_server.this
  cluster  = etcd_cluster.main
  server   = each.key
  version  = terraform_data.version.output
}
