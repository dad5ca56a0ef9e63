# The same files, brought by Terraform's own provisioners: one script a server, copied and run.

variable "servers" { type = map(object({ public = string, script = string })) }
variable "private_key_file" { type = string }

resource "terraform_data" "member" {
  for_each = var.servers

  connection {
    host        = each.value.public
    user        = "admin"
    private_key = file(var.private_key_file)
  }

  provisioner "file" {
    source      = each.value.script
    destination = "/tmp/install-member"
  }

  provisioner "remote-exec" {
    inline = ["sudo sh /tmp/install-member"]
  }
}
