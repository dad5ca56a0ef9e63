# Whether a member of 3.6 has log entries that a member of 3.5 or older wrote: requests of etcd's second API that tell the
# cluster's version and a member's name. Given: unit, data, last (the version that it ran last, where it does not run).
case ${last:-$(version_of_process "$(systemctl show -p MainPID --value "$unit")")} in
  3.6.*)
    # A segment is 64 MiB and holds many zeros.
    # shellcheck disable=SC2016 # for the other shell
    read_log='for file in "$1"/member/wal/*.wal; do
      if [ -f "$file" ] && [ ! -L "$file" ]; then head -c 200000000 "$file"; fi
    done | tr "\000" "\n" | grep -aqE "/0/(members/|version)"'
    if as_owner "$data" 60 sh -c "$read_log" sh "$data"; then tell old-entries yes; fi
    ;;
esac
