# ask_etcd: asks etcd whether it accepts the configuration `check`, which it can't run with. Answers `refused-configuration` with its own words if not,
# or `not-run` with why it can't be run, and is 1 then. Nothing is touched. Given: check, program, user, arch. Needs host/privilege.sh.
ask_etcd() {
  said=$(as_user "$user" 20 env "ETCD_UNSUPPORTED_ARCH=$arch" "$program" --config-file="$check" 2>&1 | head -c 60000) || true
  # Its last words if it accepts everything: it can't make its data directory.
  case $said in *'cannot access data directory'*etcd-is-only-asked*) return 0 ;; esac
  # 3.4 has no levels in JSON. What comes after a panic is no cause.
  cause=$(printf '%s\n' "$said" |
    grep -E '"level":"(warn|error|dpanic|panic|fatal)"|^panic:|^[-0-9]+ [0-9:.]+ [EC] \|' | tail -n 1 | sed 's/,"stacktrace":.*/}/' | head -c 2000)
  # That it can't listen at the loopback is nothing against the configuration.
  case $cause in *'listen tcp'* | *127.0.0.1*) return 0 ;; esac
  # What runs it can't run it.
  case $said in
    'env: '*"$program"*) tell not-run "$(printf '%s\n' "$said" | sed -n '1s/.*: //p')"; return 1 ;;
  esac
  # It ended for another reason, or not in time: nothing is known then.
  if [ -z "$cause" ]; then return 0; fi
  tell refused-configuration "$cause"
  return 1
}
