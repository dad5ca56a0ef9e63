# lend PKI: prints a certificate for clients and its key, in base64, with which etcd can be talked to: root's, or where that is not there yet
# the member's own.
lend() {
  for lent in operator server; do
    if [ -f "$1/$lent.crt" ] && [ -f "$1/$lent.key" ]; then
      tell_file lent-certificate "$1/$lent.crt"
      tell_file lent-key "$1/$lent.key"
      return 0
    fi
  done
}
