# Waits some seconds for k3s to be ready. Prints its state, and the end of its log where it can't become so.
tries=0
while [ $tries -lt 40 ]; do
  state=$(systemctl show -p ActiveState --value k3s.service)
  restarts=$(systemctl show -p NRestarts --value k3s.service)
  if [ "$state" = active ] || [ "$state" = failed ] || [ "$restarts" -ge 4 ]; then break; fi
  tries=$((tries + 1))
  sleep 0.25
done
echo "state=$state"
echo "restarts=$restarts"
if [ "$state" != active ]; then
  journalctl --no-pager -u k3s.service -n 60 -o cat 2>/dev/null | grep -v -e '"level":"info"' -e 'level=info' | tail -n 8 | cut -c 1-400 | sed 's/^/log=/'
fi
