# What of k3s is on the server. Given: cluster, wanted (the program that is to be there).
etc=/etc/etcd-k3s/$cluster
give() { if [ -f "$2" ]; then echo "$1=$(base64 -w 0 <"$2")"; fi; }
give configuration /etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml
give unit /etc/systemd/system/k3s.service
give guard "$etc/guard"
give kubeconfig /etc/rancher/k3s/k3s.yaml
give join-token /var/lib/rancher/k3s/server/token
if [ -f "$etc/binary" ]; then echo "binary=$(cat "$etc/binary")"; fi
if [ -f "$etc/restart-pending" ]; then echo pending=yes; fi
if [ -f "$etc/resting" ]; then echo resting=yes; fi
if [ -f /etc/systemd/system/k3s.service ]; then systemctl show -p ActiveState k3s.service; fi
if [ -n "$wanted" ] && [ -x "$wanted" ]; then
  version=$("$wanted" --version 2>/dev/null | sed -n 's/^k3s version \([^ ]*\).*/\1/p' | head -n 1)
  echo "version=${version:-unknown}"
fi
