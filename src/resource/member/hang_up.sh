# Closes the member's connections on which the far end acknowledges nothing, those that it has dialled to the one that is dead, and those to peers on
# which nothing comes.
# Given: unit, dead (`address:port`, as dialled from here; empty if nobody is), ports (of peers, separated by spaces; none are looked at for what comes
# where this is empty).
# A packet that was sent three times and more has been waited for for over a second (the kernel doubles its time-out of 200 ms and more
# at each). On a stream that a member has dialled its peer says something every 1.7 s (etcd rafthttp, a third of ConnReadTimeout). After a cut nothing
# may come on it for as long as the cut took and longer: the peer has closed it, and sends the end of it again at ever longer intervals, while it
# answers the kernel's own probes. Nothing has been sent on such a one either, unlike where a snapshot goes out.
# If the far end is there after all, etcd dials it again at once.
main=$(systemctl show -p MainPID --value "$unit")
if command -v ss >/dev/null 2>&1 && [ "${main:-0}" != 0 ]; then
  ss -Htnpoi state established 2>/dev/null | sed 's/\[::ffff:\([0-9.]*\)\]/\1/g' | awk -v owner="pid=$main," -v dead="$dead" -v ports=" $ports " '
    function number(before) {
      if (!match($0, before "[0-9]+")) return 0
      return substr($0, RSTART + length(before), RLENGTH - length(before)) + 0
    }
    function close_it() { if (far != "") print near, far; far = "" }
    # What the kernel knows of a socket stands on the line after it.
    /^\t/ { if (number("lastsnd:") > 10000 && number("lastrcv:") > 10000 && dialled) close_it(); next }
    {
      near = $3; far = $4; port = far; sub(/.*:/, "", port)
      dialled = index(ports, " " port " ") > 0
      if (!index($0, owner)) { far = ""; next }
      tries = 0
      if (match($0, /timer:\(on,[^,]*,[0-9]+/)) { tries = substr($0, RSTART, RLENGTH); sub(/.*,/, "", tries) }
      if (tries + 0 >= 3 || far == dead) close_it()
    }' | while read -r near far; do
    ss -K -Htn state established src "$near" dst "$far" >/dev/null 2>&1 || true
    printf 'closed=%s\n' "$far"
  done
fi
