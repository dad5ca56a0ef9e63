# Restarts the member with the configuration for a snapshot, and waits for that. Given: unit, data, pending.
touch "$pending"
systemctl restart "$unit" 2>/dev/null || true
tries=0
while [ -z "$(find "$data/member/snap" -name '*.snap' -newer "$pending" 2>/dev/null)" ]; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ]; then
    echo "the member wrote no raft snapshot within 60 s; without one the newer version can't read its log" >&2
    exit 3
  fi
  sleep 0.2
done
