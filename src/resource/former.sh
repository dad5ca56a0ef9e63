# What runs a member, its own service or the one before this provider. Changes nothing. Given: cluster, former.
etc=/etc/etcd/$cluster
if [ -f "$etc/token" ]; then read -r line <"$etc/token" || true; printf 'token=%s\n' "$line"; fi
printf 'load=%s\n' "$(systemctl show -p LoadState --value "$former")"
# What is stopped with it, or would start it again.
for unit in $(systemctl show -p RequiredBy -p BoundBy -p ConsistsOf -p TriggeredBy --value "$former"); do
  if systemctl --quiet is-active "$unit"; then printf 'tied=%s\n' "$unit"; fi
done
main=$(systemctl show -p MainPID --value "etcd-$cluster.service")
if [ "${main:-0}" != 0 ]; then echo ours=yes; else main=$(systemctl show -p MainPID --value "$former"); fi
if [ "${main:-0}" != 0 ]; then
  executable=$(readlink "/proc/$main/exe")
  printf 'executable=%s\n' "${executable% (deleted)}"
  printf 'version=%s\n' "$("/proc/$main/exe" --version 2>/dev/null | sed -n 's/^etcd Version: *//p')"
  printf 'arguments=%s\n' "$(tr '\0' '\n' <"/proc/$main/cmdline" | base64 -w 0)"
  # Only what is etcd's: the rest may be secret.
  printf 'environment=%s\n' "$(tr '\0' '\n' <"/proc/$main/environ" | sed -n '/^ETCD_/p' | base64 -w 0)"
  file=$(tr '\0' '\n' <"/proc/$main/cmdline" | sed -n -e 's/^--*config-file=//p' -e '/^--*config-file$/{n;p;}' | tail -n 1)
  if [ -z "$file" ]; then file=$(tr '\0' '\n' <"/proc/$main/environ" | sed -n 's/^ETCD_CONFIG_FILE=//p' | tail -n 1); fi
  case $file in
    '') ;;
    /*) report_text file "$file" ;;
    *) report_text file "/proc/$main/cwd/$file" ;;
  esac
fi
