# Has the survivor's member read its log, unless its data was made already. Given: what survivor.sh gives.
#
# What the member knows to be committed may be in its log alone, as after a crash, and only etcd brings it into the database. So it is started
# once more, with options for this start alone: every entry is written into the database at once, since without a quorum it does not end in order;
# and it measures for whoever asks on this server, since without a quorum it serves no clients. It says how far it has committed, and up to
# where its last raft snapshot goes: `process`, `port`, `committed`, `from`.
alone_on "restoring-$cluster" 600
if to_make; then
  systemctl stop "$unit"
  port=23790
  while [ -n "$(report_ports "$port" 0)" ]; do port=$((port + 1)); done
  once=$etc/snapshot.yaml
  cp -p "$etc/etcd.yaml" "$once.new"
  {
    sed -E '/^(listen-metrics-urls|backend-batch-limit|log-level|log-outputs|logger|enable-log-rotation|log-rotation-config-json): /d' "$etc/etcd.yaml"
    printf 'listen-metrics-urls: "http://127.0.0.1:%s"\nbackend-batch-limit: 1\nlog-level: "info"\nlog-outputs: ["stderr"]\nlogger: "zap"\n' "$port"
  } >"$once.new"
  mv -T "$once.new" "$once"
  systemctl reset-failed "$unit" 2>/dev/null || true
  systemctl start "$unit" || true
  process=$(systemctl show -p MainPID --value "$unit")
  invocation=$(systemctl show -p InvocationID --value "$unit")
  log() { journalctl _SYSTEMD_INVOCATION_ID="$invocation" -o cat --no-pager "$@" 2>/dev/null || true; }
  tries=0
  while :; do
    said=$(log | sed -n 's/.*newRaft [^"]* commit: \([0-9]*\), applied: \([0-9]*\),.*/committed=\1 from=\2/p' | head -n 1)
    if [ -n "$said" ]; then break; fi
    tries=$((tries + 1))
    if [ $tries -gt 3000 ] || [ "$process" = 0 ] || [ "$(systemctl show -p MainPID --value "$unit")" != "$process" ]; then
      echo "the member did not open its log:" >&2
      log -n 5 >&2
      exit 3
    fi
    sleep 0.2
  done
  tell process "$process"
  tell port "$port"
  # shellcheck disable=SC2086
  printf '%s\n' $said | tell_pairs ''
fi
exec 9>&-
