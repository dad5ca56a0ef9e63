# Given: cluster, retries. Sets net.ipv4.tcp_retries2 of the server, now and at every boot, or with empty retries takes back what an
# earlier apply set. The file remembers what it was before.
sysctl=/etc/sysctl.d/60-etcd-$cluster.conf
live=/proc/sys/net/ipv4/tcp_retries2
if [ -n "$retries" ]; then
  before=
  for other in /etc/sysctl.d/60-etcd-*.conf; do
    if [ -f "$other" ]; then before=$(sed -n 's/^# before: //p' "$other"); fi
  done
  if [ -z "$before" ]; then before=$(cat "$live"); fi
  (umask 022; mkdir -p /etc/sysctl.d
    printf '# How soon connections of etcd that fell silent are given up.\n# before: %s\nnet.ipv4.tcp_retries2 = %s\n' "$before" "$retries" >"$sysctl.new")
  mv "$sysctl.new" "$sysctl"
  if ! echo "$retries" >"$live"; then
    echo "net.ipv4.tcp_retries2 can't be set on this server: $live can't be written (in a container its host has to set it)" >&2
    exit 3
  fi
else
  forget_retries "$cluster"
fi
