# Where the member's data is, links followed, and whether it could be renamed to the provider's place. Changes nothing. Given: cluster,
# former, data (as the member was told, perhaps relative to its working directory).
main=$(systemctl show -p MainPID --value "etcd-$cluster.service")
if [ "${main:-0}" = 0 ]; then main=$(systemctl show -p MainPID --value -- "$former"); fi
case $data in
  /*) ;;
  *) data=$(readlink "/proc/$main/cwd")/$data ;;
esac
data=$(readlink -f "$data")
for segment in "$data"/member/wal/*.wal; do
  if [ -e "$segment" ]; then tell data "$data"; break; fi
done
# A folder that only the former user may pass through is opened for the new one. A folder that a group uses too, or another user's, is not.
owner=$(stat -c %u "/proc/$main" 2>/dev/null)
above=$(dirname "$data")
while [ "$above" != / ]; do
  case $(stat -c '%A %u' "$above") in
    *[xt]\ *) ;;
    d???------\ "$owner") if [ "$owner" = 0 ]; then tell_each closed "$above"; fi ;;
    *) tell_each closed "$above" ;;
  esac
  above=$(dirname "$above")
done
place=/var/lib/etcd/$cluster
if [ -z "$(ls -A "$place" 2>/dev/null)" ]; then
  while [ ! -d "$place" ]; do place=$(dirname "$place"); done
  if [ "$(stat -c %d "$data/member" 2>/dev/null)" = "$(stat -c %d "$place")" ]; then tell movable yes; fi
fi
