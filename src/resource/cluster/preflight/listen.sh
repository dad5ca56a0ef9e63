# Listens where the member will, until it is ended or three quarters of a minute have passed; leaves no file. Only where nothing of a member is and
# the port is free. Given: preflight_unit, listen (ADDRESS:PORT), port, answer (a script), nonce, is_free.
# The kernel's lists in /proc are slow to read, and ss asks for what listens alone.
is_listening() {
  if command -v ss >/dev/null 2>&1; then [ -n "$(ss -Hltn "sport = :$port" 2>/dev/null)" ]
  else grep -qs ":$(printf %04X "$port") 0*:0000 0A " /proc/net/tcp /proc/net/tcp6
  fi
}
start_preflight() {
  if ! command -v systemd-socket-activate >/dev/null 2>&1 || ! command -v systemd-run >/dev/null 2>&1; then
    tell not-listening 'systemd-socket-activate is not there'
    return 0
  fi
  if [ "$port" -lt 1024 ]; then privilege=CAP_NET_BIND_SERVICE; else privilege=; fi
  # Every user can read argument lists, and ask systemd for a unit's properties; the file is root's.
  secret=$(mktemp /run/terraform-provider-etcd.preflight.XXXXXX)
  printf 'PREFLIGHT_NONCE=%s\n' "$nonce" >"$secret"
  # A dollar sign would be systemd's.
  said=$(systemd-run --quiet --collect --unit="$preflight_unit" --description='Answers the preflight of an etcd cluster' \
    --property=RuntimeMaxSec=45 --property=TimeoutStopSec=1 --property=DynamicUser=yes --property=AmbientCapabilities="$privilege" \
    --property=TasksMax=500 --property=StandardError=null --property=EnvironmentFile="$secret" \
    systemd-socket-activate --accept --inetd --listen="$listen" --setenv=PREFLIGHT_NONCE \
    /bin/sh -c "$(printf '%s' "$answer" | sed 's/\$/$$/g')" 2>&1) || { rm -f "$secret"; tell not-listening "$(printf %s "$said" | tail -n 1)"; return 0; }
  tries=0
  until is_listening; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then rm -f "$secret"; tell not-listening 'it did not start to listen within a second'; return 0; fi
    sleep 0.01
  done
  rm -f "$secret"
  tell listening "$(uname -m)"
}
if is_free && ! is_listening; then start_preflight; fi
