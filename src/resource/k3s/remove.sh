# Needs host/mounts.sh.
# stop_k3s: stops the server, with everything that it runs.
stop_k3s() {
  if [ -f /etc/systemd/system/k3s.service ]; then
    systemctl --quiet disable k3s.service 2>/dev/null || true
    systemctl stop k3s.service 2>/dev/null || true
    # Its containers outlive it (KillMode=process).
    systemctl kill --kill-who=all --signal=KILL k3s.service 2>/dev/null || true
    systemctl reset-failed k3s.service 2>/dev/null || true
  fi
}
# rest_k3s CLUSTER MODE: stops it and leaves everything where it is; whoever takes the cluster away does to its data as MODE says.
rest_k3s() {
  [ -d "/etc/etcd-k3s/$1" ] || return 0
  stop_k3s
  write_text "/etc/etcd-k3s/$1/resting" "$2"
}
# unmount_pods: takes away the mounts of its pods. One that is in use stays: only what holds no volume, the files of containers and their networks, is
# taken out of sight all the same.
unmount_pods() {
  points=$(mounts below /run/k3s /run/netns /var/lib/kubelet/pods /var/lib/kubelet/plugins) || exit 4
  printf '%s\n' "$points" | while IFS= read -r point; do
    decode "$point"
    case $decoded in
      '') ;;
      /run/k3s/* | /run/netns/cni-*) umount -f "$decoded" 2>/dev/null || umount -l "$decoded" 2>/dev/null || true ;;
      /run/netns/*) ;;
      *) umount -f "$decoded" 2>/dev/null || true ;;
    esac
  done
}
# remove_k3s CLUSTER STAMP MODE: takes k3s off the server: unit, configuration, what was installed, interfaces and mounts of its pods. Its data
# is renamed (MODE keep_data) or deleted (delete_data). Answers `kept`. Safe to repeat. Where a volume is mounted still below what is to be deleted it
# answers `mounted`, and the script ends: k3s is stopped then, and all its files are there.
remove_k3s() {
  etc=/etc/etcd-k3s/$1
  stop_k3s
  unmount_pods
  doomed="/usr/local/lib/etcd-k3s /run/k3s /var/lib/cni"
  if [ "$3" = delete_data ]; then doomed="$doomed /var/lib/rancher/k3s /var/lib/kubelet"; fi
  # shellcheck disable=SC2086 # a list
  if ! nothing_mounted_below $doomed; then exit 0; fi
  if [ -f /etc/systemd/system/k3s.service ] && grep -q 'Managed by Terraform' /etc/systemd/system/k3s.service; then
    rm -f /etc/systemd/system/k3s.service
    systemctl daemon-reload
  fi
  for link in cni0 flannel.1 flannel-wg flannel-v6.1 flannel-wg-v6 kube-ipvs0; do
    ip link delete "$link" 2>/dev/null || true
  done
  rm -f /etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml /etc/rancher/k3s/config.yaml.d/51-etcd-k3s-start.yaml /etc/rancher/k3s/etcd-k3s.token \
    /etc/rancher/k3s/k3s.yaml /etc/rancher/node/password
  rmdir /etc/rancher/k3s/config.yaml.d /etc/rancher/k3s /etc/rancher/node /etc/rancher 2>/dev/null || true
  if [ -L /usr/local/bin/k3s ]; then
    case $(readlink /usr/local/bin/k3s) in /usr/local/lib/etcd-k3s/*) rm -f /usr/local/bin/k3s ;; esac
  fi
  rm -f /etc/cni/net.d/10-flannel.conflist
  # shellcheck disable=SC2086
  delete_trees $doomed
  if [ "$3" != delete_data ] && [ -d /var/lib/rancher/k3s ]; then
    at=$(mounts at /var/lib/rancher/k3s) || exit 4
    if [ -z "$at" ]; then
      mv -T /var/lib/rancher/k3s "/var/lib/rancher/k3s.removed-$2"
      tell kept "/var/lib/rancher/k3s.removed-$2"
    # A disk of its own can't be renamed: what is on it is put into a folder there.
    elif [ -n "$(find /var/lib/rancher/k3s/. ! -name . -prune ! -name lost+found ! -name 'k3s.removed-*')" ]; then
      mkdir "/var/lib/rancher/k3s/k3s.removed-$2"
      for kept in agent data server storage; do
        if [ -e "/var/lib/rancher/k3s/$kept" ]; then mv -T "/var/lib/rancher/k3s/$kept" "/var/lib/rancher/k3s/k3s.removed-$2/$kept"; fi
      done
      tell kept "/var/lib/rancher/k3s/k3s.removed-$2"
    fi
  fi
  rmdir /var/lib/rancher 2>/dev/null || true
  rm -f "$etc/founding-permit" "$etc/joining-permit" "$etc/founded" "$etc/binary" "$etc/guard" "$etc/external" "$etc/restart-pending" "$etc/resting" "$etc/object"
}
