# The certificates of this server's member. Changes nothing. Given: cluster.
etc=/etc/etcd/$cluster
if systemctl --quiet is-active "etcd-$cluster.service"; then tell running yes; fi
if [ -f "$etc/restart-pending" ]; then tell restart-pending yes; fi
for name in peer peer-client server operator peer-ca client-ca; do tell_file "$name" "$etc/pki/$name.crt"; done
