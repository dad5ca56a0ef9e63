# Makes data for a cluster of one of what the survivor has, beside that, and puts it in its place. Given: stamp, process (that of the member
# that has read its log, if it had to), what survivor.sh gives, and what restore_data needs but for data and tool. Safe to repeat: what
# was made says for which cluster.
binary=$(sed -n 's|^ExecStart=.* ||p' "/etc/systemd/system/$unit" | head -n 1)
tool=${binary%/*}/etcdutl
if [ ! -x "$tool" ]; then case $(version_of "$binary") in 3.4.*) tool=${binary%/*}/etcdctl ;; esac; fi
alone_on "restoring-$cluster" 600
if [ "$(made_for "$data/member")" != "$token" ]; then
  if to_make; then
    # Another start may have begun with what a crash left.
    if [ -z "$process" ] || [ "$(systemctl show -p MainPID --value "$unit")" != "$process" ]; then
      echo "the member that had read its log ended, or was started again meanwhile; try again" >&2
      exit 3
    fi
    systemctl stop "$unit"
    restore_data "$data/member/snap/db" --skip-hash-check
  fi
  if [ -e "$data/member" ]; then as_user "$user" 60 mv -T "$data/member" "$data/member.before-$stamp"; fi
  put_restored
fi
exec 9>&-
