# Answers one connection to the port that the member will have. Standard input and output are the connection. Who doesn't know the
# nonce gets nothing. Given: nonce, name. Runs as nobody in particular.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The address that it comes from, as the kernel writes it.
inode=$(readlink /proc/self/fd/0)
inode=${inode#*:?}
seen=$(grep -h " ${inode%?} " /proc/net/tcp /proc/net/tcp6 2>/dev/null)
# A line says how many bytes follow it, and how many are wanted.
while read -r word come go; do
  if [ "$word" != "$nonce" ]; then exit 0; fi
  case $come$go in '' | *[!0-9]*) exit 0 ;; esac
  set -- $seen
  echo "$nonce $name $2 $3"
  if [ "$go" -lt 16384 ]; then printf "%*s" "$go" ""; else timeout 8 head -c "$go" /dev/zero & fi
  got=0
  if [ "$come" != 0 ]; then got=$(timeout 7 head -c "$come" | wc -c); fi
  wait
  echo "got $got"
done
