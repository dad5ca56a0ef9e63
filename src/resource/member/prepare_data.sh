# The member's data directory. Given: user, data. Needs host/privilege.sh.
if [ ! -d "${data%/*}/" ]; then (umask 022; mkdir -p "${data%/*}/"); fi
if [ ! -d "$data" ]; then
  only_roots "${data%/*}"
  mkdir "$data"
fi
(
  # What is done to `.` is done to no other folder, whatever becomes of the path.
  cd -P -- "$data"
  if [ "$(stat -c %u .)" != "$(id -u "$user")" ]; then only_roots "${data%/*}"; fi
  chown "$user:$user" .
  chmod 0700 .
)
