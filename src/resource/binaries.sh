# binaries_of UNIT: the folder of ours that the unit's etcd is in, if it is one.
binaries_of() {
  sed -n 's|^ExecStart=.* \(/usr/local/lib/etcd/[^/ ]*\)/etcd.*|\1|p' "/etc/systemd/system/$1" 2>/dev/null | head -n 1
}
# remove_unused FOLDER: removes such a folder when no unit needs it.
remove_unused() {
  if [ -n "$1" ] && ! grep -qs " $1/etcd" /etc/systemd/system/etcd-*.service; then rm -rf "$1"; fi
}
