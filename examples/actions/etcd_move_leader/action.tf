# Before the network of the leader is worked on.
action "etcd_move_leader" "to_b1" {
  config {
    cluster = etcd_cluster.main
    server  = "b1"
  }
}

# terraform apply -invoke=action.etcd_move_leader.to_b1
