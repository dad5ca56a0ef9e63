# Closes the member's connections to peers that have moved, and waits until it has dialled them where they are now. etcd resolves a
# peer's name at each new dial, and keeps what it has as long as that lives: a connection to an address that went silent
# stalls for minutes. Given: unit, ports (of peers), addresses (of peers, `address:port`), moved (those of them that have moved), all
# (`yes`: the member itself has moved, so all that it dialled is closed), patience (in tenths of a second).
# Prints `stale=` for connections to addresses that are none of the peers', and `missing=` for peers that moved and are not dialled.
main=$(systemctl show -p MainPID --value "$unit")
# Without what it dials of itself, where another one's port for peers is its port for clients.
dialled() {
  for port in $ports; do
    ss -Htnp state established "dport = :$port" 2>/dev/null
  done | sed -n "/[(,]pid=$main,/s/^ *[0-9]* *[0-9]* *\([^ ]*\) *\([^ ]*\) .*/\1 \2/p" | sed 's/\[::ffff:\([0-9.]*\)\]/\1/g' |
    grep -v -e ' 127\.' -e ' \[::1\]'
}
stale() {
  dialled | while read -r near far; do
    case " $addresses " in *" $far "*) ;; *) printf '%s %s\n' "$near" "$far" ;; esac
  done
}
missing() {
  now=" $(dialled | cut -d ' ' -f 2 | tr '\n' ' ')"
  for address in $moved; do
    case $now in *" $address "*) ;; *) printf '%s\n' "$address" ;; esac
  done
}
if command -v ss >/dev/null 2>&1; then
  dialled | while read -r near far; do
    case " $addresses " in
      *" $far "*) case "$all $moved " in yes* | *" $far "*) ;; *) continue ;; esac ;;
    esac
    ss -K -Htn state established src "$near" dst "$far" >/dev/null 2>&1 || true
  done
  tries=0
  while [ $tries -lt "$patience" ] && [ -n "$(stale)$(missing)" ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
  stale | sed 's/^[^ ]* /stale=/' | sort -u
  missing | sed 's/^/missing=/'
fi
