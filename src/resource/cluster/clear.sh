# Takes away what this provider made on the server for the cluster, if it is this cluster's. Given: cluster, token,
# server (whose name leaves), begin_mark, end_mark, stamp, members (`refuse`: a member that runs or holds data is left as it is; `refuse-running`: one that runs).
# Data is kept aside, unless the member that rests there was to leave none. What belongs to another cluster of the name is left alone.
etc=/etc/etcd/$cluster
if [ -f "$etc/token" ] && [ "$(cat "$etc/token")" != "$token" ]; then
  tell other "$(cat "$etc/token")"
  exit 0
fi
if is_anothers "$cluster" "$server"; then exit 0; fi
if [ "$members" != take ] && [ "$(systemctl is-active "etcd-$cluster.service" 2>/dev/null)" = active ]; then
  tell runs yes
  exit 0
fi
if [ "$members" = refuse ] && [ -n "$(data_of "$cluster")" ]; then
  tell holds "$(data_of "$cluster")"
  exit 0
fi
mode=keep_data
if [ -f "$etc/resting" ]; then mode=$(cat "$etc/resting"); fi
if ! nothing_mounted_in "$cluster" "$mode"; then exit 0; fi
delete_trees "/var/lib/etcd-restore/$cluster"
rmdir /var/lib/etcd-restore 2>/dev/null || true
# Before the block goes: nothing puts it back.
forget_names "$cluster"
edit_hosts /etc/hosts "$begin_mark" "$end_mark" '' >/dev/null
# A create that was cut off may have left a member that no state knows of.
if [ -d "$etc" ]; then
  if [ -f "$etc/resting" ]; then
    remove_member "$cluster" "$stamp" "$mode" >/dev/null
  else
    remove_member "$cluster" "$stamp" keep_data
  fi
  delete_trees "/etc/etcd/$cluster"
  rmdir /etc/etcd 2>/dev/null || true
  rm -f "/run/etcd-$cluster.lock"
fi
