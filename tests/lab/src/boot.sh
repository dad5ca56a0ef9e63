#!/bin/bash
# Keeps one host running: boots it, boots it again when it asks for a reboot, ends when it is powered off.
#   boot.sh CGROUP GROUP FOLDER ROOT NAMESPACE HOST MACHINE systemd|ssh-only ETCD
# CGROUP is this machine's cgroup2 mount and GROUP the host's group in it. Runs in a mount namespace of its own.
set -u
cgroup=$1 group=$2 folder=$3 root=$4 namespace=$5 host=$6 machine=$7 init=$8 etcd=$9
echo 0 >"$cgroup/$group/cgroup.procs" || exit 1

# nspawn wants to find the unified hierarchy in the usual place, and its own folder empty.
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=755 tmpfs /run/systemd/nspawn || exit 1
umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1
mount -t overlay overlay -o "lowerdir=$root,upperdir=$folder/upper,workdir=$folder/work" "$folder/root" || exit 1

process=(--boot)
[ "$init" = ssh-only ] && process=(--as-pid2 -- /bin/sh -c 'mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e')
binaries=()
[ -d "$etcd" ] && binaries=(--bind-ro="$etcd:/opt/etcd")

# --register=no --keep-unit: there may be no systemd on this machine to register with; then nspawn can't reboot by itself either
# and exits with 133 instead. Network sysctls are the host's own, so they may be written.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
while :; do
  boot=/sys/fs/cgroup/$group/boot
  mkdir -p "$boot"
  (
    echo 0 >"$boot/cgroup.procs"
    exec systemd-nspawn --quiet --directory="$folder/root" --machine="$machine" --hostname="$host" \
      --network-namespace-path="/run/netns/$namespace" --register=no --keep-unit --console=read-only --link-journal=no \
      --resolv-conf=off --timezone=off --capability=CAP_NET_ADMIN "${binaries[@]}" "${process[@]}"
  )
  code=$?
  echo "$(date +%T) systemd-nspawn ended with $code"
  for _ in 1 2 3 4 5 6 7 8 9 10; do # the groups of a host that has just ended can't be removed at once
    find "$boot" -depth -type d -exec rmdir {} + 2>/dev/null
    [ -d "$boot" ] || break
    sleep 0.05
  done
  [ $code = 133 ] || exit $code
done
