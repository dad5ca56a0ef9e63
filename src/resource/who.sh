# Which machine this is, and whose member its files are of. Changes nothing. Given: member_name (who the member is by its files, or empty).
# A copy of a machine may have its host key and machine-id, and containers have their kernel's boot ID in common: together these differ.
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null) || boot=
spaces=$(readlink /proc/1/ns/mnt 2>/dev/null)$(readlink /proc/1/ns/net 2>/dev/null) || spaces=
if [ -n "$boot" ] && [ -n "$spaces" ]; then tell system "$boot $spaces"; fi
if [ -n "$member_name" ]; then tell member-name "$member_name"; fi
if command -v ip >/dev/null 2>&1; then
  ip addr show 2>/dev/null | while read -r kind address rest; do
    case $kind in inet | inet6) tell_each interface-address "${address%%/*}" ;; esac
  done
fi
