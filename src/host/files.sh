# How files of root's are written: each is first written next to its place, and then renamed. One that can't be written ends the script, with its path, why,
# and what was written before.
changed=0
put_why=
put_done=
case $(command -v printf) in
  printf) put_say() { printf '%s\n' "$1"; } ;;
  *) put_say() {
    cat <<END-OF-TEXT
$1
END-OF-TEXT
  } ;;
esac
rm_stale() { if [ -e "$1" ] || [ -L "$1" ]; then rm -f "$1"; fi; }
# put_text FILE TEXT. The shell's own printf says "I/O error" where the disk is full, so the text is written again by a program that says why.
put_text() {
  put_at=$1
  rm_stale "$1" && set -C && put_say "$2" 2>/dev/null >"$1" && set +C && return 0
  set +C
  rm_stale "$1"
  put_why=$({ put_say "$2" 2>/dev/null | { set -C; cat >"$1"; }; } 2>&1) || true
  return 1
}
# put_bytes FILE: the same of base64 on standard input.
put_bytes() {
  put_at=$1
  rm_stale "$1" && put_why=$({ set -C; base64 -d >"$1"; } 2>&1)
}
# put_place FILE NEW: renames a new file to its place, unless it is there already.
put_place() {
  if [ -f "$1" ] && [ ! -L "$1" ] && [ "$(sha256sum <"$1")" = "$(sha256sum <"$2")" ] &&
    [ "$(stat -c %a:%u:%g "$1")" = "$(stat -c %a:%u:%g "$2")" ]; then
    rm -f "$2"
  else
    mv -fT "$2" "$1" || return 1
    changed=1
    put_done="$put_done${put_done:+ }$1"
    tell_each changed-file "$1"
  fi
}
# put_failed NEW...: removes what was written next to its place, says what is so, and ends the script.
put_failed() {
  set +C
  rm -f "$@"
  if [ -n "$put_why" ]; then
    put_folder=${put_at%/*}
    echo "${put_at%."$$".new} can't be written: ${put_why##*: }. See \`df -h $put_folder\`, \`df -i $put_folder\` and \`findmnt -T $put_folder\` there" >&2
  fi
  echo "Files that this step has written before: ${put_done:-none}. Mend that, and apply again" >&2
  exit 1
}
# write_text FILE TEXT: a file of the script's own.
write_text() {
  { put_text "$1.$$.new" "$2" && mv -fT "$1.$$.new" "$1"; } || put_failed "$1.$$.new"
}
