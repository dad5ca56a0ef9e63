# What is to be known of the survivor. Given: cluster, token. Needs restore_data.sh, host/privilege.sh and etcd/program.sh.
etc=/etc/etcd/$cluster
unit=etcd-$cluster.service
data=$(sed -n 's/^data-dir: *//p' "$etc/etcd.yaml" | head -n 1 | tr -d "\"'")
user=$(sed -n 's/^User=//p' "/etc/systemd/system/$unit" | head -n 1)
made_for() { if [ -f "$1/restored" ]; then as_user "$user" 5 head -c 200 "$1/restored"; fi; }
# Whether the data of the cluster that is to be was not made yet. Cut off between the two renames it is all there is, in another place.
to_make() {
  [ "$(made_for "$data/member")" != "$token" ] && { [ -e "$data/member" ] || [ "$(made_for "$data/restoring/member")" != "$token" ]; }
}
