# Puts a member's files in their place and starts it; ends when etcd says that it is ready, which takes a quorum.
# The unit does not wait for that (it is of type exec), so this has to. Given: user, hosts_block, files (a tar archive in base64).
set -eu
umask 077
useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
printf '%s\n' "$hosts_block" >>/etc/hosts
(umask 022; mkdir -p /etc/etcd /var/lib/etcd)
printf '%s' "$files" | base64 -d | tar -C / -xpf -
mkdir /var/lib/etcd/main
chown "$user:$user" /var/lib/etcd/main
cp /etc/etcd/main/token /etc/etcd/main/founding-permit
systemctl daemon-reload
systemctl --quiet enable etcd-main.service 2>/dev/null
systemctl start etcd-main.service
# Looked for in the journal, as a client's time-outs and retries would add to the time.
start=$(systemctl show -p InvocationID --value etcd-main.service)
tries=0
until journalctl -q -o cat "_SYSTEMD_INVOCATION_ID=$start" | grep -q 'ready to serve client requests'; do
  tries=$((tries + 1))
  if [ $tries -gt 600 ]; then
    echo "the member did not become ready" >&2
    exit 1
  fi
  sleep 0.05
done
