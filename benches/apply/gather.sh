# Prints what the provider left on a server: the member's user, the block of the hosts file and an archive of the files, each
# in base64 on a line of its own.
set -eu
test -f /etc/etcd/main/token && test -f /etc/etcd/main/founding.yaml
sed -n 's/^User=//p' /etc/systemd/system/etcd-main.service | base64 -w0
echo
sed -n '/^# BEGIN etcd cluster main /,/^# END etcd cluster main/p' /etc/hosts | base64 -w0
echo
tar -C / -cf - etc/etcd/main etc/systemd/system/etcd-main.service | base64 -w0
