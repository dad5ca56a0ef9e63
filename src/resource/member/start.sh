# Starts or restarts the member and waits until it is under way: its process runs and its write-ahead log is there. Whether it
# serves is not for this script to see. Given: verb, unit, data, pending.
has_log() {
  for segment in "$data"/member/wal/*.wal; do
    if [ -e "$segment" ]; then return 0; fi
  done
  return 1
}
now=$(systemctl show -p MainPID -p ActiveState -p LoadState -p NeedDaemonReload -p NRestarts "$unit")
# How often it was started again before says nothing of this start.
case $now in *ActiveState=failed* | *NRestarts=[1-9]*) systemctl reset-failed "$unit" 2>/dev/null || true ;; esac
# It has another unit in mind than the one that lies there, or none.
case $now in *NeedDaemonReload=yes* | *LoadState=not-found*) systemctl daemon-reload ;; esac
# One that systemd has started again meanwhile may run with the files that there were: the mark stays, and it is restarted in its turn.
ran=0
if [ "$verb" = start ]; then
  case $now in *MainPID=0*) ;; *MainPID=*) ran=yes ;; esac
fi
# The unit is under way once its program is executed; a refusal of the guard shows right after.
systemctl "$verb" "$unit" 2>/dev/null || true
tries=0
while :; do
  if has_log || [ $((tries % 25)) = 24 ]; then
    active=$(systemctl show -p ActiveState --value "$unit")
    if [ "$active" = active ] && has_log; then break; fi
    if [ "$active" = failed ] || [ $tries -gt 2000 ]; then
      journalctl -u "$unit" -n 12 -o cat --no-pager >&2 || true
      echo "the service $unit did not start (it is $active)" >&2
      exit 3
    fi
  fi
  tries=$((tries + 1))
  sleep 0.02
done
if [ $ran = 0 ]; then rm -f "$pending"; fi
