# The clusters that have a member on this server. Changes nothing.
for token in /etc/etcd/*/token; do
  if [ -f "$token" ]; then
    folder=${token%/token}
    printf 'cluster=%s\n' "${folder##*/}"
  fi
done
