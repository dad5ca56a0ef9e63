# restore_data SNAPSHOT OPTION...: makes the data of a member of a new cluster in "$data/restoring/member", as durably as the disk can;
# nothing takes that for data before it is renamed. Given: data, user, tool (etcdutl or etcdctl), name, peer_url, initial_cluster, token, bump (by how
# much the revision is raised, or empty). What it made says for which cluster: `restored` in it holds the token. Needs host/privilege.sh.
# The data directory belongs to the member's user, and all is done as that user.
restore_data() {
  if [ ! -x "$tool" ]; then
    echo "there is no $tool, which restores snapshots: have etcdutl (for etcd 3.4: etcdctl) beside the etcd that the member runs, in binary.upload or binary.host_path" >&2
    exit 4
  fi
  if [ ! -f "$1" ]; then
    echo "$1 is not there: the snapshot that the member is to start with is gone. Destroy the cluster, and apply again" >&2
    exit 4
  fi
  work=$data/restoring
  as_user "$user" 300 rm -rf "$work"
  if [ -n "$bump" ]; then
    if ! as_user "$user" 20 "$tool" snapshot restore --help 2>&1 | grep -q -e --bump-revision; then
      echo "$tool can't raise revisions: take bump_revision away, or use etcd 3.6 or later, or the latest 3.5" >&2
      exit 4
    fi
    set -- "$@" --bump-revision "$bump" --mark-compacted
  fi
  if ! said=$(as_user "$user" 7200 env ETCDCTL_API=3 "$tool" snapshot restore "$@" --data-dir "$work" --name "$name" \
    --initial-cluster "$initial_cluster" --initial-cluster-token "$token" --initial-advertise-peer-urls "$peer_url" 2>&1); then
    as_user "$user" 300 rm -rf "$work"
    printf '%s\n' "$said" | tail -n 5 | cut -c 1-500 >&2
    exit 4
  fi
  # shellcheck disable=SC2016 # for the other shell
  as_user "$user" 300 sh -c 'printf "%s\n" "$1" >"$2/restored" && { sync -f "$2" 2>/dev/null || sync; }' sh "$token" "$work/member"
}
# put_restored: puts what restore_data made in the place of data that there is none of.
put_restored() {
  # shellcheck disable=SC2016 # for the other shell
  as_user "$user" 300 sh -c 'mv -T "$1/restoring/member" "$1/member" && rmdir "$1/restoring" && { sync -f "$1" 2>/dev/null || sync; }' sh "$data"
}
