# What this server knows of a cluster and of its member. Changes nothing. Given: cluster.
etc=/etc/etcd/$cluster
if [ -f "$etc/token" ]; then read -r line <"$etc/token" || true; printf 'token=%s\n' "$line"; fi
if [ -f "$etc/adopted-from" ]; then sed -n 's/^service=/adopted-from=/p' "$etc/adopted-from"; fi
report_text config "$etc/etcd.yaml"
report_text founding "$etc/founding.yaml"
report_text peer-ca "$etc/pki/peer-ca.crt"
report_text client-ca "$etc/pki/client-ca.crt"
timer=/etc/systemd/system/etcd-snapshot@$cluster.timer
if [ -f "$timer" ] && [ -f "$etc/scheduled-snapshot" ]; then
  sed -n 's/^OnCalendar=/snapshots.schedule=/p' "$timer"
  sed -n -e 's/^keep=/snapshots.keep=/p' -e 's/^directory=/snapshots.directory=/p' "$etc/scheduled-snapshot"
fi
unit=/etc/systemd/system/etcd-$cluster.service
if [ -f "$unit" ]; then
  binary=$(sed -n 's/^ExecStart=.* run \(.*\)$/\1/p' "$unit" | head -n 1)
  printf 'binary=%s\n' "$binary"
  printf 'version=%s\n' "$("$binary" --version 2>/dev/null | sed -n 's/^etcd Version: *//p')"
fi
