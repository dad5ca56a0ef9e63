# What this server shows of its member. Changes nothing. Given: cluster, unit, ports (of all peers), hex_ports (the same in four
# hexadecimal digits, as /proc has them), begin_mark, end_mark, seconds, timer and taker (the units that take snapshots by themselves).
set +e
echo "date_first=$(date +%s.%N)"
pki=/etc/etcd/$cluster/pki
for name in peer peer-client server; do
  if [ -f "$pki/$name.crt" ]; then printf 'certificate.%s=%s\n' "$name" "$(base64 <"$pki/$name.crt" | tr -d '\n')"; fi
done
lend "$pki"
printf 'service=%s\n' "$(systemctl show -p ActiveState --value "$unit" 2>/dev/null)"
printf 'machine=%s\n' "$(uname -m)"
sed -n "/^$begin_mark\$/,/^$end_mark\$/p" /etc/hosts | sed -n 's/^\([^#]\)/hosts=\1/p'
# Established connections with a port for peers at either end.
for port in $hex_ports; do
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
    sed -n "s/^ *[0-9]*: \([0-9A-F]*:[0-9A-F]*\) \([0-9A-F]*:$port\) 01 .*/out=\1 \2/p; s/^ *[0-9]*: \([0-9A-F]*:$port\) \([0-9A-F]*:[0-9A-F]*\) 01 .*/in=\1 \2/p"
done
# What the kernel measures on them: `203.0.113.21:2380 25.1/0.3`, the first of each peer.
if command -v ss >/dev/null 2>&1; then
  for port in $ports; do
    ss -Htin state established "dport = :$port" 2>/dev/null
  done | awk '/rtt:/ { for (i = 1; i <= NF; i++) if ($i ~ /^rtt:/ && !seen[peer]++) print "rtt=" peer " " substr($i, 5) } /^[0-9]/ { peer = $4 }'
fi
# From 3.5 on etcd says which endpoint it was; 3.4 in other words, or does not. A connection that says nothing and ends (EOF) is
# a look, such as ours.
journalctl -u "$unit" --since "-${seconds}s" -o cat --no-pager 2>/dev/null | grep 'rejected connection' | grep -v -e 'client endpoint' -e '"error":"EOF"' |
  sed -n -e 's/.*"remote-addr":"\([^"]*\):[0-9]*".*"error":"\(.*\)"}$/\1 \2/p' \
    -e 's/.*rejected connection from "\([^"]*\):[0-9]*" (error \\*"\(.*\)\\*", ServerName.*/\1 \2/p' |
  sed 's/ (lookup .*//' | sort | uniq -c | sort -rn | head -n 20 | sed 's/^ */rejected=/'
# Snapshots that it takes by itself: all, and why the last run came to nothing.
script=/etc/etcd/$cluster/scheduled-snapshot
if [ -f "$script" ]; then
  directory=$(sed -n 's/^directory=//p' "$script" | head -n 1)
  printf 'snapshots.directory=%s\n' "$directory"
  stat -c 'snapshot=%s %n' "$directory/$cluster"-[0-9]*T[0-9]*Z-r[0-9]*.db 2>/dev/null
  printf 'snapshots.timer=%s\n' "$(systemctl show -p ActiveState --value "$timer" 2>/dev/null)"
  if [ "$(systemctl show -p Result --value "$taker" 2>/dev/null)" != success ]; then
    printf 'snapshots.failed=%s\n' "$(journalctl -u "$taker" -n 50 -o cat --no-pager 2>/dev/null | sed -n 's/^no snapshot was taken: //p' | tail -n 1)"
  fi
fi
echo "date_last=$(date +%s.%N)"
exit 0
