# await_start UNIT ETC DATA: waits while the member's first start is under way. Such a start has consumed its permit and has no
# write-ahead log yet, since etcd asks its peers before, up to a second each: neither what it was nor what it will be.
await_start() {
  if [ ! -f "/etc/systemd/system/$1" ]; then return 0; fi
  tries=0
  while [ $tries -lt 200 ]; do
    for segment in "$3"/member/wal/*.wal; do
      if [ -e "$segment" ]; then return 0; fi
    done
    case $(systemctl show -p ActiveState --value "$1" 2>/dev/null) in
      activating) ;;
      active) if [ -f "$2/founding-permit" ]; then return 0; fi ;;
      *) return 0 ;;
    esac
    tries=$((tries + 1))
    sleep 0.05
  done
}
