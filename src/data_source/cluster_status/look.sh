# What this server shows of its member. Changes nothing. Given: cluster, unit, ports (of all peers), hex_ports (the same in four
# hexadecimal digits, as /proc has them), own_ports, begin_mark, end_mark, seconds, timer and taker (the units that take snapshots by themselves).
set +e
tell date_first "$(date +%s.%N)"
pki=/etc/etcd/$cluster/pki
for name in peer peer-client server; do
  tell_file "certificate.$name" "$pki/$name.crt"
done
lend "$pki"
service=$(systemctl show -p ActiveState --value "$unit" 2>/dev/null)
tell service "$service"
if [ "$service" != active ]; then
  report_ports "$own_ports" "$(systemctl show -p MainPID --value "$unit" 2>/dev/null)"
fi
tell election-timeout "$(sed -n 's/^election-timeout: *//p' "/etc/etcd/$cluster/etcd.yaml" 2>/dev/null | head -n 1)"
tell machine "$(uname -m)"
sed -n "/^$begin_mark\$/,/^$end_mark\$/p" /etc/hosts | sed -n '/^[^#]/p' | tell_lines hosts
# Established connections with a port for peers at either end.
for port in $hex_ports; do
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | sed -n "s/^ *[0-9]*: \([0-9A-F]*:[0-9A-F]*\) \([0-9A-F]*:$port\) 01 .*/\1 \2/p" | tell_lines out
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | sed -n "s/^ *[0-9]*: \([0-9A-F]*:$port\) \([0-9A-F]*:[0-9A-F]*\) 01 .*/\1 \2/p" | tell_lines in
done
report_round_trips "$ports"
# Streams from peers that carry what those say, which is something every 1.7 s: nothing was sent on them for long, and something came a moment ago.
if command -v ss >/dev/null 2>&1; then
  for port in $ports; do
    ss -Htin state established "dport = :$port" 2>/dev/null
  done | awk '
    function number(before) { return match($0, before "[0-9]+") ? substr($0, RSTART + length(before), RLENGTH - length(before)) + 0 : 0 }
    /^[0-9]/ { peer = $4; next }
    number("lastsnd:") > 10000 && number("lastrcv:") < 5000 && !seen[peer]++ { print peer }' | tell_lines heard
fi
# The packets to each address that dials it, for it is on those connections that etcd sends: how many, and how many of them were lost. What was sent
# again and had arrived all the same (dsack_dups) was not.
if command -v ss >/dev/null 2>&1; then
  ss -Htin state established "sport = :${own_ports%% *}" 2>/dev/null | awk '
    /^[0-9]/ { peer = $4; sub(/:[0-9]*$/, "", peer); gsub(/[][]/, "", peer); sub(/^::ffff:/, "", peer); next }
    {
      for (i = 1; i <= NF; i++) {
        if ($i ~ /^data_segs_out:/) sent[peer] += substr($i, 15)
        if ($i ~ /^retrans:/) { split($i, again, "/"); lost[peer] += again[2] }
        if ($i ~ /^dsack_dups:/) lost[peer] -= substr($i, 12)
      }
    }
    END { for (peer in sent) printf "%s %d %d\n", peer, sent[peer], (lost[peer] > 0 ? lost[peer] : 0) }' | tell_lines packets
fi
# From 3.5 on etcd says which endpoint it was; 3.4 in other words, or does not. A connection that says nothing and ends (EOF) is
# a look, such as ours.
journalctl -u "$unit" --since "-${seconds}s" -o cat --no-pager 2>/dev/null | grep 'rejected connection' | grep -v -e 'client endpoint' -e '"error":"EOF"' |
  sed -n -e 's/.*"remote-addr":"\([^"]*\):[0-9]*".*"error":"\(.*\)"}$/\1 \2/p' \
    -e 's/.*rejected connection from "\([^"]*\):[0-9]*" (error \\*"\(.*\)\\*", ServerName.*/\1 \2/p' |
  sed 's/ (lookup .*//' | sort | uniq -c | sort -rn | head -n 20 | sed 's/^ *//' | tell_lines rejected
# Snapshots that it takes by itself: all, and why the last run came to nothing.
script=/etc/etcd/$cluster/scheduled-snapshot
if [ -f "$script" ]; then
  directory=$(sed -n 's/^directory=//p' "$script" | head -n 1)
  tell snapshots.directory "$directory"
  stat -c '%s %n' "$directory/$cluster"-[0-9]*T[0-9]*Z-r[0-9]*.db 2>/dev/null | tell_lines snapshot
  tell snapshots.timer "$(systemctl show -p ActiveState --value "$timer" 2>/dev/null)"
  if [ "$(systemctl show -p Result --value "$taker" 2>/dev/null)" != success ]; then
    tell snapshots.failed "$(journalctl -u "$taker" -n 50 -o cat --no-pager 2>/dev/null | sed -n 's/^no snapshot was taken: //p' | tail -n 1)"
  fi
fi
tell date_last "$(date +%s.%N)"
exit 0
