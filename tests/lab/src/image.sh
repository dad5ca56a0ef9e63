#!/bin/sh
# Makes the Debian root that all hosts share (read-only, under an overlay).
#   image.sh ROOT PUBLIC_KEY PASSWORD
# The name of the root has a checksum of this text: a change here makes a new one.
set -eu
root=$1 key=$2 password=$3

mmdebstrap --quiet --variant=minbase --mode=root \
  --include=systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,sudo,iproute2,iputils-ping,ca-certificates,procps,curl,netcat-openbsd,nftables \
  --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm "$root"

rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/resolv.conf" "$root/etc/hostname"
: >"$root/etc/resolv.conf"
: >"$root/etc/default/locale" # PAM complains in the log without it
mkdir -p "$root/opt/etcd"
printf 'UseDNS no\nPermitRootLogin prohibit-password\nPasswordAuthentication yes\n' >"$root/etc/ssh/sshd_config.d/lab.conf"
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
  dpkg-db-backup.timer systemd-pstore.service getty@tty1.service console-getty.service

# admin: sudo without a password. ops: sudo with one. guest: no sudo.
for user in admin ops guest; do
  chroot "$root" useradd --create-home --shell /bin/bash "$user"
  echo "$user:$password" | chroot "$root" chpasswd
done
echo 'admin ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/admin"
echo 'ops ALL=(ALL) ALL' >"$root/etc/sudoers.d/ops"
chmod 440 "$root/etc/sudoers.d/admin" "$root/etc/sudoers.d/ops"
for user in root admin ops guest; do
  home=$(chroot "$root" sh -c "echo ~$user")
  install -d -m 700 "$root$home/.ssh"
  install -m 600 "$key" "$root$home/.ssh/authorized_keys"
  chroot "$root" chown -R "$user:" "$home"
done
