# Closes the member's connections with peers on which the far end acknowledges nothing, those on which nothing comes, and those that it has dialled to
# the one that is dead; and one that it has dialled to each peer that it counts as lost though that one speaks.
# Given: unit, ports (of peers, separated by spaces), dead (`address:port`, as dialled from here; empty if nobody is), lost (the same, separated by
# spaces).
# A packet that was sent three times and more has been waited for for over a second (the kernel doubles its time-out of 200 ms and more
# at each). On a stream that a member has dialled its peer says something every 1.7 s (etcd rafthttp, a third of ConnReadTimeout). After a cut nothing
# may come on it for as long as the cut took and longer: the peer has closed it, and sends the end of it again at ever longer intervals, while it
# answers the kernel's own probes. Nothing has been sent on such a one either, unlike where a snapshot goes out.
# If the far end is there after all, etcd dials it again at once. Of the two streams from a peer that counts as lost one is left: should the peer not be
# reached anew, it still is heard.
# The service's processes: the main one, and what it has started.
group=$(systemctl show -p ControlGroup --value "$unit")
pids=" $(systemctl show -p MainPID --value "$unit") $(cat "/sys/fs/cgroup$group/cgroup.procs" 2>/dev/null | tr '\n' ' ') "
if [ -n "$group" ] && command -v ss >/dev/null 2>&1; then
  ss -Htnpoi state established 2>/dev/null | sed 's/\[::ffff:\([0-9.]*\)\]/\1/g' |
    awk -v pids="$pids" -v ports=" $ports " -v dead="$dead" -v lost="$lost" '
    function number(before) {
      if (!match($0, before "[0-9]+")) return 0
      return substr($0, RSTART + length(before), RLENGTH - length(before)) + 0
    }
    function ours() { return match($0, /pid=[0-9]+/) && index(pids, " " substr($0, RSTART + 4, RLENGTH - 4) " ") > 0 }
    function of_peers(end) { sub(/.*:/, "", end); return index(ports, " " end " ") > 0 }
    function close_it() { if (far != "") print near, far; far = "" }
    BEGIN { count = split(lost, all, " "); for (i = 1; i <= count; i++) anew[all[i]] = 1 }
    # What the kernel knows of a socket stands on the line after it.
    /^\t/ {
      if (far == "" || !dialled || number("lastsnd:") <= 10000) next
      heard = number("lastrcv:")
      if (heard > 10000) close_it()
      else if (heard < 5000 && far in anew) { delete anew[far]; close_it() }
      next
    }
    {
      near = $3; far = $4; dialled = of_peers(far)
      if (!ours() || !dialled && !of_peers(near)) { far = ""; next }
      tries = 0
      if (match($0, /timer:\(on,[^,]*,[0-9]+/)) { tries = substr($0, RSTART, RLENGTH); sub(/.*,/, "", tries) }
      if (tries + 0 >= 3 || far == dead) close_it()
    }' | while read -r near far; do
    ss -K -Htn state established src "$near" dst "$far" >/dev/null 2>&1 || true
    tell_each closed "$far"
  done
fi
