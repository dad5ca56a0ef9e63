# The member's user and folders. Given: user, directory, pki.
if ! id "$user" >/dev/null 2>&1; then
  useradd --system --user-group --no-create-home --home-dir /nonexistent --shell "$(command -v nologin || echo /bin/false)" "$user"
fi
(umask 022; mkdir -p "$(dirname "$directory")")
mkdir -p "$directory" "$pki"
chown root:"$user" "$directory" "$pki"
chmod 0750 "$directory" "$pki"
rm -f "$directory/resting"
