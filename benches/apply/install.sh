# Puts a member's files in their place and starts it; ends when the member answers a linearizable read, which takes a quorum.
# The unit does not wait for that (it is of type exec), so this has to.
# Given: user, hosts_block, files (a tar archive in base64), etcd (the folder with the binaries).
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
pki=/etc/etcd/main/pki
tries=0
until ETCDCTL_API=3 "$etcd/etcdctl" --command-timeout=2s --endpoints=https://127.0.0.1:2379 --cacert=$pki/client-ca.crt \
  --cert=$pki/server.crt --key=$pki/server.key endpoint health >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ]; then
    echo "the member does not become healthy" >&2
    exit 1
  fi
  sleep 0.05
done
