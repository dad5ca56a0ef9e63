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
  version  = "v1.36.3+k3s1"

  # Already there, on machines that reach no internet; else `upload`, or `url` with `sha256`.
  install = { host_path = "/usr/local/bin/k3s" }

  config = {
    "disable"               = jsonencode(["traefik"])
    "write-kubeconfig-mode" = "0600"
  }
}

# What agents join with: K3S_URL and K3S_TOKEN.
output "join" {
  sensitive = true
  value     = { for name, server in etcd_k3s_server.this : name => { url = server.url, token = server.join_token } }
}
