# Closes connections from here to a member, so that it is dialled anew. Given: places (`ADDRESS PORT` a line).
if command -v ss >/dev/null 2>&1; then
  printf '%s\n' "$places" | while read -r address port; do
    ss -K -Htn state established dst "$address" dport = ":$port" >/dev/null 2>&1 || true
  done
fi
