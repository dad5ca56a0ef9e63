# Dials the peer ports of other servers, all at once, where the preflight answers. Given: probes (`NAME ADDRESS PORT` each, separated by
# spaces), seconds, nonce. Prints lines `probe=NAME WHAT …`. Without bash they are left in `plain`, to be dialled and nothing more.
#
# The connection is opened under a time limit, and goes on in the background. A message goes both ways at the same time. Its size is what
# goes out at once before an answer is waited for (ten packets) where more would be felt, and more where it costs no time or there may be
# something to see: at a distance, and where packets were lost.
probe_in_bash='
name=$1 address=$2 port=$3 nonce=$4
now() { if [ -n "$EPOCHREALTIME" ]; then moment=${EPOCHREALTIME/[.,]/}; else moment=$(($(date +%s%N) / 1000)); fi; }
exchange() {
  printf "%s %s\n" "$nonce" "$1" >&3 || return
  sender=
  if [ "$1" -lt 16384 ]; then printf "%*s" "$1" "" >&3
  else ( exec timeout 9 head -c "$1" /dev/zero ) >&3 2>/dev/null & sender=$!
  fi
  IFS= read -r -t 8 hello <&3
  case $hello in
    "$nonce "*) echo "probe=$name hello ${hello#* }" ;;
    *) echo "probe=$name stranger"; [ -n "$sender" ] && kill $sender; return ;;
  esac
  got=$(timeout 8 head -c "$1" <&3 | wc -c)
  echo "probe=$name back $((got)) $1"
  if [ $((got)) = "$1" ]; then
    read -r -t 9 word theirs <&3
    if [ "$word" = got ]; then echo "probe=$name out $theirs $1"; fi
  fi
  if [ -n "$sender" ]; then kill $sender 2>/dev/null; fi
  case $address in *:*) at="[$address]:$port" ;; *) at=$address:$port ;; esac
  kernel=$(ss -Htin dst "$at" 2>/dev/null | tr "\n" " ")
  if [ -n "$kernel" ]; then echo "probe=$name kernel $kernel"; fi
}
now; first=$moment
exec 3<>"/dev/tcp/$address/$port" || exit 1
now; took=$((moment - first))
echo "probe=$name open $((took / 1000)).$(printf %03d $((took % 1000)))"
{
  if [ $took -ge 150000 ]; then size=262144 more=262144
  elif [ $took -ge 30000 ]; then size=14000 more=131072
  else size=65536 more=131072
  fi
  exchange $size
  case $kernel in *retrans:*) exchange $more ;; esac
} &
'
probe_one() {
  said=$(timeout "$seconds" bash -c "$probe_in_bash" bash "$1" "$2" "$3" "$nonce" 2>&1) && code=0 || code=$?
  if [ $code != 0 ]; then
    said="probe=$1 code $code $(printf '%s\n' "${said##*: }" | head -n 1)"
  fi
  printf '%s\n' "$said"
}
probe_all() {
  while [ $# -ge 3 ]; do
    probe_one "$1" "$2" "$3" &
    shift 3
  done
}
plain=
if command -v bash >/dev/null 2>&1; then probe_all $probes; else plain=$probes; fi
