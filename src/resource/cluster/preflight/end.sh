# end_preflight UNIT: ends what listens for a preflight, of this run or of one that was cut off.
end_preflight() { systemctl stop "$1" >/dev/null 2>&1 || true; }
