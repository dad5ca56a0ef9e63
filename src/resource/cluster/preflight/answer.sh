# Answers one connection to the port that the member will have. Standard input and output are the connection. Who doesn't know the
# nonce gets nothing. Given: nonce, name. Runs as nobody in particular.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The address that it comes from, as the kernel writes it.
inode=$(readlink /proc/self/fd/0)
inode=${inode#*:?}
seen=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep " ${inode%?} ")
while read -r word bytes; do
  if [ "$word" != "$nonce" ]; then exit 0; fi
  case $bytes in '' | *[!0-9]*) exit 0 ;; esac
  set -- $seen
  echo "$nonce $name $2 $3"
  if [ "$bytes" -lt 16384 ]; then printf "%*s" "$bytes" ""; else timeout 9 head -c "$bytes" /dev/zero & fi
  got=$(timeout 8 head -c "$bytes" | wc -c)
  wait
  echo "got $got"
done
