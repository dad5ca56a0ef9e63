# Clusters over three regions. Every server carries a member of each cluster, on ports of the cluster's own.

provider "etcd" {
  ssh = {
    user             = var.ssh_user
    private_key_file = var.private_key_file
    known_hosts_file = var.known_hosts_file
  }
}

module "cluster" {
  source   = "./cluster"
  for_each = var.clusters

  name               = each.key
  peer_port          = each.value.peer_port
  client_port        = each.value.client_port
  heartbeat_interval = each.value.heartbeat_interval
  election_timeout   = each.value.election_timeout
  etcd_version       = coalesce(each.value.etcd_version, var.etcd_version)
  etcd_binary        = var.etcd_binary
  etcd_config        = each.value.etcd_config
  regions            = var.regions
}
