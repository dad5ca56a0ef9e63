# The member's data directory. Given: user, data.
if [ ! -d "${data%/*}/" ]; then (umask 022; mkdir -p "${data%/*}/"); fi
if [ ! -d "$data" ]; then mkdir "$data"; fi
chown "$user:$user" "$data"
chmod 0700 "$data"
