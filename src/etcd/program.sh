# version_said: the version of etcd, from what etcd --version prints on standard input.
version_said() { head -c 4000 | sed -n 's/^etcd Version: *\([0-9A-Za-z.+-]*\)$/\1/p' | head -n 1; }
# version_by COMMAND...: the version that a command says. It writes into a file, and no further than its limit: a pipe would be waited for as long as
# a process that it leaves behind holds it.
version_by() {
  said=$(mktemp /run/terraform-provider-etcd.version.XXXXXX) || return 0
  (ulimit -f 100; "$@" >"$said" 2>/dev/null) || true
  version_said <"$said"
  rm -f "$said"
}
# version_of PROGRAM: the version of etcd that a program says it is. It is run as nobody, and not at all if others than root could have put it there.
version_of() {
  if [ -z "$(others_write "$1")" ]; then version_by without_root 65534 65534 '' 10 "$1" --version; fi
}
# version_of_process PID: the same of the program that a process runs. It is run as the process's own user, which it is run as anyway; root's as
# nobody, from a copy, as nobody can't reach the original.
version_of_process() {
  version=$(version_by as_process "$1" 10 "/proc/$1/exe" --version)
  if [ -z "$version" ] && [ "$(stat -c %u "/proc/$1" 2>/dev/null)" = 0 ]; then
    # A file system that is mounted with noexec runs no copy.
    for place in /var/lib /usr/local/lib /opt /run; do
      copy=$(mktemp -d "$place/etcd-look.XXXXXX" 2>/dev/null) || continue
      if head -c 300000000 "/proc/$1/exe" >"$copy/etcd" 2>/dev/null && chmod 0755 "$copy" "$copy/etcd"; then
        version=$(version_by without_root 65534 65534 '' 10 "$copy/etcd" --version)
      fi
      rm -rf "$copy"
      if [ -n "$version" ]; then break; fi
    done
  fi
  printf '%s' "$version"
}
# loose_program PROGRAM: as others_write, for a program of etcd's and those that lie beside it.
loose_program() {
  for each in "$1" "${1%/*}/etcdctl" "${1%/*}/etcdutl"; do others_write "$each"; done | head -n 1
}
# is_script FILE: whether a file is a script, which takes another program to run.
is_script() { [ "$(head -c 2 "$1" 2>/dev/null)" = '#!' ]; }
# sum_of FILE: its SHA-256. More than any etcd has is not read.
sum_of() {
  sum=$(timeout -s KILL 60 head -c 300000000 "$1" 2>/dev/null | sha256sum)
  printf '%s' "${sum%% *}"
}
# program_sums PROGRAM PID: tells the SHA-256 of a program, and of what a process runs (0: there is none). Mostly they are one file, which is read once.
program_sums() {
  sum=$(sum_of "$1")
  tell binary-sum "$sum"
  if [ "$2" != 0 ]; then
    if [ ! "/proc/$2/exe" -ef "$1" ]; then sum=$(sum_of "/proc/$2/exe"); fi
    tell running-sum "$sum"
  fi
}
