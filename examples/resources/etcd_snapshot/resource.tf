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

# One a day, as far as there is an apply a day; the newest 14 stay.
resource "etcd_snapshot" "daily" {
  cluster    = etcd_cluster.main
  depends_on = [etcd_member.this]

  directory = "${path.module}/snapshots"
  keep      = 14
  triggers  = { day = formatdate("YYYY-MM-DD", plantimestamp()) }
}

output "snapshot" {
  value = {
    file     = etcd_snapshot.daily.file
    revision = etcd_snapshot.daily.revision
    sha256   = etcd_snapshot.daily.sha256
  }
}
