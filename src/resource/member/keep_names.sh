# Has the cluster's names kept in /etc/hosts, also at boot. Given: names (the unit that waits for changes of that file), copy, block. A server that was given
# its view by an earlier version has no copy of it yet.
if [ ! -s "$copy" ]; then
  write_text "$copy" "${block%"
"}"
fi
# Without it the guard still puts the block back at each start: it is no reason to fail.
systemctl --quiet --no-reload enable "$names" 2>/dev/null || true
case $(systemctl show -p ActiveState -p NeedDaemonReload "$names") in
  *NeedDaemonReload=yes*) systemctl daemon-reload; systemctl restart "$names" || true ;;
  *ActiveState=active*) ;;
  *) systemctl reset-failed "$names" 2>/dev/null || true; systemctl start "$names" || true ;;
esac
