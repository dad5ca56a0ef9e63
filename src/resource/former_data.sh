# Where the member's data is, links followed, and whether it could be renamed to the provider's place. Changes nothing. Given: cluster,
# former, data (as the member was told, perhaps relative to its working directory).
main=$(systemctl show -p MainPID --value "etcd-$cluster.service")
if [ "${main:-0}" = 0 ]; then main=$(systemctl show -p MainPID --value "$former"); fi
case $data in
  /*) ;;
  *) data=$(readlink "/proc/$main/cwd")/$data ;;
esac
data=$(readlink -f "$data")
for segment in "$data"/member/wal/*.wal; do
  if [ -e "$segment" ]; then printf 'data=%s\n' "$data"; break; fi
done
# What only the former user may pass through is opened for the new one; what is somebody else's is not.
owner=$(stat -c %u "/proc/$main" 2>/dev/null)
above=$(dirname "$data")
while [ "$above" != / ]; do
  case $(stat -c '%A %u' "$above") in
    *[xt]\ *) ;;
    *" $owner") if [ "$owner" = 0 ]; then printf 'closed=%s\n' "$above"; fi ;;
    *) printf 'closed=%s\n' "$above" ;;
  esac
  above=$(dirname "$above")
done
place=/var/lib/etcd/$cluster
if [ -z "$(ls -A "$place" 2>/dev/null)" ]; then
  while [ ! -d "$place" ]; do place=$(dirname "$place"); done
  if [ "$(stat -c %d "$data/member" 2>/dev/null)" = "$(stat -c %d "$place")" ]; then echo movable=yes; fi
fi
