# What runs a member, its own service or the one before this provider. Changes nothing. Given: cluster, former. Needs host/privilege.sh,
# etcd/program.sh and process_file.sh.
etc=/etc/etcd/$cluster
if [ -f "$etc/token" ]; then read -r line <"$etc/token" || true; tell token "$line"; fi
tell load "$(systemctl show -p LoadState --value -- "$former")"
# What is stopped with it, or would start it again.
for unit in $(systemctl show -p RequiredBy -p BoundBy -p ConsistsOf -p TriggeredBy --value -- "$former"); do
  if systemctl --quiet is-active "$unit"; then tell_each tied "$unit"; fi
done
main=$(systemctl show -p MainPID --value "etcd-$cluster.service")
if [ "${main:-0}" != 0 ]; then tell ours yes; else main=$(systemctl show -p MainPID --value -- "$former"); fi
if [ "${main:-0}" != 0 ]; then
  tell process "$main"
  executable=$(readlink "/proc/$main/exe")
  tell executable "${executable% (deleted)}"
  tell version "$(version_of_process "$main")"
  tell arguments "$(tr '\0' '\n' <"/proc/$main/cmdline" | head -c 200000)"
  # Only what is etcd's: the rest may be secret.
  tell environment "$(tr '\0' '\n' <"/proc/$main/environ" | sed -n '/^ETCD_/p' | head -c 200000)"
  file=$(tr '\0' '\n' <"/proc/$main/cmdline" | sed -n -e 's/^--*config-file=//p' -e '/^--*config-file$/{n;p;}' | tail -n 1)
  if [ -z "$file" ]; then file=$(tr '\0' '\n' <"/proc/$main/environ" | sed -n 's/^ETCD_CONFIG_FILE=//p' | tail -n 1); fi
  case $file in
    '') ;;
    /*) tell_process_file file "$file" ;;
    *) tell_process_file file "$(readlink "/proc/$main/cwd")/$file" ;;
  esac
fi
