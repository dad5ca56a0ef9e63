# The lines of the member's log that say most: what etcd calls an error or worse, else the last ones. Given: unit.
recent=$(journalctl -u "$unit" -n 300 -o cat --no-pager 2>/dev/null)
telling=$(printf '%s\n' "$recent" | grep -E '"level":"(error|dpanic|panic|fatal)"|^(panic|fatal error):|is not started' | tail -n 6)
if [ -n "$telling" ]; then tell log "$telling"; else tell log "$(printf '%s\n' "$recent" | tail -n 8)"; fi
