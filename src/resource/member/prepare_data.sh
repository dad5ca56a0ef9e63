# The member's data directory. Given: user, data.
(umask 022; mkdir -p "$(dirname "$data")")
if [ ! -d "$data" ]; then mkdir "$data"; fi
chown "$user:$user" "$data"
chmod 0700 "$data"
