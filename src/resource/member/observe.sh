# What this server holds of the member. Changes nothing. Given: cluster, data, unit, ports, binary, files, with_key.
etc=/etc/etcd/$cluster
if [ -f "$etc/token" ]; then printf 'token=%s\n' "$(cat "$etc/token")"; fi
if [ -f "$etc/founding-permit" ]; then printf 'permit=%s\n' "$(cat "$etc/founding-permit")"; fi
# A write-ahead log makes a member's data, as for the guard that starts it; a first start that was cut off before it
# had one may have left `member` behind.
content=empty
if [ -n "$(ls -A "$data" 2>/dev/null | grep -v -x -e member -e 'member\.incomplete\..*')" ]; then content=other; fi
for segment in "$data"/member/wal/*.wal; do
  if [ -e "$segment" ]; then content=member; fi
done
echo "data=$content"
systemctl show -p MainPID -p ActiveState -p SubState -p Result -p UnitFileState "$unit" 2>/dev/null | sed 's/^/unit./'
main=$(systemctl show -p MainPID --value "$unit" 2>/dev/null) || main=0
case ${main:-0} in 0) ;; *) printf 'executable=%s\n' "$(readlink "/proc/$main/exe" 2>/dev/null)" ;; esac
report_ports "$ports" "${main:-0}"
for file in $files; do
  if [ -f "$file" ]; then printf 'file=%s %s\n' "$(sha256sum <"$file" | cut -d' ' -f1)" "$file"; fi
done
printf 'machine=%s\n' "$(uname -m)"
if [ -d "$binary" ]; then binary=$binary/etcd; fi
if [ -f "$binary" ]; then
  printf 'binary-path=%s\n' "$binary"
  printf 'binary=%s\n' "$("$binary" --version 2>/dev/null | sed -n 's/^etcd Version: *//p')"
fi
if [ -f "$etc/etcd.yaml" ]; then printf 'config=%s\n' "$(base64 <"$etc/etcd.yaml" | tr -d '\n')"; fi
for name in peer peer-client server peer-ca client-ca; do
  if [ -f "$etc/pki/$name.crt" ]; then printf 'certificate.%s=%s\n' "$name" "$(base64 <"$etc/pki/$name.crt" | tr -d '\n')"; fi
done
if [ "$with_key" = yes ] && [ -f "$etc/pki/server.key" ]; then
  printf 'key=%s\n' "$(base64 <"$etc/pki/server.key" | tr -d '\n')"
fi
