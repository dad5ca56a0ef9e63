# Takes away what this provider made on the server for the cluster, if it is this cluster's. Given: cluster, token,
# begin_mark, end_mark, stamp, running (`refuse`: a member that runs is left as it is). Data is kept aside. What belongs to another cluster of the name is left alone.
etc=/etc/etcd/$cluster
if [ -f "$etc/token" ] && [ "$(cat "$etc/token")" != "$token" ]; then
  printf 'other=%s\n' "$(cat "$etc/token")"
  exit 0
fi
if [ "$running" = refuse ] && [ "$(systemctl is-active "etcd-$cluster.service" 2>/dev/null)" = active ]; then
  echo runs=yes
  exit 0
fi
edit_hosts /etc/hosts "$begin_mark" "$end_mark" '' >/dev/null
# A create that was cut off may have left a member that no state knows of.
if [ -d "$etc" ]; then
  remove_member "$cluster" "$stamp" keep_data
  rm -rf "/etc/etcd/$cluster"
  rmdir /etc/etcd 2>/dev/null || true
fi
