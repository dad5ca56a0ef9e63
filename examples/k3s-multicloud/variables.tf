variable "k3s" {
  description = "The k3s program beside this configuration, for the servers' processor."
  type        = string
  default     = "./k3s"
}

variable "k3s_version" {
  description = "What it says with --version."
  type        = string
  default     = "v1.36.3+k3s1"
}
