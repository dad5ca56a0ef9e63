# Whether a member of 3.6 has log entries that a member of 3.5 or older wrote: requests of etcd's second API that tell the
# cluster's version and a member's name. Given: user, data. Needs host/privilege.sh.
# A segment is 64 MiB and holds many zeros.
# shellcheck disable=SC2016 # for the other shell
read_log='for file in "$1"/member/wal/*.wal; do
  if [ -f "$file" ] && [ ! -L "$file" ]; then head -c 200000000 "$file"; fi
done | tr "\000" "\n" | grep -aqE "/0/(members/|version)"'
code=0
as_user "$user" 600 sh -c "$read_log" sh "$data" || code=$?
case $code in
  0) tell old-entries yes ;;
  1) ;;
  *) echo "the log in $data/member/wal could not be read to its end as $user (code $code). Nothing was changed" >&2; exit 3 ;;
esac
