# tell_process_file KEY FILE: what the process $main reads from a file that it was given, read as its user. Needs host/privilege.sh.
tell_process_file() {
  if [ -f "$2" ]; then tell "$1" "$(as_owner "/proc/$main" 5 head -c 1000000 "$2")"; fi
}
