#!/bin/sh
# Managed by Terraform. Starts k3s. Left to itself k3s founds a cluster where it finds no data; here it does so once, by a permit that is
# used up before it starts, and joins by a permit that stands until it has data. Without data and permit it is not started at all. Nor is it with the data
# of a member that was removed: k3s notes that in a file, puts the data away at its next start, and founds a cluster if it is told of none to join.
set -eu
here=/etc/etcd-k3s/@CLUSTER@ start=/etc/rancher/k3s/config.yaml.d/51-etcd-k3s-start.yaml
binary=$(cat "$here/binary")
db=/var/lib/rancher/k3s/server/db
log=
for file in "$db"/etcd/member/wal/*.wal; do if [ -f "$file" ]; then log=$file; fi; done
rm -f "$start"
if [ -f "$here/external" ]; then
  :
elif [ -e "$db/etcd/tombstone" ]; then
  rm -f "$here/founding-permit" "$here/joining-permit"
  sync "$here" 2>/dev/null || sync
  echo "The member of this server was removed from its cluster (k3s left $db/etcd/tombstone): k3s would found a cluster of its own. Apply the Terraform configuration of this server: it keeps the data aside and joins again." >&2
  exit 78
elif [ -n "$log" ]; then
  rm -f "$here/founding-permit" "$here/joining-permit"
elif [ -f "$here/founding-permit" ]; then
  rm -f "$here/founding-permit"
  sync "$here" 2>/dev/null || sync
  (umask 077; echo 'cluster-init: true' >"$start")
elif [ -f "$here/joining-permit" ]; then
  (umask 077; cat "$here/joining-permit" >"$start")
else
  echo "There is no data of etcd's in /var/lib/rancher/k3s/server/db, and no permit to found a cluster or to join one: k3s would found one by itself. Apply the Terraform configuration of this server." >&2
  exit 78
fi
exec "$binary" server
