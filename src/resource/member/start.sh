# Starts the member and waits until it is under way: its process runs and its write-ahead log is there. Whether it
# serves is not for this script to see. Given: unit, data.
has_log() {
  for segment in "$data"/member/wal/*.wal; do
    if [ -e "$segment" ]; then return 0; fi
  done
  return 1
}
systemctl reset-failed "$unit" 2>/dev/null || true
systemctl start --no-block "$unit"
tries=0
while :; do
  active=$(systemctl show -p ActiveState --value "$unit")
  if [ "$active" = active ] && has_log; then break; fi
  tries=$((tries + 1))
  if [ "$active" = failed ] || [ $tries -gt 200 ]; then
    journalctl -u "$unit" -n 12 -o cat --no-pager >&2 || true
    echo "the service $unit did not start (it is $active)" >&2
    exit 3
  fi
  sleep 0.05
done
