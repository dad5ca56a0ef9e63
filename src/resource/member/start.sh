# Starts the member and waits until its process runs: until it serves, or has its data and waits for its peers.
# Given: unit, data.
systemctl reset-failed "$unit" 2>/dev/null || true
systemctl start --no-block "$unit"
tries=0
while :; do
  active=$(systemctl show -p ActiveState --value "$unit")
  main=$(systemctl show -p MainPID --value "$unit")
  if [ "$active" = active ]; then break; fi
  if [ "$active" = activating ] && [ "$main" != 0 ] && [ -d "$data/member/wal" ]; then break; fi
  tries=$((tries + 1))
  if [ "$active" = failed ] || [ $tries -gt 200 ]; then
    journalctl -u "$unit" -n 12 -o cat --no-pager >&2 || true
    echo "the service $unit did not start (it is $active)" >&2
    exit 3
  fi
  sleep 0.05
done
