terraform {
  required_version = ">= 1.11"
  required_providers {
    etcd = {
      source = "crossnet/etcd"
    }
  }
}
