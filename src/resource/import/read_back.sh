# What this server knows of a cluster and of its member. Changes nothing. Given: cluster.
etc=/etc/etcd/$cluster
if [ -f "$etc/token" ]; then read -r line <"$etc/token" || true; tell token "$line"; fi
if [ -f "$etc/object" ]; then read -r line <"$etc/object" || true; tell object "$line"; fi
if [ -f "$etc/adopted-from" ]; then tell adopted-from "$(sed -n 's/^service=//p' "$etc/adopted-from" | head -n 1)"; fi
tell_file config "$etc/etcd.yaml"
tell_file founding "$etc/founding.yaml"
tell_file peer-ca "$etc/pki/peer-ca.crt"
tell_file client-ca "$etc/pki/client-ca.crt"
timer=/etc/systemd/system/etcd-snapshot@$cluster.timer
if [ -f "$timer" ] && [ -f "$etc/scheduled-snapshot" ]; then
  tell snapshots.schedule "$(sed -n 's/^OnCalendar=//p' "$timer" | head -n 1)"
  for key in keep directory; do tell snapshots.$key "$(sed -n "s/^$key=//p" "$etc/scheduled-snapshot" | head -n 1)"; done
fi
unit=/etc/systemd/system/etcd-$cluster.service
if [ -f "$unit" ]; then
  binary=$(sed -n 's/^ExecStart=.* run \(.*\)$/\1/p' "$unit" | head -n 1)
  tell binary "$binary"
  tell version "$(version_of "$binary")"
fi
