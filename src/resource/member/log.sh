# The lines of the member's log that say most: of its last start, what etcd calls an error or worse, else a warning, else the last ones. Given:
# unit. Answers `log`, and `damage` (files, set-back) where its data is what ended it.
invocation=$(systemctl show -p InvocationID --value "$unit" 2>/dev/null) || invocation=
recent=
if [ -n "$invocation" ]; then
  recent=$(journalctl -u "$unit" "_SYSTEMD_INVOCATION_ID=$invocation" -n 300 -o cat --no-pager 2>/dev/null)
fi
# A start that was only just begun, or a journal that does not know it.
if [ -z "$recent" ]; then recent=$(journalctl -u "$unit" -n 300 -o cat --no-pager 2>/dev/null); fi
telling=$(printf '%s\n' "$recent" | grep -E '"level":"(error|dpanic|panic|fatal)"|^(panic|fatal error):|is not started' | tail -n 6)
if [ -z "$telling" ]; then telling=$(printf '%s\n' "$recent" | grep -F '"level":"warn"' | tail -n 6); fi
if [ -n "$telling" ]; then tell log "$telling"; else tell log "$(printf '%s\n' "$recent" | tail -n 8)"; fi
case $recent in
  *'is out of range [lastIndex('*) tell damage set-back ;;
  *panic*go.etcd.io/bbolt* | *'invalid database'* | *'crc mismatch'* | *'snap: the specified'*) tell damage files ;;
esac
