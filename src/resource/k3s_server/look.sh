# What of k3s is on the server. Given: cluster, wanted (the program that is to be there).
etc=/etc/etcd-k3s/$cluster
tell_file configuration /etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml
tell_file unit /etc/systemd/system/k3s.service
tell_file guard "$etc/guard"
tell_file kubeconfig /etc/rancher/k3s/k3s.yaml
tell_file join-token /var/lib/rancher/k3s/server/token
if [ -f "$etc/binary" ]; then tell binary "$(cat "$etc/binary")"; fi
if [ -f "$etc/object" ]; then tell object "$(head -c 200 "$etc/object")"; fi
if [ -f "$etc/restart-pending" ]; then tell pending yes; fi
if [ ! -f "$etc/external" ] && [ -e /var/lib/rancher/k3s/server/db/etcd/tombstone ]; then tell removed yes; fi
if [ -f "$etc/resting" ]; then tell resting yes; fi
if [ -f /etc/systemd/system/k3s.service ]; then systemctl show -p ActiveState k3s.service | tell_pairs ''; fi
if [ -n "$wanted" ] && [ -x "$wanted" ]; then
  loose=$(others_write "$wanted")
  tell loose "$loose"
  if [ -z "$loose" ]; then
    version=$(without_root 65534 65534 '' 20 "$wanted" --version 2>/dev/null | head -c 4000 | sed -n 's/^k3s version \([^ ]*\).*/\1/p' | head -n 1)
    tell version "${version:-unknown}"
  fi
fi
