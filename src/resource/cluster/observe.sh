# What this server holds of the cluster. Changes nothing. Given: cluster, ports, begin_mark, end_mark.
tell date_first "$(date +%s.%N)"
etc=/etc/etcd/$cluster
data=
if [ -f "$etc/etcd.yaml" ]; then data=$(sed -n 's/^data-dir: *//p' "$etc/etcd.yaml" | head -n 1 | tr -d "\"'"); fi
data=${data:-/var/lib/etcd/$cluster}
await_start "etcd-$cluster.service" "$etc" "$data"
if [ -f "$etc/token" ]; then tell token "$(cat "$etc/token")"; fi
if [ -f "$etc/founding-permit" ]; then tell permit yes; fi
if [ -f "$etc/founded" ] && [ -f "$etc/token" ] && [ "$(cat "$etc/founded")" = "$(cat "$etc/token")" ]; then tell founded yes; fi
if [ -f "$etc/founding.yaml" ]; then
  tell founding "$(sed -n 's/^initial-cluster: *//p' "$etc/founding.yaml" | head -n 1 | tr -d "\"'")"
fi
# A write-ahead log makes a member's data, as for the guard that starts it.
held=
for segment in "$data"/member/wal/*.wal; do
  if [ -e "$segment" ]; then tell data "$data"; held=yes; break; fi
done
for aside in "$data".removed-* "$data"/member.before-*; do
  if [ -d "$aside" ]; then tell_each aside "$aside"; fi
done
main=$(systemctl show -p MainPID --value "etcd-$cluster.service" 2>/dev/null) || main=0
tell pid "${main:-0}"
report_ports "$ports" "${main:-0}"
sed -n "/^$begin_mark\$/,/^$end_mark\$/p" /etc/hosts | sed -n '/^[^#]/p' | tell_lines hosts
member_name=
if [ -f "$etc/etcd.yaml" ]; then member_name=$(sed -n 's/^name: *//p' "$etc/etcd.yaml" | head -n 1 | tr -d "\"'"); fi
