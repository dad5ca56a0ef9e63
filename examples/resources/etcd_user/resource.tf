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

resource "etcd_role" "app" {
  cluster     = etcd_cluster.main
  name        = "app"
  permissions = [{ access = "readwrite", prefix = "/app/" }]
  depends_on  = [etcd_member.this]
}

# Whoever shows a certificate with the common name "app".
resource "etcd_user" "app" {
  cluster = etcd_cluster.main
  name    = "app"
  roles   = [etcd_role.app.name]
}

variable "guest_password" {
  type      = string
  ephemeral = true
}

# Whoever knows the password. It is stored nowhere but in etcd; raise the version to have another one set.
resource "etcd_user" "guest" {
  cluster             = etcd_cluster.main
  name                = "guest"
  roles               = [etcd_role.app.name]
  password_wo         = var.guest_password
  password_wo_version = 1
}
