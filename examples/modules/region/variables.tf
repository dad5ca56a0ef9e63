variable "network" {
  description = "The network that the servers of this region share. They reach each other by private address, and are reached by all others by public address."
  type        = string
}

variable "servers" {
  description = "The region's servers by name. Names have to differ from those of the cluster's other regions."
  type = map(object({
    private_address = string
    public_address  = optional(string)
    ssh_host        = optional(string)
    ssh_port        = optional(number)
    ssh_host_key    = optional(string)
  }))
}

variable "ssh" {
  description = "How this region is entered, where that differs from what the provider says: a user, a port, a bastion of its own."
  type = object({
    user = optional(string)
    port = optional(number)
    bastion = optional(object({
      host     = string
      port     = optional(number)
      user     = optional(string)
      host_key = optional(string)
    }))
  })
  default  = {}
  nullable = false
}

variable "peer_port" {
  description = "The port for peers. A server that carries members of several clusters needs another one for each."
  type        = number
  default     = 2380
}

variable "client_port" {
  description = "The port for clients. A server that carries members of several clusters needs another one for each."
  type        = number
  default     = 2379
}

variable "cluster" {
  description = "The `etcd_cluster` whose members run on these servers. Without it the module makes servers only."
  type        = any
  default     = null
}

variable "etcd_version" {
  description = "The version of etcd."
  type        = string
  default     = "3.6.16"
}

variable "etcd_binary" {
  description = "Where etcd comes from. Nothing: the official release, fetched by the servers."
  type = object({
    host_path = optional(string)
    upload    = optional(string)
    url       = optional(string)
    sha256    = optional(string)
  })
  default = null
}

variable "etcd_config" {
  description = "Options of etcd, by the names of its flags. The same in all regions of a cluster."
  type        = map(string)
  default     = null
}
