action "etcd_defragment" "main" {
  config {
    cluster = etcd_cluster.main
  }
}

# terraform apply -invoke=action.etcd_defragment.main
