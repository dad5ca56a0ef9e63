# Observes a server for k3s. Given: cluster, table.
etc=/etc/etcd-k3s/$cluster
for file in /etc/etcd-k3s/*/id; do
  [ -f "$file" ] || continue
  if [ "$file" = "$etc/id" ] || [ ! -f "$etc/id" ]; then echo "id=$(cat "$file")"; fi
done
if [ -f /etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml ]; then echo "options=$(base64 -w 0 </etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml)"; fi
if [ -f "$etc/founding-permit" ]; then echo permit=yes; fi
for file in /var/lib/rancher/k3s/server/db/etcd/member/wal/*.wal; do if [ -f "$file" ]; then echo data=etcd; break; fi; done
if [ -f /var/lib/rancher/k3s/server/db/state.db ]; then echo data=/var/lib/rancher/k3s/server/db/state.db; fi
unit=/etc/systemd/system/k3s.service
if [ -f "$unit" ] && ! grep -q 'Managed by Terraform' "$unit"; then echo "foreign=$unit"; fi
if ! [ -f "$unit" ] && [ -f /etc/systemd/system/k3s-agent.service ]; then echo foreign=/etc/systemd/system/k3s-agent.service; fi
if [ -f "$unit" ] || systemctl is-active --quiet k3s.service 2>/dev/null; then
  systemctl show -p ActiveState -p SubState -p MainPID k3s.service | sed 's/^/unit-/'
fi
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
command -v nft >/dev/null 2>&1 || echo lacks=nft
command -v ip >/dev/null 2>&1 || echo lacks=ip
if command -v nft >/dev/null 2>&1 && ! why=$(printf 'table ip etcd_k3s_try {\n chain try { type nat hook output priority -110; policy accept; ip daddr 192.0.2.1 tcp dport { 2379, 2380 } dnat to 192.0.2.2; }\n}\n' | nft -c -f - 2>&1); then
  echo "lacks=kernel $(printf %s "$why" | head -n 1)"
fi
if [ -f "$etc/rules.nft" ]; then
  echo "rules=$(base64 -w 0 <"$etc/rules.nft")"
  if sh "$etc/translation" in-force >/dev/null 2>&1; then echo in-force=yes; fi
fi
