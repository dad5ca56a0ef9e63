# What the provider does, as a user writes it.

variable "servers" { type = map(object({ network = string, private = string, public = string })) }
variable "private_key_file" { type = string }
variable "known_hosts_file" { type = string }
variable "etcd_version" { type = string }
variable "etcd_folder" { type = string }

terraform {
  required_providers {
    etcd = { source = "crossnet/etcd" }
  }
}

provider "etcd" {
  ssh = {
    user             = "admin"
    private_key_file = var.private_key_file
    known_hosts_file = var.known_hosts_file
  }
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
  version  = var.etcd_version
  binary   = { host_path = var.etcd_folder }
}
