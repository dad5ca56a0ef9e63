# tell_process_file KEY FILE: what the process $main reads from a file that it was given, read as its user; root's own as root. What can't be read
# is told as `unreadable`. Needs host/privilege.sh.
tell_process_file() {
  if [ ! -f "$2" ]; then return 0; fi
  if held=$(as_process "$main" 20 head -c 1000000 "$2" 2>/dev/null); then
    tell "$1" "$held"
  elif grep -qx 'Uid:[[:space:]]0[[:space:]]0[[:space:]]0[[:space:]]0' "/proc/$main/status" 2>/dev/null; then
    tell "$1" "$(timeout -s KILL 20 head -c 1000000 "$2")"
  else
    tell_each unreadable "$2"
  fi
}
