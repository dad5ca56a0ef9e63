# How quick the disk of the data is, and how much of it is free. Given: disk_of (a directory that need not be there). Needs host/privilege.sh.
# Answers `disk` (a directory), `disk_free_kib` and `write` (SECONDS COUNT) for so many synchronous writes each time.
#
# It is written as the user whose directory it is. The file has no name while it is written, so that nothing is left whenever this ends.
# shellcheck disable=SC2016 # for the other shell
measure='
file=$(mktemp "$1/.preflight.XXXXXX") || exit 0
exec 9<>"$file"
rm -f "$file"
# As etcd does: into space that was allocated before.
dd if=/dev/zero of=/proc/self/fd/9 bs=65536 count=1 conv=notrunc,fsync 2>/dev/null || exit 0
# One alone tells whether it is so slow that a few are enough; else several at a time, for fewer processes.
block=0 writes=1
while [ $block -lt 19 ]; do
  took=$(dd if=/dev/zero of=/proc/self/fd/9 bs=2300 count=$writes seek=$block conv=notrunc oflag=dsync 2>&1)
  case $took in *"copied, "*) took=${took##*copied, } took=${took%% *} ;; *) exit 0 ;; esac
  echo "$took $writes"
  block=$((block + writes))
  case $writes$took in
    10 | 10.0* | 1*e-*) writes=6 ;;
    1*) if [ $block = 5 ]; then exit 0; fi ;;
  esac
done'
measure_disk() {
  place=$disk_of
  while [ ! -d "$place" ]; do
    place=${place%/*}
    place=${place:-/}
  done
  tell disk "$place"
  df -Pk "$place" 2>/dev/null | while read -r _ _ _ free _; do
    case $free in *[!0-9]* | '') ;; *) tell disk_free_kib "$free" ;; esac
  done
  owner=$(stat -c %u "$place")
  if [ "$owner" != 0 ]; then
    without_root "$owner" "$(stat -c %g "$place")" '' 60 sh -c "$measure" sh "$place" | tell_lines write
  # Root writes where nobody else can.
  elif [ -z "$(others_write "$place")" ]; then
    timeout -s KILL 60 sh -c "$measure" sh "$place" | tell_lines write
  fi
}
