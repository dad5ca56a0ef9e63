# Puts the snapshot's data in place, unless the member has data. Given: cluster, data, user, snapshot, and what restore_data needs.
alone_on "restoring-$cluster" 600
held=no
for segment in "$data"/member/wal/*.wal; do
  if [ -e "$segment" ]; then held=yes; fi
done
if [ $held = no ]; then
  # The member's user reads it, and nobody else but root.
  if [ -f "$snapshot" ]; then
    chmod 0711 "$(dirname "${snapshot%/*}")"
    chgrp "$user" "${snapshot%/*}" "$snapshot"
    chmod 0750 "${snapshot%/*}"
    chmod 0640 "$snapshot"
  fi
  restore_data "$snapshot"
  if [ -e "$data/member" ]; then as_user "$user" 60 mv -T "$data/member" "$data/member.incomplete.$(date +%s).$$"; fi
  put_restored
fi
exec 9>&-
