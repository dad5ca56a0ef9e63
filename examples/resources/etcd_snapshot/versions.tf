terraform {
  required_providers {
    etcd = {
      source = "crossnet/etcd"
    }
  }
}
