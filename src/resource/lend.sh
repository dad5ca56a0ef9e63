# lend PKI: prints certificates for clients and their keys, in base64, with which etcd can be talked to: root's, and the member's own for when that
# one is not there or has ended.
lend() {
  for lent in operator server; do
    if [ -f "$1/$lent.crt" ] && [ -f "$1/$lent.key" ]; then
      tell_file "lent-$lent-certificate" "$1/$lent.crt"
      tell_file "lent-$lent-key" "$1/$lent.key"
    fi
  done
}
