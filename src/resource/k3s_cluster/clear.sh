# Takes the cluster's translation off the server, and a k3s that rests there or that no state knows of. Needs host/mounts.sh, remove.sh. Given: cluster, id, table,
# stamp, data (`refuse`: a server that holds data of etcd's is left as it is, `aside`: it is kept aside). One that runs is left as it is, unless
# data is `take`: the cluster no longer lists its member, so it is stopped and its data kept aside.
etc=/etc/etcd-k3s/$cluster
if [ -f "$etc/id" ] && [ "$(cat "$etc/id")" != "$id" ]; then
  tell other "$(cat "$etc/id")"
  exit 0
fi
[ -d "$etc" ] || exit 0
if [ "$data" != take ] && [ -f "$etc/binary" ] && systemctl is-active --quiet k3s.service 2>/dev/null; then
  tell runs yes
  exit 0
fi
# One that rests may be the last of a cluster that stays.
if [ "$data" = refuse ]; then
  for file in /var/lib/rancher/k3s/server/db/etcd/member/wal/*.wal; do
    if [ -f "$file" ]; then
      tell holds yes
      exit 0
    fi
  done
fi
if ! nothing_mounted_below "$etc"; then exit 0; fi
mode=keep_data
if [ -f "$etc/resting" ]; then mode=$(cat "$etc/resting"); fi
if [ -f "$etc/binary" ]; then remove_k3s "$cluster" "$stamp" "$mode"; fi
unit=etcd-k3s-$cluster
systemctl --quiet disable --now "$unit-check.timer" "$unit.service" 2>/dev/null || true
systemctl stop "$unit-check.service" 2>/dev/null || true
rm -f "/etc/systemd/system/$unit.service" "/etc/systemd/system/$unit-check.service" "/etc/systemd/system/$unit-check.timer"
systemctl daemon-reload
systemctl reset-failed "$unit.service" "$unit-check.service" 2>/dev/null || true
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
nft delete table ip "$table" 2>/dev/null || true
address=$(cat "$etc/address" 2>/dev/null || true)
if [ -n "$address" ]; then ip address del "$address/32" dev lo 2>/dev/null || true; fi
delete_trees "$etc" "/run/etcd-k3s/$cluster"
rmdir /etc/etcd-k3s /run/etcd-k3s 2>/dev/null || true
