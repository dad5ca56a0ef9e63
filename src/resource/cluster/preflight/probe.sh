# Dials the peer ports of other servers, all at once, where the preflight answers. Given: probes (`NAME ADDRESS PORT` each, separated by
# spaces), seconds, nonce. Prints lines `probe=NAME WHAT …`. Without bash they are left in `plain`, to be dialled and nothing more.
#
# The connection is opened under a time limit, and goes on in the background. A message goes both ways at the same time: a small one where the
# time that it takes would be felt, a larger one where there may be something to see: at a distance, or where packets were lost.
probe_in_bash='
name=$1 address=$2 port=$3 nonce=$4
now() { if [ -n "$EPOCHREALTIME" ]; then moment=${EPOCHREALTIME/[.,]/}; else moment=$(($(date +%s%N) / 1000)); fi; }
exchange() {
  printf "%s %s\n" "$nonce" "$1" >&3 || return
  ( exec timeout 9 head -c "$1" /dev/zero ) >&3 2>/dev/null &
  sender=$!
  IFS= read -r -t 8 hello <&3
  case $hello in
    "$nonce "*) echo "probe=$name hello ${hello#* }" ;;
    *) echo "probe=$name stranger"; kill $sender; return ;;
  esac
  got=$(timeout 8 head -c "$1" <&3 | wc -c)
  echo "probe=$name back $((got)) $1"
  if [ $((got)) = "$1" ]; then
    read -r -t 9 word theirs <&3
    if [ "$word" = got ]; then echo "probe=$name out $theirs $1"; fi
  fi
  kill $sender 2>/dev/null
  case $address in *:*) at="[$address]:$port" ;; *) at=$address:$port ;; esac
  kernel=$(ss -Htin dst "$at" 2>/dev/null | tr "\n" " ")
  if [ -n "$kernel" ]; then echo "probe=$name kernel $kernel"; fi
}
now; first=$moment
exec 3<>"/dev/tcp/$address/$port" || exit 1
now; took=$((moment - first))
echo "probe=$name open $((took / 1000)).$(printf %03d $((took % 1000)))"
{
  if [ $took -ge 150000 ]; then exchange 262144
  elif [ $took -ge 30000 ]; then
    exchange 28672
    case $kernel in *retrans:*) exchange 131072 ;; esac
  else exchange 65536
  fi
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
