# What a server has for snapshots of its own (`etcd/scheduled.rs`). Safe to repeat, also where there is nothing.
# rest_snapshots CLUSTER: takes none any more until the member is brought up again.
rest_snapshots() {
  if [ -f "/etc/systemd/system/etcd-snapshot@$1.timer" ]; then
    systemctl --quiet disable --now "etcd-snapshot@$1.timer" 2>/dev/null || true
  fi
}
# remove_snapshots CLUSTER MODE: takes away timer, service and script. The snapshots stay (MODE keep_data), or go too (delete_data).
remove_snapshots() {
  taker=/etc/etcd/$1/scheduled-snapshot
  places=/var/lib/etcd-snapshots/$1
  if [ -f "$taker" ]; then places="$places $(sed -n 's/^directory=//p' "$taker" | head -n 1)"; fi
  units="/etc/systemd/system/etcd-snapshot@$1.timer /etc/systemd/system/etcd-snapshot@$1.service"
  # shellcheck disable=SC2086 # a list
  if [ -n "$(ls $units 2>/dev/null)" ]; then
    systemctl --quiet disable --now "etcd-snapshot@$1.timer" 2>/dev/null || true
    systemctl stop "etcd-snapshot@$1.service" 2>/dev/null || true
    rm -f $units
    systemctl daemon-reload
    systemctl reset-failed "etcd-snapshot@$1.timer" "etcd-snapshot@$1.service" 2>/dev/null || true
  fi
  rm -f "$taker" "/var/lib/systemd/timers/stamp-etcd-snapshot@$1.timer"
  for place in $places; do
    rm -f "$place/.$1.scheduled.partial"*
    if [ "$2" = delete_data ]; then
      for taken in "$place/$1"-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z-r*.db; do
        rest=${taken##*Z-r}
        case ${rest%.db} in '' | *[!0-9]*) ;; *) rm -f "$taken" ;; esac
      done
    fi
  done
  rmdir "/var/lib/etcd-snapshots/$1" /var/lib/etcd-snapshots 2>/dev/null || true
}
