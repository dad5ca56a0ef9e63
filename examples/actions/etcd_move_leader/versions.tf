terraform {
  required_version = ">= 1.14"
  required_providers {
    etcd = {
      source = "crossnet/etcd"
    }
  }
}
