# Dials the peer ports of other servers, all at once, where the preflight answers. Given: probes (`NAME ADDRESS PORT` each, separated by
# spaces), seconds, nonce. Answers `probe` (NAME WHAT …). Without bash they are left in `plain`, to be dialled and nothing more.
#
# The connection is opened under a time limit, and goes on in the background. A message goes both ways at the same time. Its size is what
# goes out at once before an answer is waited for (ten packets) where more would be felt, and more where it costs no time or there may be
# something to see: at a distance, and where packets were lost. If nothing at all comes back it is tried again by small steps: the first line
# may have been lost with the large packets that followed it.
probe_in_bash='
name=$1 address=$2 port=$3 nonce=$4 how=$5
now() { if [ -n "$EPOCHREALTIME" ]; then moment=${EPOCHREALTIME/[.,]/}; else moment=$(($(date +%s%N) / 1000)); fi; }
# exchange OUT BACK: so many bytes each way.
exchange() {
  printf "%s %s %s\n" "$nonce" "$1" "$2" >&3 || return
  sender=
  if [ "$1" -lt 16384 ]; then printf "%*s" "$1" "" >&3
  else ( exec timeout 8 head -c "$1" /dev/zero ) >&3 2>/dev/null & sender=$!
  fi
  hello=
  IFS= read -r -t 5 hello <&3
  case $hello in
    "$nonce "*) echo "$name hello ${hello#* }" ;;
    *)
      if [ -n "$sender" ]; then kill $sender; fi
      if [ -n "$hello" ]; then return 1; else return 2; fi ;;
  esac
  got=0
  if [ "$2" != 0 ]; then
    got=$(timeout 7 head -c "$2" <&3 | wc -c)
    echo "$name back $((got)) $2"
  fi
  if [ $((got)) = "$2" ]; then
    read -r -t 9 word theirs <&3
    if [ "$word$1" != got0 ] && [ "$word" = got ]; then echo "$name out $theirs $1"; fi
  fi
  if [ -n "$sender" ]; then kill $sender 2>/dev/null; fi
  case $address in *:*) at="[$address]:$port" ;; *) at=$address:$port ;; esac
  kernel=$(ss -Htin dst "$at" 2>/dev/null)
  if [ -n "$kernel" ]; then echo "$name kernel" $kernel; fi
  return 0
}
now; first=$moment
exec 3<>"/dev/tcp/$address/$port" || exit 1
now; took=$((moment - first))
echo "$name open $((took / 1000)).$(printf %03d $((took % 1000)))"
{
  if [ "$how" = by-steps ]; then
    exchange 0 0 || { echo "$name stranger"; exit; }
    exchange 14000 0 && exchange 0 14000
    exit
  fi
  if [ $took -ge 150000 ]; then size=262144 more=262144
  elif [ $took -ge 30000 ]; then size=14000 more=131072
  else size=65536 more=131072
  fi
  exchange $size $size
  case $? in
    0) case $kernel in *retrans:*) exchange $more $more ;; esac ;;
    1) echo "$name stranger" ;;
    2) echo "$name nothing" ;;
  esac
} &
'
probe_one() {
  said=$(timeout "$seconds" bash -c "$probe_in_bash" bash "$1" "$2" "$3" "$nonce" "${4-}" 2>&1) && code=0 || code=$?
  # shellcheck disable=SC2086
  if [ $code != 0 ]; then
    said="$1 code $code $(printf '%s\n' "${said##*: }" | head -n 1)"
  fi
  case $said in
    *"$1 nothing"*) probe_one "$1" "$2" "$3" by-steps ;;
    *) printf '%s\n' "$said" | tell_lines probe ;;
  esac
}
probe_all() {
  while [ $# -ge 3 ]; do
    probe_one "$1" "$2" "$3" &
    shift 3
  done
}
plain=
# shellcheck disable=SC2086
if command -v bash >/dev/null 2>&1; then probe_all $probes; else plain=$probes; fi
