# What keeps root from running or touching what other users could have put there.
# without_root UID GID GROUPS SECONDS COMMAND...: runs a program as another user, who can't become root by it, and ends it after so long. GROUPS are
# further ones, separated by commas. It has none of root's descriptors but those for its output.
without_root() {
  as_uid=$1 as_gid=$2 as_groups=--clear-groups as_seconds=$4
  case $as_uid in '' | 0 | *[!0-9]*) echo "no user to run $5 as" >&2; return 126 ;; esac
  if [ -n "$3" ]; then as_groups=--groups=$3; fi
  shift 4
  if [ "$(id -u)" != 0 ]; then
    timeout -s KILL "$as_seconds" "$@" </dev/null 9>&-
  elif setpriv --reuid=65534 --no-new-privs true 2>/dev/null; then
    timeout -s KILL "$as_seconds" setpriv --reuid="$as_uid" --regid="$as_gid" "$as_groups" --no-new-privs \
      env -i PATH="$PATH" LC_ALL=C "$@" </dev/null 9>&-
  else
    echo "there is no setpriv on this server that can run a program as another user; install util-linux" >&2
    return 126
  fi
}
# as_user USER SECONDS COMMAND...: the same as the user of this name. A folder of that user's is worked in so: links and pipes in it lead that
# user nowhere where root alone may go.
as_user() {
  as_name=$1 as_limit=$2
  shift 2
  without_root "$(id -u "$as_name" 2>/dev/null)" "$(id -g "$as_name" 2>/dev/null)" '' "$as_limit" "$@"
}
# as_process PID SECONDS COMMAND...: the same as the user of a process, with its groups. A process that is about to become another user is none, and
# nor is root's.
as_process() {
  as_ids=$(awk '
    $1 == "Uid:" || $1 == "Gid:" { if ($2 != $3 || $2 != $4 || $2 != $5) exit; id[$1] = $2 }
    $1 == "Groups:" { for (i = 2; i <= NF; i++) groups = groups (i > 2 ? "," : "") $i }
    END { if (id["Uid:"] + 0 > 0 && id["Gid:"] != "") print id["Uid:"] " " id["Gid:"] " " groups }' "/proc/$1/status" 2>/dev/null)
  as_limit=$2
  shift 2
  as_rest=${as_ids#* }
  without_root "${as_ids%% *}" "${as_rest%% *}" "${as_rest#* }" "$as_limit" "$@"
}
# others_write PATH: the first of PATH, the folders above it and the links on the way that another user than root owns or may write to, as
# `PATH OWNER:GROUP MODE`; nothing if root alone decides what PATH is, as far as it is there. Debian gives /usr/local to the group staff, which
# mostly has no members.
others_write() (
  path=$1 links=0
  tell_owner() {
    owner=$(stat -c '%n %U:%G %a' "$1" 2>/dev/null) || owner="$1 (can't be looked at)"
    # A number where there is no such user.
    case $owner in *UNKNOWN*) owner=$(stat -c '%n %u:%g %a' "$1") ;; esac
    printf '%s\n' "$owner"
  }
  # loose PATH...: the first of them that is a link or another user's, in $first.
  loose() {
    found=$(find "$@" -maxdepth 0 '(' -type l -o ! -user 0 -o -perm -002 -o -perm -020 ')' 2>/dev/null) || found="$path (can't be looked at)"
    first=
    while IFS= read -r each; do
      case $each in
        '') continue ;;
        /usr/local | /usr/local/*)
          if [ "$(stat -c %u:%g "$each")" = 0:50 ] && [ ! -L "$each" ] && [ -z "$(find "$each" -maxdepth 0 -perm -002)" ]; then
            case $(getent group 50) in staff:*:50:) continue ;; esac
          fi
          ;;
      esac
      first=$each
      return 0
    done <<FOUND
$found
FOUND
  }
  while :; do
    case $path in *[!\ -~]*) echo "a path with characters that can't be shown"; exit 0 ;; esac
    set -- /
    at='' rest=$path
    while [ -n "$rest" ]; do
      part=${rest%%/*}
      case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
      case $part in
        '' | .) continue ;;
        # Behind a link it leads elsewhere.
        ..) loose "$@"; if [ -n "$first" ]; then rest=../$rest; break; fi; at=${at%/*}; continue ;;
      esac
      at=$at/$part
      if [ ! -e "$at" ] && [ ! -L "$at" ]; then rest=; break; fi
      set -- "$@" "$at"
    done
    loose "$@"
    if [ -z "$first" ]; then exit 0; fi
    if [ ! -L "$first" ] || [ $links = 20 ]; then tell_owner "$first"; exit 0; fi
    links=$((links + 1))
    target=$(readlink "$first"; echo .)
    target=${target%??}
    beyond=${at#"$first"}${rest:+/$rest}
    case $target in
      /*) path=$target$beyond ;;
      *) path=${first%/*}/$target$beyond ;;
    esac
  done
)
# only_roots FOLDER: ends the script if another user than root decides what FOLDER is.
only_roots() {
  others=$(others_write "$1")
  if [ -n "$others" ]; then
    echo "another user than root can change what is in $1 ($others), and root works there. Make it root's alone (chown root:root, chmod go-w), and apply again. Nothing was changed there" >&2
    exit 4
  fi
}
# enter FOLDER USER: goes into a folder, links followed, if it is USER's. What is done to `.` from there on is done to no other folder.
enter() {
  cd -P -- "$1" 2>/dev/null || { echo "$1 is no folder" >&2; exit 4; }
  if [ "$(stat -c %u .)" != "$(id -u "$2")" ]; then
    echo "$1 belongs to $(stat -c %U .), and is to be $2's. Nothing was changed there" >&2
    exit 4
  fi
}
# put_aside FOLDER USER ASIDE: renames a folder of USER's and makes root its owner. The folder first: what still runs as that user can't reach what is
# in it then.
put_aside() {
  mv -T "$1" "$3"
  (
    if [ -L "$3" ]; then exit 0; fi
    cd -P -- "$3"
    case $(stat -c %u .) in 0 | "$(id -u "$2" 2>/dev/null)") ;; *) exit 0 ;; esac
    chown 0:0 .
    chmod 0700 .
    chown -hR 0:0 .
  )
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
