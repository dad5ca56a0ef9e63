variable "clusters" {
  description = "The clusters by name, each with the ports of its members, and where they differ timing, version and options of etcd."
  type = map(object({
    peer_port          = number
    client_port        = number
    heartbeat_interval = optional(number)
    election_timeout   = optional(number)
    etcd_version       = optional(string)
    etcd_config        = optional(map(string))
  }))
  default = {
    orders = { peer_port = 2380, client_port = 2379 }
    search = { peer_port = 2480, client_port = 2479 }
  }
}

variable "regions" {
  description = "The servers of each region, and how the region is entered."
  type = map(object({
    servers = map(object({
      private_address = string
      public_address  = optional(string)
      ssh_host        = optional(string)
      ssh_port        = optional(number)
      ssh_host_key    = optional(string)
    }))
    ssh = optional(object({
      user = optional(string)
      port = optional(number)
      bastion = optional(object({
        host     = string
        port     = optional(number)
        user     = optional(string)
        host_key = optional(string)
      }))
    }), {})
  }))
  default = {
    frankfurt = {
      servers = {
        f1 = { private_address = "10.0.0.11", public_address = "203.0.113.11" }
        f2 = { private_address = "10.0.0.12", public_address = "203.0.113.12" }
      }
    }
    office = { # the same private range, and only a bastion can be entered from outside
      servers = {
        o1 = { private_address = "10.0.0.11", public_address = "203.0.113.21", ssh_host = "10.0.0.11" }
        o2 = { private_address = "10.0.0.12", public_address = "203.0.113.22", ssh_host = "10.0.0.12" }
      }
      ssh = { bastion = { host = "203.0.113.20", user = "jump" } }
    }
    home = { # behind a router that forwards 22 and the ports for peers
      servers = {
        h1 = { private_address = "192.168.7.31", public_address = "203.0.113.30" }
      }
      ssh = { user = "pi" }
    }
  }
  validation {
    condition     = toset(keys(var.regions)) == toset(["frankfurt", "home", "office"])
    error_message = "The regions are frankfurt, home and office: each is a module block in cluster/main.tf. Another region is another block there."
  }
}

variable "ssh_user" {
  description = "Who logs in, where a region has no user of its own: root, or a user with sudo."
  type        = string
  default     = "admin"
}

variable "private_key_file" {
  description = "The private key that opens all servers."
  type        = string
  default     = "~/.ssh/id_ed25519"
}

variable "known_hosts_file" {
  description = "The servers' host keys, in OpenSSH's format."
  type        = string
  default     = "~/.ssh/known_hosts"
}

variable "etcd_version" {
  description = "The version of etcd, for clusters that have none of their own."
  type        = string
  default     = "3.6.16"
}

variable "etcd_binary" {
  description = "Where etcd comes from. Nothing: the official release, fetched by the servers."
  type        = object({ host_path = string })
  default     = null
}
