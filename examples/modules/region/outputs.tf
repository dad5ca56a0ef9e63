output "servers" {
  description = "The servers by name, as `servers` of `etcd_cluster` takes them."
  value       = etcd_server.this
}

output "members" {
  description = "The members by the names of their servers."
  value = {
    for name, member in etcd_member.this : name => {
      id         = member.member_id
      cluster_id = member.cluster_id
      client_url = member.client_url
      service    = member.service
    }
  }
}
