# Takes the member over from its former service. All files are in place; it stands still from here to its start. Safe to repeat.
# Given: former, unit, user, data, note, adopting. Needs host/privilege.sh.
#
# Folders on the way may belong to the former user, who can put others in their place: all is done in a folder that was entered and looked at.
from=$(sed -n 's/^data=//p' "$note")
owner=$(stat -c %u "$from")
# its_own FOLDER: enters a folder of the former user's or the new one's, as it was when it was imported: no link leads elsewhere meanwhile.
its_own() {
  cd -P -- "$1" || exit 4
  if [ "$(pwd -P)" != "$1" ] && [ -n "$(others_write "${1%/*}")" ]; then
    echo "$1 is $(pwd -P) by now, which is not what was imported. Nothing was changed there" >&2
    exit 4
  fi
  case $(stat -c %u .) in
    "$owner" | "$(id -u "$user")") ;;
    *) echo "$1 belongs to $(stat -c %U .) by now. Nothing was changed there" >&2; exit 4 ;;
  esac
}
moves=
if [ "$from" != "$data" ] && [ ! -e "$data/member" ]; then moves=yes; fi
# What could fail comes before anything is stopped.
if [ -n "$moves" ]; then
  place=${data%/*}
  case $place/ in
    "$from"/*) ;;
    *)
      (umask 022; mkdir -p "$place")
      only_roots "$place"
      ;;
  esac
  if [ "$(stat -c %d "$from/member")" != "$(stat -c %d "$place")" ]; then
    echo "$from/member can't be renamed to $data/member: they are on different file systems" >&2
    exit 4
  fi
fi
sync "$adopting" 2>/dev/null || sync
# Whichever of the two is started at a boot from now on: never both.
systemctl --quiet disable -- "$former" 2>/dev/null || true
systemctl --quiet enable "$unit" 2>/dev/null
systemctl stop -- "$former"
if [ -n "$moves" ]; then
  case $data in
    # The folder that held the data becomes root's, and the data goes into one in it.
    "$from"/*) (its_own "$from"; chown "0:$user" .; chmod 0710 .); owner=0 ;;
  esac
  only_roots "${data%/*}"
  [ -d "$data" ] || mkdir "$data"
  (its_own "$from"; mv -T ./member "$data/member")
  chown "$user:$user" "$data"
fi
(its_own "$data"; chown -hR "$user:$user" .; chmod 0700 .)
# The way there may have been for the former user alone: it is opened for the new one, and for no other.
above=$(dirname "$data")
while [ "$above" != / ]; do
  case $(stat -c '%A %G' "$above") in
    *[xt]\ * | d?????x*\ "$user") ;;
    *) (its_own "$above"; chgrp "$user" .; chmod g+x .) ;;
  esac
  above=$(dirname "$above")
done
