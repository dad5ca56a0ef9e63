# Takes away what this provider made on the server for the cluster, if it is this cluster's. Given: cluster, token,
# begin_mark, end_mark, stamp. Data is kept aside. What belongs to another cluster of the name is left alone.
etc=/etc/etcd/$cluster
unit=etcd-$cluster.service
if [ -f "$etc/token" ] && [ "$(cat "$etc/token")" != "$token" ]; then
  printf 'other=%s\n' "$(cat "$etc/token")"
  exit 0
fi
edit_hosts /etc/hosts "$begin_mark" "$end_mark" '' >/dev/null
[ -d "$etc" ] || exit 0
# A create that was cut off may have left a member that no state knows of.
if [ -f "/etc/systemd/system/$unit" ]; then
  systemctl disable --now "$unit" >/dev/null 2>&1 || true
  rm -f "/etc/systemd/system/$unit"
  systemctl daemon-reload
  systemctl reset-failed "$unit" 2>/dev/null || true
  data=$(sed -n 's/^data-dir: *//p' "$etc/etcd.yaml" 2>/dev/null | head -n 1 | tr -d "\"'")
  if [ -n "$data" ] && [ -d "$data" ]; then
    if rmdir "$data" 2>/dev/null; then :; else
      mv "$data" "$data.removed-$stamp"
      chown -R 0:0 "$data.removed-$stamp"
      printf 'kept=%s\n' "$data.removed-$stamp"
    fi
  fi
  account=$(sed -n 's/^User=//p' "$etc/unit" 2>/dev/null | head -n 1)
  account=${account:-etcd-$cluster}
  if id "$account" >/dev/null 2>&1; then userdel "$account" >/dev/null 2>&1 || true; fi
fi
rm -rf "$etc"
rmdir /etc/etcd /var/lib/etcd 2>/dev/null || true
