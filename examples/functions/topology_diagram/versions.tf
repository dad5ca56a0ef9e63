terraform {
  required_version = ">= 1.8"
  required_providers {
    etcd = {
      source = "crossnet/etcd"
    }
  }
}
