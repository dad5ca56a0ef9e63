# Makes data for a cluster of one of what the survivor has, beside that, and puts it in its place. Given: cluster, stamp, and what
# restore_data needs but for data, user and tool. Safe to repeat: what was made says for which cluster.
etc=/etc/etcd/$cluster
unit=etcd-$cluster.service
data=$(sed -n 's/^data-dir: *//p' "$etc/etcd.yaml" | head -n 1 | tr -d "\"'")
user=$(sed -n 's/^User=//p' "/etc/systemd/system/$unit" | head -n 1)
binary=$(sed -n 's|^ExecStart=.* ||p' "/etc/systemd/system/$unit" | head -n 1)
tool=${binary%/*}/etcdutl
if [ ! -x "$tool" ] && "$binary" --version | grep -q '^etcd Version: 3\.4\.'; then tool=${binary%/*}/etcdctl; fi
alone "$cluster"
made_for() { if [ -f "$1/restored" ]; then cat "$1/restored"; fi; }
if [ "$(made_for "$data/member")" != "$token" ]; then
  # Cut off between the two renames: what was made is all there is in the place of data.
  if [ -e "$data/member" ] || [ "$(made_for "$data/restoring/member")" != "$token" ]; then
    # The database may be behind the log, as after a crash. A member that starts reads its log before it asks anybody, and one that is
    # stopped in order writes its database.
    if [ "$(systemctl show -p MainPID --value "$unit")" = 0 ]; then
      systemctl reset-failed "$unit" 2>/dev/null || true
      since=$(date +%s)
      systemctl start "$unit"
      tries=0
      while ! journalctl -u "$unit" --since "@$since" -o cat --no-pager 2>/dev/null | grep -q 'became follower at term'; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ]; then
          echo "the member did not read its log within 60 s:" >&2
          journalctl -u "$unit" -n 5 -o cat --no-pager >&2 || true
          exit 3
        fi
        sleep 0.2
      done
      sleep 2
    fi
    systemctl stop "$unit"
    if [ "$(systemctl show -p Result --value "$unit")" = timeout ]; then
      echo "the member did not stop in order, so its database may be behind its log; try again" >&2
      exit 3
    fi
    restore_data "$data/member/snap/db" --skip-hash-check
  fi
  if [ -e "$data/member" ]; then mv "$data/member" "$data/member.before-$stamp"; fi
  put_restored
fi
exec 9>&-
