variable "name" {
  description = "The cluster's name."
  type        = string
}

variable "regions" {
  description = "The servers of each region, and how the region is entered."
  type        = any
}

variable "peer_port" {
  description = "The port for peers, on every server."
  type        = number
}

variable "client_port" {
  description = "The port for clients, on every server."
  type        = number
}

variable "heartbeat_interval" {
  description = "etcd's heartbeat interval in ms, about the longest round trip between two regions."
  type        = number
  default     = null
}

variable "election_timeout" {
  description = "etcd's election timeout in ms, ten times the longest round trip or more."
  type        = number
  default     = null
}

variable "etcd_version" {
  description = "The version of etcd."
  type        = string
}

variable "etcd_binary" {
  description = "Where etcd comes from. Nothing: the official release, fetched by the servers."
  type        = object({ host_path = string })
  default     = null
}

variable "etcd_config" {
  description = "Options of etcd, by the names of its flags."
  type        = map(string)
  default     = null
}
