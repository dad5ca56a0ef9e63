# What start.sh is to be told to restart a member as it is. Given: cluster, token.
etc=/etc/etcd/$cluster
there=$(cat "$etc/token" 2>/dev/null || true)
if [ "$there" != "$token" ]; then
  echo "the server has no member of this cluster: $etc/token says ${there:-nothing}" >&2
  exit 3
fi
verb=restart
unit=etcd-$cluster.service
data=$(sed -n 's/^data-dir: *//p' "$etc/etcd.yaml" | tr -d "\"'")
pending=$etc/restart-pending
