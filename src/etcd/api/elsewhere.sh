# At which port the member listens for clients, if it runs. Given: cluster. Answers `port`.
# The file is what it runs with, unless it is about to be restarted in this moment.
main=$(systemctl show -p MainPID --value "etcd-$cluster.service" 2>/dev/null) || main=0
case $main in
  '' | 0) ;;
  *)
    urls=$(sed -n 's/^listen-client-urls: *//p' "/etc/etcd/$cluster/etcd.yaml" 2>/dev/null | head -n 1 | tr -d "\"' ")
    port=${urls%%,*}
    port=${port##*:}
    case $port in '' | *[!0-9]*) ;; *) tell port "$port" ;; esac
    ;;
esac
