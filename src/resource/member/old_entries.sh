# Whether a member of 3.6 has log entries that a member of 3.5 or older wrote: requests of etcd's second API that tell the
# cluster's version and a member's name. Given: unit, data, last (the version that it ran last, where it does not run).
main=$(systemctl show -p MainPID --value "$unit")
case ${last:-$("/proc/$main/exe" --version 2>/dev/null | sed -n 's/^etcd Version: *//p')} in
  3.6.*)
    if cat "$data"/member/wal/*.wal | grep -aqE '/0/(members/|version)'; then echo old-entries=yes; fi
    ;;
esac
