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
