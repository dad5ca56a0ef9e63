config=$run/config.yaml

# Only a write-ahead log makes a member: etcd opens its database before, and asks its peers in between.
has_log() {
  for segment in "$data"/member/wal/*.wal; do
    [ -e "$segment" ] && return 0
  done
  return 1
}

# After this, not even a power cut brings the permits back.
drop_permits() {
  [ -e "$etc/founding-permit" ] || [ -e "$etc/joining-permit" ] || [ -e "$etc/restore" ] || return 0
  rm -f "$etc/founding-permit" "$etc/joining-permit" "$etc/restore" || exit 1
  sync "$etc" 2>/dev/null || sync || exit 1
}

# What an interrupted first start left behind: not a member's data, but not ours to delete either.
set_aside() {
  [ -e "$data/member" ] || return 0
  as_user "$user" 60 mv -T "$data/member" "$data/member.incomplete.$(date +%s).$$" || exit 1
}

# Puts the cluster's block back into the hosts file, which other programs write too. Whether that changed it. That it can't is said, and no reason not to start:
# etcd dials by name, and goes on trying.
put_names() {
  [ -s "$etc/hosts" ] || return 1
  put=$(edit_hosts "$hosts_file" "$(head -n 1 "$etc/hosts")" "$(tail -n 1 "$etc/hosts")" "$(cat "$etc/hosts")") || {
    echo "the names of the etcd cluster $cluster are not in $hosts_file, or are not up to date there" >&2
    return 1
  }
  [ "$put" = changed ] || return 1
  echo "the names of the etcd cluster $cluster were gone from $hosts_file, or others, and are put back" >&2
}

# The same after a change of that file. It rests before it looks again: what changes meanwhile starts no second one, and a program that writes the file again
# and again is answered no more often.
keep_names() {
  put_names
  sleep "$rest"
  while put_names; do sleep "$rest"; done
  return 0
}

prepare() {
  rm -f "$config" "$etc/snapshot-begun.yaml" || exit 1
  put_names
  if has_log; then
    drop_permits
    standing=etcd.yaml
    # For one start only: a crash later goes on with the file that stands.
    if [ -e "$etc/snapshot.yaml" ] && mv -fT "$etc/snapshot.yaml" "$etc/snapshot-begun.yaml"; then
      ln -sn "$etc/snapshot-begun.yaml" "$config" || exit 1
      return 0
    fi
  elif [ -e "$etc/joining-permit" ]; then
    drop_permits
    set_aside
    standing=joining.yaml
  # One that is to start with a snapshot's data never founds without: it would be an empty member under the ID of one that has data.
  elif [ -e "$etc/founding-permit" ] && [ -e "$etc/founding.yaml" ] && [ ! -e "$etc/restore" ]; then
    drop_permits
    set_aside
    standing=founding.yaml
  else
    # "run" refuses in words, as the main process.
    exit 0
  fi
  ln -sn "$etc/$standing" "$config" || exit 1
}

run() {
  [ -L "$config" ] && exec "$1" --config-file="$config"
  if [ -e "$data/member" ]; then
    what="holds no write-ahead log (it is incomplete or damaged)"
  else
    what="holds no data of a member (it is lost, or was never there)"
  fi
  echo "etcd of the cluster $cluster is not started: the data directory $data $what, and there is no permit to found or to join. Starting it anyway could found a second cluster or vote twice. If the data is elsewhere, put it back (is the disk mounted?); else run terraform apply, which makes the member join anew." >&2
  exit "$refused"
}

case $1 in
  prepare) prepare ;;
  run) run "$2" ;;
  keep-names) keep_names ;;
  *) echo "usage: guard prepare | run BINARY | keep-names" >&2; exit 64 ;;
esac
