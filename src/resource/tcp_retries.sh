# Who owns net.ipv4.tcp_retries2 of a server on behalf of its members. The file remembers what it was before.
# set_retries CLUSTER NUMBER: sets it, now and at every boot.
set_retries() {
  sysctl=/etc/sysctl.d/60-etcd-$1.conf
  live=/proc/sys/net/ipv4/tcp_retries2
  before=
  for other in /etc/sysctl.d/60-etcd-*.conf; do
    if [ -f "$other" ]; then before=$(sed -n 's/^# before: //p' "$other"); fi
  done
  if [ -z "$before" ]; then before=$(cat "$live"); fi
  (umask 022; mkdir -p /etc/sysctl.d
    write_text "$sysctl" "# How soon connections of etcd that fell silent are given up.
# before: $before
net.ipv4.tcp_retries2 = $2")
  if ! echo "$2" >"$live"; then
    echo "net.ipv4.tcp_retries2 can't be set on this server: $live can't be written (in a container its host has to set it)" >&2
    exit 3
  fi
}
# forget_retries CLUSTER: takes back what a member had net.ipv4.tcp_retries2 set to, unless another cluster's has it set too.
forget_retries() {
  sysctl=/etc/sysctl.d/60-etcd-$1.conf
  if [ ! -f "$sysctl" ]; then return 0; fi
  to=$(sed -n 's/^# before: //p' "$sysctl")
  rm -f "$sysctl"
  for other in /etc/sysctl.d/60-etcd-*.conf; do
    if [ -f "$other" ]; then to=$(sed -n 's/^net.ipv4.tcp_retries2 = //p' "$other"); fi
  done
  if [ -n "$to" ]; then echo "$to" >/proc/sys/net/ipv4/tcp_retries2 || true; fi
}
