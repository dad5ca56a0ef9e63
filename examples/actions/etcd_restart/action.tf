action "etcd_restart" "main" {
  config {
    cluster = etcd_cluster.main
  }
}

# The members are restarted when this changes, as by hand with:
# terraform apply -invoke=action.etcd_restart.main
resource "terraform_data" "kernel" {
  input      = "6.12.48"
  depends_on = [etcd_member.this]

  lifecycle {
    action_trigger {
      events  = [after_update]
      actions = [action.etcd_restart.main]
    }
  }
}
