# One cluster over three regions: a module block for each region, and their servers merged.
#
# The cluster takes the servers that the regions hand out, and the regions take the cluster for their members. That is no circle:
# Terraform orders resources, not modules. (With `for_each` on the region's block it would be one: then `module.region` as a whole
# is waited for, members included.)

module "frankfurt" {
  source = "../../modules/region"

  network      = "frankfurt"
  servers      = var.regions.frankfurt.servers
  ssh          = var.regions.frankfurt.ssh
  peer_port    = var.peer_port
  client_port  = var.client_port
  cluster      = etcd_cluster.this
  etcd_version = var.etcd_version
  etcd_binary  = var.etcd_binary
  etcd_config  = var.etcd_config
}

module "office" {
  source = "../../modules/region"

  network      = "office"
  servers      = var.regions.office.servers
  ssh          = var.regions.office.ssh
  peer_port    = var.peer_port
  client_port  = var.client_port
  cluster      = etcd_cluster.this
  etcd_version = var.etcd_version
  etcd_binary  = var.etcd_binary
  etcd_config  = var.etcd_config
}

module "home" {
  source = "../../modules/region"

  network      = "home"
  servers      = var.regions.home.servers
  ssh          = var.regions.home.ssh
  peer_port    = var.peer_port
  client_port  = var.client_port
  cluster      = etcd_cluster.this
  etcd_version = var.etcd_version
  etcd_binary  = var.etcd_binary
  etcd_config  = var.etcd_config
}

locals {
  names = flatten([for region in var.regions : keys(region.servers)])
}

resource "etcd_cluster" "this" {
  name    = var.name
  servers = merge(module.frankfurt.servers, module.office.servers, module.home.servers)

  heartbeat_interval = var.heartbeat_interval
  election_timeout   = var.election_timeout

  lifecycle {
    precondition {
      condition     = length(local.names) == length(distinct(local.names))
      error_message = "Two regions have a server of the same name: merged, one would hide the other."
    }
  }
}
