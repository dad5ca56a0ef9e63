# version_said: the version of etcd, from what etcd --version prints on standard input.
version_said() { head -c 4000 | sed -n 's/^etcd Version: *\([0-9A-Za-z.+-]*\)$/\1/p' | head -n 1; }
# version_of PROGRAM: the version of etcd that a program says it is. It is run as nobody, and not at all if others than root could have put it there.
version_of() {
  if [ -z "$(others_write "$1")" ]; then without_root 65534 65534 10 "$1" --version 2>/dev/null | version_said; fi
}
# version_of_process PID: the same of the program that a process runs, also where its file was replaced since. It is run as the process's own user,
# which it is run as anyway; root's as nobody, from a copy, as nobody can't reach the original.
version_of_process() {
  case $(stat -c %u "/proc/$1" 2>/dev/null) in
    '') ;;
    0)
      copy=$(mktemp -d /var/lib/etcd-look.XXXXXX) || return 0
      head -c 300000000 "/proc/$1/exe" >"$copy/etcd" 2>/dev/null && chmod 0755 "$copy" "$copy/etcd" &&
        without_root 65534 65534 10 "$copy/etcd" --version 2>/dev/null | version_said
      rm -rf "$copy"
      ;;
    *) as_owner "/proc/$1" 10 "/proc/$1/exe" --version 2>/dev/null | version_said ;;
  esac
}
# loose_program PROGRAM: as others_write, for a program of etcd's and those that lie beside it.
loose_program() {
  for each in "$1" "${1%/*}/etcdctl" "${1%/*}/etcdutl"; do
    if [ -e "$each" ]; then others_write "$each"; fi
  done | head -n 1
}
