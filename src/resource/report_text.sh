# report_text KEY FILE: prints `KEY=` and the file in base64, on one line, if it is there.
report_text() {
  if [ -f "$2" ]; then printf '%s=' "$1"; base64 -w 0 <"$2"; echo; fi
}
