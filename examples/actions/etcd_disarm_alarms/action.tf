# The database is full: forget history, win the space, take the alarm back. In this order.
action "etcd_compact" "main" {
  config {
    cluster = etcd_cluster.main
    keep    = 1000
  }
}

action "etcd_defragment" "main" {
  config {
    cluster = etcd_cluster.main
  }
}

action "etcd_disarm_alarms" "main" {
  config {
    cluster = etcd_cluster.main
  }
}

# terraform apply -invoke=action.etcd_compact.main
# terraform apply -invoke=action.etcd_defragment.main
# terraform apply -invoke=action.etcd_disarm_alarms.main
