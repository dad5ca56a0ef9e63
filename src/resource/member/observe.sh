# What this server holds of the member. Changes nothing. Given: cluster, data, unit, ports, binary, files, with_key,
# former (the service that ran the member before this provider, or empty), timer, snapshot_directory (or empty), schedule (where it is to be
# seen whether something is in the way of it), reader.
# Forks are dear on a small server, so loops do without them where they can.
etc=/etc/etcd/$cluster
await_start "$unit" "$etc" "$data"
if [ -f "$etc/token" ]; then read -r line <"$etc/token" || true; printf 'token=%s\n' "$line"; fi
if [ -f "$etc/founding-permit" ]; then read -r line <"$etc/founding-permit" || true; printf 'permit=%s\n' "$line"; fi
if [ -f "$etc/restore" ]; then sed 's/^/restore./' "$etc/restore"; fi
if [ -f "$data/member/restored" ]; then read -r line <"$data/member/restored" || true; printf 'restored=%s\n' "$line"; fi
if [ -f "$etc/restart-pending" ]; then echo restart-pending=yes; fi
if [ -e "$etc/adopting" ]; then echo adopting=yes; fi
if [ -n "$former" ]; then
  systemctl show -p LoadState -p MainPID "$former" 2>/dev/null | sed 's/^/former./'
fi
if [ -f "/etc/sysctl.d/60-etcd-$cluster.conf" ]; then
  printf 'tcp-retries2=%s\n' "$(cat /proc/sys/net/ipv4/tcp_retries2)"
fi
if [ -f "$etc/resting" ]; then echo resting=yes; fi
# A write-ahead log makes a member's data, as for the guard that starts it; a first start that was cut off before it
# had one may have left `member` behind.
content=empty
if [ -n "$(ls -A "$data" 2>/dev/null | grep -v -x -e member -e restoring -e 'member\.incomplete\..*' -e 'member\.before-.*')" ]; then content=other; fi
for segment in "$data"/member/wal/*.wal; do
  if [ -e "$segment" ]; then content=member; break; fi
done
echo "data=$content"
main=0
shown=unit
while IFS= read -r line; do
  case $line in '') shown=timer; continue ;; MainPID=*) main=${line#MainPID=} ;; esac
  printf '%s.%s\n' $shown "$line"
done <<END
$(systemctl show -p MainPID -p ActiveState -p SubState -p Result -p UnitFileState "$unit" "$timer" 2>/dev/null)
END
started=
case $main in 0) ;; *) started=$(readlink "/proc/$main/exe" 2>/dev/null) && printf 'executable=%s\n' "$started" ;; esac
# The file was replaced since: what runs may be another version than what lies there.
case $started in
  *' (deleted)') printf 'running=%s\n' "$("/proc/$main/exe" --version 2>/dev/null | sed -n 's/^etcd Version: *//p')" ;;
esac
# What a member that does not run ran last; files that it was not started with yet say nothing of that.
if [ "$main" = 0 ] && [ $content = member ] && [ ! -f "$etc/restart-pending" ]; then
  last=$(sed -n 's|^ExecStart=.* ||p' "/etc/systemd/system/$unit" 2>/dev/null | head -n 1)
  if [ -x "$last" ]; then printf 'last=%s\n' "$("$last" --version 2>/dev/null | sed -n 's/^etcd Version: *//p')"; fi
fi
report_ports "$ports" "$main"
if [ -n "$files" ]; then
  # shellcheck disable=SC2086 # a list
  sha256sum $files 2>/dev/null | sed -n 's/^\([0-9a-f]*\) [ *]/file=\1 /p'
fi
printf 'machine=%s\n' "$(uname -m)"
if [ -n "$binary" ]; then
  if [ -d "$binary" ]; then binary=$binary/etcd; fi
  if [ -f "$binary" ]; then
    printf 'binary-path=%s\n' "$binary"
    printf 'binary=%s\n' "$("$binary" --version 2>/dev/null | sed -n 's/^etcd Version: *//p')"
  fi
fi
if [ -n "$snapshot_directory" ] && [ -d "$snapshot_directory" ]; then echo snapshots=there; fi
if [ -n "$schedule" ]; then
  if ! grep -qsxF "OnCalendar=$schedule" "/etc/systemd/system/$timer" && command -v systemd-analyze >/dev/null 2>&1; then
    said=$(systemd-analyze calendar "$schedule" 2>&1) || printf 'snapshots.schedule=%s\n' "its systemd says: $(printf '%s\n' "$said" | tail -n 1)"
    case $said in *'elapse: never'*) echo "snapshots.schedule=its systemd says that $schedule never comes" ;; esac
  fi
  if [ ! -d "$snapshot_directory" ]; then
    if [ -e "$snapshot_directory" ]; then echo "snapshots.directory=$snapshot_directory is no folder"; fi
  elif [ -n "$(find -H "$snapshot_directory" -maxdepth 0 '(' ! -user 0 -o -perm -020 -o -perm -002 ')')" ]; then
    echo "snapshots.directory=others than root can write to $snapshot_directory, or it is not root's (\`chown root\`, \`chmod go-w\`)"
  fi
  if [ -f "$binary" ]; then
    for tool in etcdctl "$reader"; do
      if [ ! -x "$(dirname "$binary")/$tool" ]; then
        echo "snapshots.tools=$(dirname "$binary") has no $tool, which takes and checks them: put it beside etcd"
        break
      fi
    done
  fi
fi
report_text config "$etc/etcd.yaml"
for name in peer peer-client server operator peer-ca client-ca; do
  report_text "certificate.$name" "$etc/pki/$name.crt"
done
if [ "$with_key" = yes ]; then lend "$etc/pki"; fi
