# Takes the member over from its former service. All files are in place; it stands still from here to its start. Safe to repeat.
# Given: former, unit, user, data, note, adopting.
from=$(sed -n 's/^data=//p' "$note")
# What could fail comes before anything is stopped.
if [ "$from" != "$data" ] && [ ! -e "$data/member" ]; then
  (umask 022; mkdir -p "$(dirname "$data")")
  [ -d "$data" ] || mkdir "$data"
  if [ "$(stat -c %d "$from/member")" != "$(stat -c %d "$data")" ]; then
    rmdir "$data" 2>/dev/null || true
    echo "$from/member can't be renamed to $data/member: they are on different file systems" >&2
    exit 4
  fi
fi
sync "$adopting" 2>/dev/null || sync
# Whichever of the two is started at a boot from now on: never both.
systemctl --quiet disable "$former" 2>/dev/null || true
systemctl --quiet enable "$unit" 2>/dev/null
systemctl stop "$former"
if [ "$from" != "$data" ] && [ ! -e "$data/member" ]; then mv -T "$from/member" "$data/member"; fi
chown -hR "$user:$user" "$data"
chmod 0700 "$data"
# The way there may have been for the former user alone: it is opened for the new one, and for no other.
above=$(dirname "$data")
while [ "$above" != / ]; do
  case $(stat -c %A "$above") in *[xt] | d?????x*) ;; *) chgrp "$user" "$above" && chmod g+x "$above" ;; esac
  above=$(dirname "$above")
done
