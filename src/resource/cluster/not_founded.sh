# Another run may have founded the cluster since it was looked at: a permit beside data would be taken for somebody else's data.
# Given: directory, data.
if [ -f "$directory/etcd.yaml" ]; then data=$(sed -n 's/^data-dir: *//p' "$directory/etcd.yaml" | head -n 1 | tr -d "\"'"); fi
for segment in "$data"/member/wal/*.wal; do
  if [ -e "$segment" ]; then
    echo "its member has started meanwhile: another run of Terraform is founding the cluster. Apply again when that is done" >&2
    exit 3
  fi
done
