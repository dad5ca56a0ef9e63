# Waits some seconds for k3s to be ready. Tells its state, and the end of its log where it can't become so.
tries=0
while [ $tries -lt 40 ]; do
  state=$(systemctl show -p ActiveState --value k3s.service)
  restarts=$(systemctl show -p NRestarts --value k3s.service)
  if [ "$state" = active ] || [ "$state" = failed ] || [ "$restarts" -ge 4 ]; then break; fi
  tries=$((tries + 1))
  sleep 0.25
done
tell state "$state"
tell restarts "$restarts"
if [ "$state" != active ]; then
  # Its own words, without those of systemd's, and what is wrong before what is usual.
  own=$(journalctl --no-pager _SYSTEMD_UNIT=k3s.service -n 2000 -o cat 2>/dev/null | cut -c 1-400)
  printf '%s\n' "$own" | grep -e level=fatal -e level=error -e '"level":"fatal"' | tail -n 6 | tell_lines log || true
  printf '%s\n' "$own" | grep -v -e '"level":"info"' -e level=info -e level=fatal -e level=error | tail -n 4 | tell_lines log || true
fi
