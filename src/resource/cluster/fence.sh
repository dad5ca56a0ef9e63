# Stops the member of a cluster that lost its quorum, for good: nothing starts it with this data again. The data is renamed. Given:
# cluster, stamp. Needs host/privilege.sh.
etc=/etc/etcd/$cluster
unit=etcd-$cluster.service
data=
if [ -f "$etc/etcd.yaml" ]; then data=$(sed -n 's/^data-dir: *//p' "$etc/etcd.yaml" | head -n 1 | tr -d "\"'"); fi
data=${data:-/var/lib/etcd/$cluster}
user=$(sed -n 's/^User=//p' "/etc/systemd/system/$unit" 2>/dev/null | head -n 1)
if [ -f "/etc/systemd/system/$unit" ]; then
  systemctl --quiet disable "$unit" 2>/dev/null || true
  systemctl stop "$unit"
  systemctl reset-failed "$unit" 2>/dev/null || true
fi
rm -f "$etc/founding-permit" "$etc/joining-permit" "$etc/restore"
if [ -e "$data/member" ]; then as_user "$user" 60 mv -T "$data/member" "$data/member.before-$stamp"; fi
(umask 077; mkdir -p "$etc")
sync
