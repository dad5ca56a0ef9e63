# Closes the member's connections to peers that have moved, and waits until it has dialled them where they are now. etcd resolves a
# peer's name at each new dial, and keeps what it has as long as that lives: a connection to an address that went silent
# stalls for minutes. Given: unit, ports (of peers), addresses (of peers, `address:port`), moved (those of them that have moved), awaited (those of
# them that have to be dialled), all
# (`yes`: the member itself has moved, so all that it dialled is closed), port (its own), patience (in tenths of a second).
# Answers `stale` for connections to addresses that are none of the peers', and `missing` for peers that moved and are not dialled.
main=$(systemctl show -p MainPID --value "$unit")
# The member's connections among those in this state, each as near and far end.
own() {
  ss -Htnp state "$1" "$2" 2>/dev/null | sed -n "/\",pid=$main,fd=[0-9]*))[^\"]*\$/s/^ *[0-9]* *[0-9]* *\([^ ]*\) *\([^ ]*\) .*/\1 \2/p" |
    sed 's/\[::ffff:\([0-9.]*\)\]/\1/g'
}
# Without what it dials of itself, where another one's port for peers is its port for clients.
dialled() {
  for each in $ports; do own "$1" "dport = :$each"; done | grep -v -e ' 127\.' -e ' \[::1\]'
}
# What it is about to dial at an address that is nobody's any more would keep it waiting for half a minute.
dialling_nobody() {
  dialled syn-sent | while read -r near far; do
    case " $addresses " in *" $far "*) ;; *) printf 'syn-sent %s %s\n' "$near" "$far" ;; esac
  done
}
# What others dialled at an address that this server no longer has: they dial anew, but not a word tells this end that it is alone.
abandoned() {
  here=" $(ip -o address show 2>/dev/null | sed 's/.* inet6\{0,1\} \([^/ ]*\).*/\1/' | tr '\n' ' ')"
  own established "sport = :$port" | while read -r near far; do
    address=${near%:*}
    address=${address#[}
    case $here in ' ' | *" ${address%]} "*) ;; *) printf 'established %s %s\n' "$near" "$far" ;; esac
  done
}
outlived() {
  dialled established | while read -r near far; do
    case " $addresses " in
      *" $far "*) case "$all $moved " in yes* | *" $far "*) ;; *) continue ;; esac ;;
    esac
    printf 'established %s %s\n' "$near" "$far"
  done
}
stale() {
  dialled established | while read -r near far; do
    case " $addresses " in *" $far "*) ;; *) printf '%s %s\n' "$near" "$far" ;; esac
  done
}
missing() {
  now=" $(dialled established | cut -d ' ' -f 2 | tr '\n' ' ')"
  for address in $awaited; do
    case $now in *" $address "*) ;; *) printf '%s\n' "$address" ;; esac
  done
}
if command -v ss >/dev/null 2>&1; then
  { outlived; dialling_nobody; abandoned; } | while read -r state near far; do
    ss -K -Htn state "$state" src "$near" dst "$far" >/dev/null 2>&1 || true
  done
  tries=0
  while [ $tries -lt "$patience" ] && [ -n "$(stale)$(missing)$(dialling_nobody)" ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
  stale | sed 's/^[^ ]* //' | sort -u | tell_lines stale
  missing | tell_lines missing
fi
