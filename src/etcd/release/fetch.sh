# fetch_etcd FOLDER URL SHA256 PROGRAM...: see etcd::release::fetch_script.
fetch_etcd() (
  folder=$1 url=$2 sum=$3
  shift 3
  stamp=$folder/.archive-sha256
  fail() { status=$1; shift; echo "$*" >&2; exit "$status"; }
  # A folder is only ever renamed into place whole, but its programs may have been taken away since.
  complete=yes
  for program in "$@"; do [ -x "$folder/$program" ] || complete=no; done
  if [ $complete = yes ] && [ -f "$stamp" ]; then
    if [ -n "$sum" ] && [ "$(cat "$stamp")" = "$sum" ]; then echo unchanged; exit 0; fi
    # Published archives don't change.
    if [ -z "$sum" ] && [ "$(cat "$folder/.archive-url" 2>/dev/null)" = "$url" ]; then echo unchanged; exit 0; fi
  fi
  # What is asked for over TLS never comes without it, redirects included. Without TLS only the sum says what it is.
  case $url in
    https://*) over=https ;;
    http://*)
      over=http,https
      [ -n "$sum" ] || fail 65 "$url is without TLS, and nothing says what its SHA-256 sum is: set binary.sha256"
      ;;
    *) fail 69 "$url does not begin with https:// or http://" ;;
  esac
  for tool in tar gzip sha256sum; do
    command -v $tool >/dev/null 2>&1 || fail 72 "there is no $tool on this server; install it, or use binary.upload or binary.host_path"
  done
  if command -v curl >/dev/null 2>&1; then
    over_network() {
      curl -fsSL --proto "=$over" --proto-redir "=$over" --max-redirs 10 --connect-timeout 20 --retry 3 --max-time 900 -o "$2" "$1" 2>"$work/said"
    }
  elif command -v wget >/dev/null 2>&1; then
    over_network() {
      wget -q -S -T 60 -O "$2" "$1" 2>"$work/said" || return
      # It follows redirects to wherever they lead, so what they brought is thrown away.
      if [ $over = https ] && grep -qi '^ *location: *http:' "$work/said"; then
        rm -f "$2"
        echo "it was redirected to an address without TLS" >"$work/said"
        return 1
      fi
    }
  else
    fail 72 "there is neither curl nor wget on this server; install one, or use binary.upload or binary.host_path"
  fi
  # get URL FILE MIB: fetches so much and no more.
  get() {
    (trap '' XFSZ; ulimit -f $(($3 * 2048)); over_network "$1" "$2") && return
    if [ -f "$2" ] && [ "$(wc -c <"$2")" -ge $(($3 * 1048576)) ]; then
      fail 69 "$1 is longer than $3 MiB, which is more than any release of etcd has"
    fi
    fail 69 "$1 can't be fetched from this server: $(grep -v '^  [A-Za-z-]*: ' "$work/said" | tail -n 1)"
  }
  umask 022
  parent=${folder%/*}
  mkdir -p "$parent" && work=$(mktemp -d "$parent/.fetch.XXXXXX") || fail 73 "no folder can be made in $parent"
  # A fetch that fails leaves nothing, not even the empty folder of all versions.
  trap 'rm -rf "$work"; rmdir "$parent" 2>/dev/null || :' EXIT
  trap 'exit 73' HUP INT TERM
  get "$url" "$work/archive" 256
  if [ -z "$sum" ]; then
    sums=${url%/*}/SHA256SUMS
    get "$sums" "$work/sums" 1
    sum=$(awk -v name="${url##*/}" '{ listed = $2; sub(/^\*/, "", listed); if (listed == name) { print $1; exit } }' "$work/sums")
    [ -n "$sum" ] || fail 65 "$sums doesn't list ${url##*/}"
  fi
  got=$(sha256sum <"$work/archive")
  got=${got%% *}
  [ "$got" = "$sum" ] || fail 65 "$url has the SHA-256 sum $got, but $sum was expected; nothing was unpacked"
  mkdir "$work/unpacked" "$work/new" || fail 73 "no folder can be made in $parent"
  (trap '' XFSZ; ulimit -f 2097152; gzip -dc "$work/archive" >"$work/tar" 2>"$work/said") || fail 66 "$url can't be unpacked: $(tail -n 1 "$work/said")"
  tar -C "$work/unpacked" -xf "$work/tar" 2>"$work/said" || fail 66 "$url can't be unpacked: $(tail -n 1 "$work/said")"
  for program in "$@"; do
    for place in "$work/unpacked/$program" "$work/unpacked"/*/"$program"; do
      [ -f "$place" ] && [ ! -L "$place" ] && break
    done
    [ -f "$place" ] && [ ! -L "$place" ] || fail 66 "$url holds no $program"
    mv -T "$place" "$work/new/$program" && chmod 0755 "$work/new/$program" || fail 73 "$work/new can't be written"
    if [ "$(id -u)" = 0 ]; then chown 0:0 "$work/new/$program" || fail 73 "$work/new can't be written"; fi
  done
  chmod 0755 "$work/new"
  printf '%s\n' "$sum" >"$work/new/.archive-sha256" && printf '%s\n' "$url" >"$work/new/.archive-url" || fail 73 "$work/new can't be written"
  if [ -e "$folder" ]; then
    mv -T "$folder" "$work/old" || fail 73 "$folder can't be replaced"
  fi
  mv -T "$work/new" "$folder" || { [ -e "$work/old" ] && mv -T "$work/old" "$folder"; fail 73 "$folder can't be written"; }
  echo changed
)
