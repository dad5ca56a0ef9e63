# report_round_trips PORTS: what the kernel measures on connections to these ports, `rtt` (203.0.113.21:2380 25.1/0.3), the first of each peer.
report_round_trips() {
  if ! command -v ss >/dev/null 2>&1; then return 0; fi
  for port in $1; do
    ss -Htin state established "dport = :$port" 2>/dev/null
  done | awk '/rtt:/ { for (i = 1; i <= NF; i++) if ($i ~ /^rtt:/ && !seen[peer]++) print peer " " substr($i, 5) } /^[0-9]/ { peer = $4 }' | tell_lines rtt
}
