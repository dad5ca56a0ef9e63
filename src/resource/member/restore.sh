# Puts the snapshot's data in place, unless the member has data. Given: cluster, data, snapshot, and what restore_data needs.
alone "$cluster"
held=no
for segment in "$data"/member/wal/*.wal; do
  if [ -e "$segment" ]; then held=yes; fi
done
if [ $held = no ]; then
  restore_data "$snapshot"
  if [ -e "$data/member" ]; then mv "$data/member" "$data/member.incomplete.$(date +%s).$$"; fi
  put_restored
fi
exec 9>&-
