# report_ports PORTS PID: answers `port` (N PROCESS) for each port that a process other than PID listens on. What listens for a preflight is named by its unit.
report_ports() {
  any=
  for port in $1; do any="${any:+$any or }sport = :$port"; done
  if [ -z "$any" ]; then return 0; fi
  if command -v ss >/dev/null 2>&1; then
    # Mostly nobody listens, and one process less is to be started for that.
    listening=$(ss -Hltnp "( $any )" 2>/dev/null)
    if [ -z "$listening" ]; then return 0; fi
  fi
  for port in $1; do
    if command -v ss >/dev/null 2>&1; then
      listening=$(ss -Hltnp "sport = :$port" 2>/dev/null | head -n 1)
      # A process may call itself anything: what it says stands before the last number.
      pid=$(printf '%s' "$listening" | sed -n 's/.*",pid=\([0-9]*\),fd=[0-9]*))[^"]*$/\1/p')
      process=
      preflight=
      if [ -n "$pid" ]; then preflight=$(sed -n 's|.*/\(preflight-etcd-[^/]*\.service\)$|\1|p' "/proc/$pid/cgroup" 2>/dev/null | head -n 1); fi
      if [ -n "$preflight" ]; then process=$preflight
      elif [ -n "$pid" ]; then process="$(tr -cd '[:alnum:]._-' <"/proc/$pid/comm" 2>/dev/null) (process $pid)"; fi
    else
      listening=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$(printf '%04X' "$port")" \
        '$4 == "0A" { split($2, part, ":"); if (part[2] == port) { print; exit } }')
      process=
    fi
    case $listening in '') continue ;; esac
    case $process in *"(process $2)") continue ;; esac
    tell_each port "$port ${process:-another process}"
  done
}
