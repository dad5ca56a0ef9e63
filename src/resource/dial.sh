# Dials all targets at once, each `tries` times, and answers `dial` (NAME CODE TIMES-IN-MS, or NAME CODE MESSAGE). Given: targets
# (`NAME ADDRESS PORT` each, separated by spaces), seconds, tries. bash measures from within; without it nc or busybox dials.
dial_in_bash='
now() { if [ -n "$EPOCHREALTIME" ]; then moment=${EPOCHREALTIME/[.,]/}; else moment=$(($(date +%s%N) / 1000)); fi; }
times=
for ((try = 0; try < $3; try++)); do
  now; first=$moment
  message=$( (exec 3<>"/dev/tcp/$1/$2") 2>&1) || { code=$?; printf "%s\n" "${message##*: }" | head -n 1; exit $code; }
  now
  times="$times $(((moment - first) / 1000)).$(printf %03d $(((moment - first) % 1000)))"
done
echo $times'
dial_one() {
  if command -v bash >/dev/null 2>&1; then
    said=$(timeout "$seconds" bash -c "$dial_in_bash" dial "$2" "$3" "$tries" 2>&1) && code=0 || code=$?
  elif command -v nc >/dev/null 2>&1; then
    said=$(timeout "$seconds" nc -w "$seconds" "$2" "$3" 2>&1 </dev/null) && { code=0; said=; } || code=$?
  else
    said='neither bash nor nc is there to dial with'; code=127
  fi
  tell_each dial "$1 $code $(printf %s "$said" | tr '\n' ' ')"
}
dial_all() {
  while [ $# -ge 3 ]; do
    dial_one "$1" "$2" "$3" &
    shift 3
  done
  wait
}
# shellcheck disable=SC2086
dial_all $targets
