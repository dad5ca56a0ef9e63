variable "ssh_user" {
  description = "Who logs in: root, or a user with sudo."
  default     = "admin"
}

variable "private_key_file" {
  description = "The private key that opens the servers."
  default     = "~/.ssh/id_ed25519"
}

variable "known_hosts_file" {
  description = "The servers' host keys, in OpenSSH's format."
  default     = "~/.ssh/known_hosts"
}

variable "etcd_version" {
  description = "The version of etcd."
  default     = "3.6.16"
}

variable "etcd_binary" {
  description = "Where etcd comes from. Nothing: the official release, fetched by the servers."
  type        = object({ host_path = string })
  default     = null
}
