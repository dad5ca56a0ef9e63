# edit_hosts FILE BEGIN_MARK END_MARK BLOCK: see topology::hosts_block::script. Needs host/privilege.sh.
edit_hosts() (
  LC_ALL=C; export LC_ALL
  hosts_file=$1 begin_mark=$2 end_mark=$3 block=$4
  no_newline_note='# (the line above had no newline at its end)'
  fail() { status=$1; shift; echo "$*" >&2; exit "$status"; }
  [ -f "$hosts_file" ] || { [ -e "$hosts_file" ] || : >"$hosts_file"; } 2>/dev/null || fail 74 "$hosts_file can't be created"
  [ -f "$hosts_file" ] || fail 74 "$hosts_file is not a file"
  [ -r "$hosts_file" ] && [ -w "$hosts_file" ] || fail 74 "$hosts_file can't be read and written by $(id -un)"
  alone_on hosts 30 || exit 74
  work=$(mktemp -d) || fail 74 "no temporary folder can be made on this server"
  trap 'rm -rf "$work"' EXIT
  trap 'exit 74' HUP INT TERM
  cat "$hosts_file" >"$work/old" || fail 74 "$hosts_file can't be copied to $work"
  size=$(wc -c <"$work/old")
  [ "$(tr -d '\000' <"$work/old" | wc -c)" -eq "$size" ] ||
    fail 65 "$hosts_file contains NUL bytes; it is damaged: repair it by hand and apply again"
  # Line numbers only: awk must not copy, it would end a last line that has no end.
  found=$(BEGIN_MARK=$begin_mark END_MARK=$end_mark NOTE=$no_newline_note awk '
    { sub(/\r$/, "") }
    $0 == ENVIRON["BEGIN_MARK"] { begins++; first = NR; other = 0; next }
    $0 == ENVIRON["END_MARK"] { ends++; last = NR; inside = other; next }
    index($0, "# BEGIN etcd cluster ") == 1 && begins && !ends && !other { other = NR }
    begins && NR == first + 1 && $0 == ENVIRON["NOTE"] { note = 1 }
    END { print begins + 0, ends + 0, first + 0, last + 0, inside + 0, note + 0 }' "$work/old") ||
    fail 74 "awk failed on $hosts_file"
  read -r begins ends first last inside note <<FOUND
$found
FOUND
  if [ "$begins $ends" = "0 0" ]; then
    first=0
  elif [ "$begins $ends" != "1 1" ] || [ "$first" -ge "$last" ]; then
    fail 65 "$hosts_file has $begins line(s) \"$begin_mark\" and $ends line(s) \"$end_mark\", where one of each, in this order, or none was expected; someone edited them: repair or delete that block by hand and apply again"
  elif [ "$inside" -gt 0 ]; then
    fail 65 "line $inside of $hosts_file begins another cluster's block within the block of \"$begin_mark\"; repair it by hand and apply again"
  fi
  put_block() {
    if [ "$1" = 1 ]; then
      printf '%s\n' "$block" | head -n 1
      printf '%s\n' "$no_newline_note"
      printf '%s\n' "$block" | tail -n +2
    else
      printf '%s\n' "$block"
    fi
  }
  block=${block%"
"}
  if [ "$first" -eq 0 ]; then
    cat "$work/old" >"$work/new" || fail 74 "$work/new can't be written"
    if [ -n "$block" ]; then
      unended=0
      if [ -n "$(tail -c 1 "$work/old")" ]; then unended=1; echo >>"$work/new"; fi
      put_block "$unended" >>"$work/new" || fail 74 "$work/new can't be written"
    fi
  else
    head -n "$((first - 1))" "$work/old" >"$work/before" &&
      tail -n "+$((last + 1))" "$work/old" >"$work/after" || fail 74 "$work can't be written"
    before=$(wc -c <"$work/before")
    if [ -z "$block" ] && [ "$note" = 1 ] && [ ! -s "$work/after" ] && [ "$before" -gt 0 ]; then
      before=$((before - 1))
    fi
    {
      head -c "$before" "$work/before" &&
        { [ -z "$block" ] || put_block "$note"; } &&
        cat "$work/after"
    } >"$work/new" || fail 74 "$work/new can't be written"
  fi
  if [ "$(sha256sum <"$work/old")" = "$(sha256sum <"$work/new")" ]; then echo unchanged; exit 0; fi
  # In place, so that whoever has the file mounted or open sees it; put back if the disk is full half-way.
  cat "$work/new" >"$hosts_file" && [ "$(sha256sum <"$hosts_file")" = "$(sha256sum <"$work/new")" ] || {
    cat "$work/old" >"$hosts_file"
    fail 74 "$hosts_file can't be written (is the disk full?); its old content was put back"
  }
  echo changed
)
