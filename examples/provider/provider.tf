terraform {
  required_version = ">= 1.11"
  required_providers {
    etcd = {
      source = "crossnet/etcd"
    }
  }
}

provider "etcd" {
  ssh = {
    user             = "admin"
    private_key_file = "~/.ssh/id_ed25519"
  }
}
