# How quick the disk of the data is, and how much of it is free. Given: disk_of (a directory that need not be there). The file has no name while it is written, so that nothing is
# left whenever this ends. Prints `disk=DIRECTORY`, `disk_free_kib=N` and `write=SECONDS` for each synchronous write.
measure_disk() {
  place=$disk_of
  while [ ! -d "$place" ]; do
    place=${place%/*}
    place=${place:-/}
  done
  printf 'disk=%s\n' "$place"
  df -Pk "$place" 2>/dev/null | while read -r _ _ _ free _; do
    case $free in *[!0-9]* | '') ;; *) printf 'disk_free_kib=%s\n' "$free" ;; esac
  done
  file=$(mktemp "$place/.preflight.XXXXXX") || return 0
  exec 9<>"$file"
  rm -f "$file"
  # As etcd does: into space that was allocated before.
  dd if=/dev/zero of=/proc/self/fd/9 bs=65536 count=1 conv=notrunc,fsync 2>/dev/null || return 0
  block=0 slow=0
  while [ $block -lt 20 ] && [ $slow -lt 5 ]; do
    took=$(dd if=/dev/zero of=/proc/self/fd/9 bs=2300 count=1 seek=$block conv=notrunc oflag=dsync 2>&1)
    case $took in *'copied, '*) took=${took##*copied, } took=${took%% *} ;; *) took= ;; esac
    case $took in
      '') return 0 ;;
      0 | 0.0* | *e-*) ;;
      *) slow=$((slow + 1)) ;;
    esac
    printf 'write=%s\n' "$took"
    block=$((block + 1))
  done
}
