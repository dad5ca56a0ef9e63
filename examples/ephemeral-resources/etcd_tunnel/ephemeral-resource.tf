ephemeral "etcd_tunnel" "main" {
  cluster    = etcd_cluster.main
  depends_on = [etcd_member.this]
}

ephemeral "etcd_client_certificate" "main" {
  cluster     = etcd_cluster.main
  common_name = "terraform"
}

# A program that uses the cluster in the same apply. Another provider takes the same values in its configuration.
resource "terraform_data" "greeting" {
  provisioner "local-exec" {
    interpreter = ["/bin/sh", "-euc"]
    environment = {
      ENDPOINT = ephemeral.etcd_tunnel.main.endpoint
      CA       = ephemeral.etcd_tunnel.main.ca_pem
      CERT     = ephemeral.etcd_client_certificate.main.certificate_pem
      KEY      = ephemeral.etcd_client_certificate.main.private_key_pem
    }
    command = <<-EOT
      umask 077
      cd "$(mktemp -d)"
      printf %s "$CA" >ca.pem
      printf %s "$CERT" >cert.pem
      printf %s "$KEY" >key.pem
      etcdctl --endpoints="$ENDPOINT" --cacert=ca.pem --cert=cert.pem --key=key.pem put greeting hello
    EOT
  }
}
