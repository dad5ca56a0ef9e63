# One region's part of a cluster: the servers of one network and, given the cluster, the members that run on them.

resource "etcd_server" "this" {
  for_each = var.servers

  name            = each.key
  network         = var.network
  private_address = each.value.private_address
  public_address  = each.value.public_address
  peer_port       = var.peer_port
  client_port     = var.client_port

  # It goes with the server into the cluster: whoever enters the server enters it this way.
  ssh = {
    host     = each.value.ssh_host
    port     = each.value.ssh_port != null ? each.value.ssh_port : var.ssh.port
    user     = var.ssh.user
    host_key = each.value.ssh_host_key
    bastion  = var.ssh.bastion
  }
}

resource "etcd_member" "this" {
  # Keys of authorities make the cluster sensitive. Whether there is one is no secret.
  for_each = nonsensitive(var.cluster == null) ? {} : var.servers

  cluster = var.cluster
  server  = each.key
  version = var.etcd_version
  binary  = var.etcd_binary
  config  = var.etcd_config
}
