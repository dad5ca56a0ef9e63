# The member's user and folders. Given: user, directory, pki, unit. Needs host/privilege.sh. Notes in new_unit whether its unit is still to be written.
if [ -e "/etc/systemd/system/$unit" ]; then new_unit=; else new_unit=yes; fi
if ! id "$user" >/dev/null 2>&1; then
  useradd --system --user-group --no-create-home --home-dir /nonexistent --shell "$(command -v nologin || echo /bin/false)" "$user"
fi
if [ ! -d "${directory%/*}/" ]; then (umask 022; mkdir -p "${directory%/*}/"); fi
mkdir -p "$directory" "$pki"
only_roots "$directory"
chown root:"$user" "$directory" "$pki"
chmod 0750 "$directory" "$pki"
if [ -e "$directory/resting" ]; then rm -f "$directory/resting"; fi
