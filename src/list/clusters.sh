# The clusters that have a member on this server. Changes nothing.
for token in /etc/etcd/*/token; do
  if [ -f "$token" ]; then
    folder=${token%/token}
    tell_each cluster "${folder##*/}"
  fi
done
