ephemeral "etcd_client_certificate" "backup" {
  cluster     = etcd_cluster.main
  common_name = "backup"
  lifetime    = "2h"
}
