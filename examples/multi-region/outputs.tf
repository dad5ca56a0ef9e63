output "clusters" {
  description = "Each cluster's ID and the client URLs of its members."
  value       = { for name, cluster in module.cluster : name => { id = cluster.id, endpoints = cluster.endpoints } }
}
