# Whether the founding member of this server runs: it has data, and no permit any more. Given: cluster, unit.
etc=/etc/etcd/$cluster
data=
if [ -f "$etc/etcd.yaml" ]; then
  while IFS= read -r line; do
    case $line in data-dir:*) data=${line#data-dir:} ;; esac
  done <"$etc/etcd.yaml"
  data=${data# }
  data=${data#[\"\']}
  data=${data%[\"\']}
fi
data=${data:-/var/lib/etcd/$cluster}
await_start "$unit" "$etc" "$data"
if [ ! -f "$etc/founding-permit" ]; then
  for segment in "$data"/member/wal/*.wal; do
    if [ -e "$segment" ]; then
      if systemctl --quiet is-active "$unit"; then tell started yes; fi
      break
    fi
  done
fi
