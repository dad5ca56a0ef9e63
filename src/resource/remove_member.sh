# Needs host/privilege.sh, host/mounts.sh, binaries.sh, tcp_retries.sh and scheduled_snapshots.sh.
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
  write_text "$etc/resting" "$2"
  if [ -n "$(data_of "$1")" ]; then tell rests yes; fi
}
# data_of CLUSTER: the data directory of its member on this server, if there is one that is not empty.
data_of() {
  data=
  if [ -f "/etc/etcd/$1/etcd.yaml" ]; then data=$(sed -n 's/^data-dir: *//p' "/etc/etcd/$1/etcd.yaml" | head -n 1 | tr -d "\"'"); fi
  if [ -n "$data" ] && [ -n "$(ls -A "$data" 2>/dev/null)" ]; then printf '%s\n' "$data"; fi
}
# forget_names CLUSTER: takes away what puts the cluster's block back into /etc/hosts, and the copy of that.
forget_names() {
  stop_names "$1"
  rm -f "/etc/etcd/$1/hosts"
}
# stop_names CLUSTER: the same, and the copy stays for a member that comes.
stop_names() {
  if [ -e "/etc/systemd/system/etcd-hosts@$1.path" ] || [ -e "/etc/systemd/system/etcd-hosts@$1.service" ]; then
    systemctl --quiet disable --now "etcd-hosts@$1.path" 2>/dev/null || true
    systemctl stop "etcd-hosts@$1.service" 2>/dev/null || true
    rm -f "/etc/systemd/system/etcd-hosts@$1.path" "/etc/systemd/system/etcd-hosts@$1.service"
    systemctl daemon-reload
    systemctl reset-failed "etcd-hosts@$1.path" "etcd-hosts@$1.service" 2>/dev/null || true
  fi
}
# nothing_mounted_in CLUSTER MODE: whether nothing is mounted below what remove_member would delete. Answers `mounted` for each mount point.
nothing_mounted_in() {
  set -- "/etc/etcd/$1" "/var/lib/etcd-restore/$1" "$(data_of "$1")" "$2"
  if [ -n "$3" ] && [ "$4" = delete_data ]; then nothing_mounted_below "$1" "$2" "$3"; else nothing_mounted_below "$1" "$2"; fi
}
# remove_member CLUSTER STAMP MODE: stops the member of this cluster on this server and takes away what was installed
# for it: units, user, configuration, certificates, binaries that no other member uses. The data directory is renamed
# (MODE keep_data) or deleted with the snapshots that the server took (delete_data). Answers `kept` for what it kept. Safe to repeat. If something is
# mounted below what is to be deleted it answers `mounted`, and the script ends with nothing changed.
remove_member() {
  etc=/etc/etcd/$1
  unit=etcd-$1.service
  unit_file=/etc/systemd/system/$unit
  if ! nothing_mounted_in "$1" "$3"; then exit 0; fi
  data=
  account=
  binaries=
  remove_snapshots "$1" "$3"
  stop_names "$1"
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
    at=$(mounts at "$data") || exit 4
    if rmdir "$data" 2>/dev/null; then
      :
    elif [ "$3" = delete_data ]; then
      delete_trees "$data"
    elif [ -n "$at" ]; then
      # A disk of its own can't be renamed: what is on it is.
      if [ -e "$data/member" ]; then
        put_aside "$data/member" "${account:-root}" "$data/member.removed-$2"
        tell kept "$data/member.removed-$2"
      fi
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
  rm -f "$etc/etcd.yaml" "$etc/founding.yaml" "$etc/joining.yaml" "$etc/founding-permit" "$etc/joining-permit" "$etc/founded" "$etc/object" "$etc/restart-pending" "$etc/resting" "$etc/restore" "$etc/snapshot.yaml" "$etc/snapshot-begun.yaml" "$etc/guard"
  delete_trees "$etc/pki" "/var/lib/etcd-restore/$1"
  rm -f "/run/terraform-provider-etcd.restoring-$1.lock"
  rmdir /var/lib/etcd-restore /var/lib/etcd 2>/dev/null || true
  forget_retries "$1"
}
