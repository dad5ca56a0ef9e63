output "initial_cluster" {
  description = "Every server's own view of the cluster."
  value       = { for name, member in etcd_cluster.main.members : name => member.initial_cluster }
}

output "members" {
  description = "The members' IDs, all of one cluster."
  value       = { for name, member in etcd_member.this : name => "${member.member_id} of cluster ${member.cluster_id}" }
}
