# How a script answers. Each answer is a line of its own that begins with $tell_mark, which nothing but these functions knows. A value that is
# not plain ASCII travels in base64: no value can end its line, or make another answer.
# tell KEY VALUE: the one value of this key.
tell() {
  case $2 in
    *[!\ -~]*) printf '%s%s:=%s\n' "${tell_mark-}" "$1" "$(printf %s "$2" | base64 | tr -d '\n')" ;;
    *) printf '%s%s=%s\n' "${tell_mark-}" "$1" "$2" ;;
  esac
}
# tell_each KEY VALUE: one of the values of this key.
tell_each() { tell "$1[]" "$2"; }
# tell_lines KEY: each line of standard input is one of the values.
tell_lines() { while IFS= read -r told; do tell_each "$1" "$told"; done; }
# tell_pairs PREFIX: lines `key=value` on standard input; the prefix is put before each key.
tell_pairs() { while IFS= read -r told; do case $told in *=*) tell "$1${told%%=*}" "${told#*=}" ;; esac; done; }
# tell_file KEY FILE: what a file of root's holds, if it is there.
tell_file() { if [ -f "$2" ]; then printf '%s%s:=%s\n' "${tell_mark-}" "$1" "$(base64 <"$2" | tr -d '\n')"; fi; }
