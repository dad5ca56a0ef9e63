# A folder for the snapshot, if the disk has room for it and for what is made of it. Given: folder, needed (in KiB).
(umask 022; mkdir -p /var/lib)
free=$(df -Pk /var/lib | awk 'NR == 2 { print $4 }')
if [ ! -e "$folder/snapshot.db" ] && [ "${free:-0}" -lt "$needed" ]; then
  echo "the disk of /var/lib has $free KiB free, and the snapshot takes $needed while it is restored" >&2
  exit 3
fi
mkdir -p "$folder"
chmod 0700 /var/lib/etcd-restore "$folder"
