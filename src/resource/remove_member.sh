# Needs host/privilege.sh, binaries.sh, tcp_retries.sh and scheduled_snapshots.sh.
# is_anothers CLUSTER NAME: whether the files of the cluster on this server are those of a member with another name. The machine may have become
# another server's of the same cluster: what lies there is that one's. Answers `anothers`.
is_anothers() {
  if ! [ -f "/etc/etcd/$1/etcd.yaml" ]; then return 1; fi
  named=$(sed -n 's/^name: *//p' "/etc/etcd/$1/etcd.yaml" | head -n 1 | tr -d "\"'")
  if [ -z "$named" ] || [ "$named" = "$2" ]; then return 1; fi
  tell anothers "$named"
}
# rest_member CLUSTER MODE: stops the member of this cluster on this server, and leaves everything of it where it is; whoever takes the
# cluster away does to its data as MODE says. Answers `rests` if there is data. A leader that looks for a successor is not waited for
# long: every member of the cluster is being stopped.
rest_member() {
  etc=/etc/etcd/$1
  unit=etcd-$1.service
  [ -d "$etc" ] || return 0
  rest_snapshots "$1"
  if [ -f "/etc/systemd/system/$unit" ]; then
    systemctl --quiet disable "$unit" 2>/dev/null || true
    systemctl stop --no-block "$unit"
    tries=0
    while [ "$(systemctl show -p MainPID --value "$unit")" != 0 ] && [ $tries -lt 20 ]; do
      tries=$((tries + 1))
      sleep 0.05
    done
    # Nothing is lost: what etcd has acknowledged is on the disk.
    systemctl kill --signal=KILL "$unit" 2>/dev/null || true
    systemctl stop "$unit"
    systemctl reset-failed "$unit" 2>/dev/null || true
  fi
  (umask 077; printf '%s\n' "$2" >"$etc/resting")
  if [ -n "$(data_of "$1")" ]; then tell rests yes; fi
}
# data_of CLUSTER: the data directory of its member on this server, if there is one that is not empty.
data_of() {
  data=
  if [ -f "/etc/etcd/$1/etcd.yaml" ]; then data=$(sed -n 's/^data-dir: *//p' "/etc/etcd/$1/etcd.yaml" | head -n 1 | tr -d "\"'"); fi
  if [ -n "$data" ] && [ -n "$(ls -A "$data" 2>/dev/null)" ]; then printf '%s\n' "$data"; fi
}
# remove_member CLUSTER STAMP MODE: stops the member of this cluster on this server and takes away what was installed
# for it: units, user, configuration, certificates, binaries that no other member uses. The data directory is renamed
# (MODE keep_data) or deleted with the snapshots that the server took (delete_data). Answers `kept` for what it kept. Safe to repeat.
remove_member() {
  etc=/etc/etcd/$1
  unit=etcd-$1.service
  unit_file=/etc/systemd/system/$unit
  data=
  account=
  binaries=
  remove_snapshots "$1" "$3"
  if [ -f "$etc/etcd.yaml" ]; then data=$(sed -n 's/^data-dir: *//p' "$etc/etcd.yaml" | head -n 1 | tr -d "\"'"); fi
  if [ -f "$unit_file" ]; then
    account=$(sed -n 's/^User=//p' "$unit_file" | head -n 1)
    binaries=$(binaries_of "$unit")
    systemctl --quiet disable "$unit" 2>/dev/null || true
    systemctl stop "$unit"
    rm -f "$unit_file"
    systemctl daemon-reload
    systemctl reset-failed "$unit" 2>/dev/null || true
  fi
  if [ -n "$data" ] && [ -d "$data" ]; then
    if rmdir "$data" 2>/dev/null; then
      :
    elif [ "$3" = delete_data ]; then
      rm -rf "$data"
    else
      put_aside "$data" "${account:-root}" "$data.removed-$2"
      tell kept "$data.removed-$2"
    fi
  fi
  if [ -n "$account" ] && [ "$account" != root ] && id "$account" >/dev/null 2>&1; then
    userdel "$account" >/dev/null 2>&1 || true
  fi
  remove_unused "$binaries"
  rmdir /usr/local/lib/etcd 2>/dev/null || true
  rm -rf "$etc/etcd.yaml" "$etc/founding.yaml" "$etc/joining.yaml" "$etc/founding-permit" "$etc/joining-permit" "$etc/restart-pending" "$etc/resting" "$etc/restore" "$etc/snapshot.yaml" "$etc/snapshot-begun.yaml" "$etc/guard" "$etc/pki"
  rm -rf "/var/lib/etcd-restore/$1" "/run/terraform-provider-etcd.restoring-$1.lock"
  rmdir /var/lib/etcd-restore /var/lib/etcd 2>/dev/null || true
  forget_retries "$1"
}
