# Takes a snapshot of this server's member into $directory, for root alone to read, and deletes the oldest ones beyond $keep.
set -u
umask 077
export LC_ALL=C
# etcd 3.4 has the older interface unless it is told otherwise.
if [ "$reader" = etcdctl ]; then export ETCDCTL_API=3; fi
draft=$directory/.$cluster.scheduled.partial
patience=30

# Earlier ones stay, whatever happens. 75 (EX_TEMPFAIL): not now. 1: it was tried, and came to nothing.
none() {
  rm -f "$draft" "$draft".*
  echo "no snapshot was taken: $2" >&2
  exit "$1"
}
last_line() { sed -n '/[^ ]/h; ${x; s/^Error: //; p}' "$errors"; }
ctl() {
  if [ -n "$pki" ]; then set -- --cacert="$pki/client-ca.crt" --cert="$pki/$shown.crt" --key="$pki/$shown.key" "$@"; fi
  "$tools/etcdctl" --endpoints="$endpoint" "$@" 2>"$errors"
}
number() { printf '%s\n' "$1" | sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p"; }
# The names of this cluster's snapshots, the oldest first.
taken() {
  for file in "$directory/$cluster"-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z-r*.db; do
    revision=${file##*Z-r}
    case ${revision%.db} in '' | *[!0-9]*) ;; *) printf '%s\n' "$file" ;; esac
  done
}

status_of() { ctl --dial-timeout=3s --command-timeout=5s endpoint status -w json; }
# Whether the member has all that the cluster has; if not, $why, and whether that may pass in a moment.
is_fit() {
  passes=yes
  shown=operator
  if ! status=$(status_of); then
    why="the member does not answer at $endpoint ($(last_line))"
    # Root's certificate may have ended. The member's own will do, unless access control is on.
    shown=server
    if [ -z "$pki" ] || ! status=$(status_of); then return 1; fi
    echo "$why; going on with the member's own certificate"
  fi
  member=$(number "$status" member_id)
  case $status in
    *'"isLearner":true'*)
      passes=no
      why="the member is a learner, which may not have all data yet; a voter's server takes one"
      return 1
      ;;
    *"memberID:$member alarm:CORRUPT"*)
      passes=no
      why="the alarm CORRUPT is raised for this member, so its data can't be trusted"
      return 1
      ;;
    *'"leader":'[1-9]*) ;;
    *)
      why="the member knows no leader, so what it has may be older than what the others have"
      return 1
      ;;
  esac
  # A quorum has to say how far it is, and the member to have come as far.
  if ! ctl --dial-timeout=3s --command-timeout=5s get --consistency=l --keys-only --limit=1 none >/dev/null; then
    why="no quorum confirms that the member has all that the others have ($(last_line))"
    return 1
  fi
}

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
[ -d "$directory" ] || none 1 "the folder $directory is not there; \`terraform apply\` makes it"
for tool in etcdctl "$reader"; do
  [ -x "$tools/$tool" ] || none 1 "$tools has no $tool"
done
# Root runs them, and so nobody else may be able to change them; and where it writes nobody else may write.
loose=$(loose_program "$tools/etcd")
[ -z "$loose" ] || none 1 "another user than root can change what would be run ($loose)"
loose=$(others_write "$directory")
[ -z "$loose" ] || none 1 "another user than root can change what is in $directory ($loose)"
# A run that was killed may have left one; there is one run at a time.
rm -f "$draft" "$draft".*
until=$(($(date +%s) + patience))
until is_fit; do
  if ! systemctl --quiet is-active "$unit" && [ "$(systemctl is-active "$unit")" != activating ]; then
    none 75 "the member does not run ($unit)"
  fi
  if [ $passes = no ] || [ "$(date +%s)" -ge $until ]; then none 75 "$why"; fi
  sleep 1
done

# shellcheck disable=SC2046 # two numbers
set -- $(stat -f -c '%a %S' "$directory")
free=$(($1 * $2 / 1048576))
size=$(($(number "$status" dbSize) / 1048576 + 1))
if [ $free -lt $((size + reserve)) ]; then
  none 75 "$free MiB are free in $directory, and the database takes $size; $reserve more have to stay free"
fi

stamp=$(date -u +%Y%m%dT%H%M%SZ)
ctl snapshot save "$draft" >/dev/null || none 1 "the member did not send all of it ($(last_line))"
said=$("$tools/$reader" snapshot status "$draft" -w json 2>"$errors") || none 1 "what the member sent is no snapshot ($(last_line))"
revision=$(number "$said" revision)
size=$(stat -c %s "$draft")
# Behind the database there is its checksum.
if [ "$(head -c $((size - 32)) "$draft" | sha256sum | cut -d ' ' -f 1)" != "$(tail -c 32 "$draft" | od -An -v -tx1 | tr -d ' \n')" ]; then
  none 1 "what the member sent is not whole: its checksum differs"
fi
[ -n "$revision" ] || none 1 "what the member sent does not say its revision"
file=$directory/$cluster-$stamp-r$revision.db
{ sync "$draft" 2>/dev/null || sync; } && mv -T "$draft" "$file" && { sync "$directory" 2>/dev/null || sync; } ||
  none 1 "$file can't be written"

# The one that was just taken counts as the newest, whatever the clock said before.
others=$(taken | grep -cvxF "$file")
taken | grep -vxF "$file" | while read -r old; do
  if [ "$others" -lt "$keep" ]; then break; fi
  rm -f "$old" && echo "deleted $old"
  others=$((others - 1))
done
echo "took $file of $size bytes"
