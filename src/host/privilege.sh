# What keeps root from running or touching what other users could have put there.
# without_root UID GID SECONDS COMMAND...: runs a program as another user, who can't become root by it, and ends it after so long.
without_root() {
  as_uid=$1 as_gid=$2 as_seconds=$3
  shift 3
  if [ "$(id -u)" != 0 ]; then
    timeout -s KILL "$as_seconds" "$@"
  elif command -v setpriv >/dev/null 2>&1; then
    timeout -s KILL "$as_seconds" setpriv --reuid="$as_uid" --regid="$as_gid" --clear-groups --no-new-privs --inh-caps=-all "$@"
  else
    timeout -s KILL "$as_seconds" chroot --userspec="$as_uid:$as_gid" --groups= / "$@"
  fi
}
# as_owner FOLDER SECONDS COMMAND...: the same as the user whose folder it is. What is below it belongs to that user, links and pipes included.
as_owner() {
  as_ids=$(stat -c '%u %g' "$1") || return 1
  as_seconds=$2
  shift 2
  # shellcheck disable=SC2086 # two numbers
  without_root $as_ids "$as_seconds" "$@"
}
# others_write PATH: the first of PATH, the folders above it and the links on the way that another user than root owns or may write to, as
# `PATH OWNER:GROUP MODE`; nothing if root alone decides what PATH is. Debian gives /usr/local to the group staff (50), which has no members.
others_write() (
  path=$1 links=0
  while :; do
    set -- /
    at='' rest=$path
    while [ -n "$rest" ]; do
      part=${rest%%/*}
      case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
      case $part in '' | .) continue ;; ..) at=${at%/*}; continue ;; esac
      at=$at/$part
      set -- "$@" "$at"
    done
    first=$(find "$@" -maxdepth 0 '(' -type l -o ! -user 0 -o -perm -002 -o -perm -020 ! '(' -group 50 -path '/usr/local*' ')' ')' 2>/dev/null | head -n 1)
    if [ -z "$first" ]; then exit 0; fi
    if [ ! -L "$first" ] || [ $links = 20 ]; then
      owner=$(stat -c "%n %U:%G %a" "$first")
      # A number where there is no such user.
      case $owner in *UNKNOWN*) owner=$(stat -c "%n %u:%g %a" "$first") ;; esac
      printf "%s\n" "$owner"
      exit 0
    fi
    links=$((links + 1))
    target=$(readlink "$first")
    case $target in
      /*) path=$target${at#"$first"} ;;
      *) path=${first%/*}/$target${at#"$first"} ;;
    esac
  done
)
# put_aside FOLDER ASIDE: renames a folder of another user's and makes root its owner. The folder first: what still runs as that user can't reach
# what is in it then.
put_aside() {
  mv -T "$1" "$2"
  chown -h 0:0 "$2"
  chmod 0700 "$2"
  chown -hR 0:0 "$2"
}
# alone_on NAME SECONDS: waits until no other run of root's holds this lock, and holds it until descriptor 9 is closed. Another user can't open the
# file, and so can't hold it.
alone_on() {
  exec 9>"${locks:-/run}/terraform-provider-etcd.$1.lock"
  if command -v flock >/dev/null 2>&1 && ! flock -w "$2" 9; then
    echo "another run has worked at the same for $2 s on this server (it holds ${locks:-/run}/terraform-provider-etcd.$1.lock). Apply again when that one has ended" >&2
    return 75
  fi
}
