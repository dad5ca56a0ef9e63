locals {
  members = merge(module.frankfurt.members, module.office.members, module.home.members)
}

output "id" {
  description = "etcd's ID of the cluster."
  value       = one(distinct([for member in local.members : member.cluster_id]))
}

output "endpoints" {
  description = "The client URLs of its members."
  value       = [for member in local.members : member.client_url]
}

output "members" {
  description = "The members by the names of their servers."
  value       = local.members
}
