action "etcd_compact" "main" {
  config {
    cluster = etcd_cluster.main
    keep    = 10000
  }
}

# terraform apply -invoke=action.etcd_compact.main
