# Takes, keeps or gives back the lock of a cluster on this server. Given: cluster, holder (one word), who (a sentence), seconds (how long
# it is held; 0 gives it back). Answers `held`, or who has it. It ends by itself by the server's own clock, and with a reboot.
lock=/run/etcd-$cluster.lock
alone_on lock 30
read -r now _ </proc/uptime
now=${now%%.*}
until=0
by=
words=
if [ -f "$lock" ]; then read -r until by words <"$lock" || true; fi
if [ "$by" = "$holder" ] || [ "$until" -le "$now" ]; then
  if [ "$seconds" = 0 ]; then
    rm -f "$lock"
  else
    write_text "$lock" "$((now + seconds)) $holder $who"
    tell held yes
  fi
else
  tell held_by "$words"
fi
exec 9>&-
