# Observes a server for k3s. Given: cluster, table.
etc=/etc/etcd-k3s/$cluster
id=
for file in /etc/etcd-k3s/*/id; do
  [ -f "$file" ] || continue
  if [ "$file" = "$etc/id" ] || [ ! -f "$etc/id" ]; then id=$(cat "$file"); fi
done
if [ -n "$id" ]; then tell id "$id"; fi
tell_file options /etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml
if [ -f "$etc/founding-permit" ]; then tell permit yes; fi
if [ -f "$etc/founded" ]; then tell founded "$(cat "$etc/founded")"; fi
data=
if [ -f /var/lib/rancher/k3s/server/db/state.db ]; then data=/var/lib/rancher/k3s/server/db/state.db; fi
for file in /var/lib/rancher/k3s/server/db/etcd/member/wal/*.wal; do if [ -f "$file" ]; then data=etcd; break; fi; done
# k3s' word that its member was removed: it puts the data away when it starts again.
if [ -e /var/lib/rancher/k3s/server/db/etcd/tombstone ]; then data=removed; fi
if [ -n "$data" ]; then tell data "$data"; fi
for aside in /var/lib/rancher/k3s.removed-*; do
  if [ -d "$aside" ]; then tell_each aside "$aside"; fi
done
unit=/etc/systemd/system/k3s.service
if [ -f "$unit" ] && ! grep -q 'Managed by Terraform' "$unit"; then tell foreign "$unit"; fi
if ! [ -f "$unit" ] && [ -f /etc/systemd/system/k3s-agent.service ]; then tell foreign /etc/systemd/system/k3s-agent.service; fi
if [ -f "$unit" ] || systemctl is-active --quiet k3s.service 2>/dev/null; then
  systemctl show -p ActiveState -p SubState -p MainPID k3s.service | tell_pairs unit-
fi
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
command -v nft >/dev/null 2>&1 || tell_each lacks nft
command -v ip >/dev/null 2>&1 || tell_each lacks ip
if command -v nft >/dev/null 2>&1 && ! why=$(printf 'table ip etcd_k3s_try {\n chain try { type nat hook output priority -110; policy accept; ip daddr 192.0.2.1 tcp dport { 2379, 2380 } dnat to 192.0.2.2; }\n}\n' | nft -c -f - 2>&1); then
  tell_each lacks "kernel $(printf %s "$why" | head -n 1)"
fi
if [ -f "$etc/rules.nft" ]; then
  tell_file rules "$etc/rules.nft"
  if sh "$etc/translation" in-force >/dev/null 2>&1; then tell in-force yes; fi
fi
# Whose k3s this is; servers that an earlier version made have the member's address alone.
member_name=
if [ -f "$etc/server" ]; then
  member_name=$(cat "$etc/server")
elif [ -s "$etc/address" ]; then
  member_name=@$(cat "$etc/address")
fi
