# What this server holds of the member. Changes nothing. Given: cluster, data, unit, ports, binary, files, with_key,
# head (how many bytes of its log say whose it is), former (the service that ran the member before this provider, or empty), timer, snapshot_directory (or empty), schedule (where it is to be
# seen whether something is in the way of it), reader.
# Forks are dear on a small server, so loops do without them where they can.
etc=/etc/etcd/$cluster
await_start "$unit" "$etc" "$data"
if [ -f "$etc/token" ]; then read -r line <"$etc/token" || true; tell token "$line"; fi
if [ -f "$etc/object" ]; then read -r line <"$etc/object" || true; tell object "$line"; fi
if [ -f "$etc/founding-permit" ]; then read -r line <"$etc/founding-permit" || true; tell permit "$line"; fi
if [ -f "$etc/restore" ]; then tell_pairs restore. <"$etc/restore"; fi
if [ -f "$data/member/restored" ]; then tell restored "$(as_user "$user" 20 head -c 200 "$data/member/restored")"; fi
if [ -f "$etc/restart-pending" ]; then tell restart-pending yes; fi
if [ -e "$etc/adopting" ]; then tell adopting yes; fi
if [ -n "$former" ]; then
  systemctl show -p LoadState -p MainPID -- "$former" 2>/dev/null | tell_pairs former.
fi
if [ -f "/etc/sysctl.d/60-etcd-$cluster.conf" ]; then
  tell tcp-retries2 "$(cat /proc/sys/net/ipv4/tcp_retries2)"
fi
if [ -f "$etc/resting" ]; then tell resting yes; fi
# A write-ahead log makes a member's data, as for the guard that starts it; a first start that was cut off before it
# had one may have left `member` behind.
content=empty
# shellcheck disable=SC2010,SC2143
if [ -n "$(ls -A "$data" 2>/dev/null | grep -v -x -e member -e restoring -e 'member\.incomplete\..*' -e 'member\.before-.*' -e 'member\.removed-.*' -e 'lost+found')" ]; then content=other; fi
for segment in "$data"/member/wal/*.wal; do
  if [ -e "$segment" ]; then content=member; break; fi
done
tell data "$content"
main=0
shown=unit
while IFS= read -r line; do
  case $line in '') shown=timer; continue ;; MainPID=*) main=${line#MainPID=} ;; esac
  tell "$shown.${line%%=*}" "${line#*=}"
done <<END
$(systemctl show -p MainPID -p ActiveState -p SubState -p Result -p UnitFileState -p NRestarts \
  -p ExecMainStartTimestampMonotonic "$unit" "$timer" 2>/dev/null)
END
read -r uptime rest </proc/uptime && tell uptime "$uptime"
started=
case $main in 0) ;; *) started=$(readlink "/proc/$main/exe" 2>/dev/null) || started= ;; esac
# The unit has its program mounted on itself (ExecPaths). When the file is replaced this mount has no place any more, and the path is lost with it.
case $started in '/ (deleted)') started="$(sed -n 's|^ExecStart=.* ||p' "/etc/systemd/system/$unit" 2>/dev/null | head -n 1) (deleted)" ;; esac
if [ -n "$started" ]; then tell executable "$started"; fi
# The file was replaced since: what runs may be another version than what lies there.
case $started in
  *' (deleted)') tell replaced yes ;;
esac
# What a member that does not run ran last; files that it was not started with yet say nothing of that.
if [ "$main" = 0 ] && [ $content = member ] && [ ! -f "$etc/restart-pending" ]; then
  last=$(sed -n 's|^ExecStart=.* ||p' "/etc/systemd/system/$unit" 2>/dev/null | head -n 1)
  if [ -x "$last" ]; then tell last "$(version_of "$last")"; fi
fi
# Whose data a member goes on from when it is started.
if [ "$main" = 0 ] && [ $content = member ]; then
  tell log-head "$(as_user "$user" 20 head -c "$head" "$segment" 2>/dev/null | od -An -v -tx1 | tr -d ' \n')"
fi
report_ports "$ports" "$main"
if [ -n "$files" ]; then
  # shellcheck disable=SC2086 # a list
  sha256sum $files 2>/dev/null | sed -n 's/^\([0-9a-f]*\) [ *]/\1 /p' | tell_lines file
fi
tell machine "$(uname -m)"
if [ -n "$binary" ]; then
  if [ -d "$binary" ]; then binary=$binary/etcd; fi
  loose=$(loose_program "$binary")
  tell binary-loose "$loose"
  if [ -f "$binary" ]; then
    tell binary-path "$binary"
    if is_script "$binary"; then tell binary-script yes; fi
    tell binary "$(version_of "$binary")"
    if [ -z "$loose" ]; then program_sums "$binary" "$main"; fi
  fi
fi
if [ -n "$snapshot_directory" ] && [ -d "$snapshot_directory" ]; then tell snapshots there; fi
if [ -n "$schedule" ]; then
  if ! grep -qsxF "OnCalendar=$schedule" "/etc/systemd/system/$timer" && command -v systemd-analyze >/dev/null 2>&1; then
    said=$(systemd-analyze calendar "$schedule" 2>&1) && why= || why="its systemd says: $(printf '%s\n' "$said" | tail -n 1)"
    case $said in *'elapse: never'*) why="its systemd says that $schedule never comes" ;; esac
    if [ -n "$why" ]; then tell snapshots.schedule "$why"; fi
  fi
  if [ ! -d "$snapshot_directory" ]; then
    if [ -e "$snapshot_directory" ]; then tell snapshots.directory "$snapshot_directory is no folder"; fi
  fi
  loose=$(others_write "$snapshot_directory")
  if [ -n "$loose" ]; then
    tell snapshots.directory "others than root can write to $snapshot_directory ($loose), or it is not root's (\`chown root\`, \`chmod go-w\`)"
  fi
  if [ -f "$binary" ]; then
    for tool in etcdctl "$reader"; do
      if [ ! -x "$(dirname "$binary")/$tool" ]; then
        tell snapshots.tools "$(dirname "$binary") has no $tool, which takes and checks them: put it beside etcd"
        break
      fi
    done
  fi
fi
tell_file config "$etc/etcd.yaml"
for name in peer peer-client server operator peer-ca client-ca; do
  tell_file "certificate.$name" "$etc/pki/$name.crt"
done
if [ "$with_key" = yes ]; then lend "$etc/pki"; fi
