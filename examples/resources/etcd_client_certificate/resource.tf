resource "etcd_client_certificate" "backup" {
  cluster      = etcd_cluster.main
  common_name  = "backup"
  lifetime     = "720h"
  renew_before = "240h"
}

output "backup_key" {
  value     = etcd_client_certificate.backup.private_key_pem
  sensitive = true
}
