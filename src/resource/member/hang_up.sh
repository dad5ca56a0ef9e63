# Closes the member's connections on which the far end acknowledges nothing, and those that it has dialled to the one that is dead.
# Given: unit, dead (`address:port`, as dialled from here; empty if nobody is).
# A packet that was sent three times and more has been waited for for over a second (the kernel doubles its time-out of 200 ms and more
# at each). If the far end is there after all, etcd dials it again at once.
main=$(systemctl show -p MainPID --value "$unit")
if command -v ss >/dev/null 2>&1 && [ "${main:-0}" != 0 ]; then
  ss -Htnpo state established 2>/dev/null | sed -n "/[(,]pid=$main,/p" | sed 's/\[::ffff:\([0-9.]*\)\]/\1/g' |
    sed -n -e 's/^ *[0-9]* *[0-9]* *\([^ ]*\) *\([^ ]*\) .*timer:(on,[^,]*,\([0-9]*\)).*/\3 \1 \2/p' -e t \
      -e 's/^ *[0-9]* *[0-9]* *\([^ ]*\) *\([^ ]*\) .*/0 \1 \2/p' | while read -r times near far; do
    if [ "$times" -ge 3 ] || [ "$far" = "$dead" ]; then
      ss -K -Htn state established src "$near" dst "$far" >/dev/null 2>&1 || true
      printf 'closed=%s\n' "$far"
    fi
  done
fi
