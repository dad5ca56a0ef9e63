# Looks for mounts below folders, and deletes folders without going through one. Needs answers.sh.
# mounts WHICH FOLDER...: the mount points `at` these folders or `below` them, links followed, the last one first. Each is on a line of its own, as the
# kernel writes it: a space, a tab, a line end and a backslash are numbers there.
mounts() (
  LC_ALL=C; export LC_ALL
  which=$1
  shift
  [ -r /proc/self/mountinfo ] || { echo "/proc/self/mountinfo can't be read, so what is mounted here is not known" >&2; exit 4; }
  for folder in "$@"; do
    folder=$(readlink -f -- "$folder" 2>/dev/null || :; echo .)
    case $folder in /*) ;; *) continue ;; esac
    FOLDER=${folder%??} WHICH=$which awk '
      BEGIN {
        folder = ENVIRON["FOLDER"]
        for (i = 1; i <= length(folder); i++) {
          c = substr(folder, i, 1)
          at = at (c == " " ? "\\040" : c == "\t" ? "\\011" : c == "\n" ? "\\012" : c == "\\" ? "\\134" : c)
        }
        below = at == "/" ? "/" : at "/"
      }
      ENVIRON["WHICH"] == "at" ? $5 == at : $5 != at && index($5, below) == 1 { found[++n] = $5 }
      END { for (; n > 0; n--) print found[n] }' /proc/self/mountinfo || exit 4
  done
)
# decode POINT: the path of such a mount point, in $decoded.
decode() {
  decoded=$(printf '%b.' "$(printf %s "$1" | sed 's/\\/\\0/g')")
  decoded=${decoded%.}
}
# nothing_mounted_below FOLDER...: fails if anything is, and answers `mounted` for each mount point.
nothing_mounted_below() {
  mounted=$(mounts below "$@") || exit 4
  [ -n "$mounted" ] || return 0
  printf '%s\n' "$mounted" | while IFS= read -r point; do
    decode "$point"
    tell_each mounted "$decoded"
  done
  return 1
}
# delete_trees FOLDER...: deletes these folders, or none of them if anything is mounted below one. One that is a mount point itself is emptied: what lies on
# that disk is what was to be deleted, and the mount stays.
delete_trees() {
  below=$(mounts below "$@") || exit 4
  if [ -n "$below" ]; then
    echo "something is mounted below what was to be deleted: $(printf %s "$below" | head -n 1). Nothing was deleted" >&2
    exit 4
  fi
  # Busybox has no such option.
  one_system=--one-file-system
  rm -f "$one_system" 2>/dev/null || one_system=
  for tree in "$@"; do
    [ -e "$tree" ] || [ -L "$tree" ] || continue
    at=$(mounts at "$tree") || exit 4
    if [ -n "$at" ]; then
      # shellcheck disable=SC2086 # an option or none
      find "$tree/." ! -name . -prune ! -name lost+found -exec rm -rf $one_system -- {} +
    else
      # shellcheck disable=SC2086
      rm -rf $one_system -- "$tree"
    fi
  done
}
