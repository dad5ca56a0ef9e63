# Has the member start at boot. Given: unit, new_unit (whether its file was not there before).
# Enabling has systemd read all its units anew, which takes a tenth of a second of its time and more. One that it does not know yet it reads by itself
# as it is started; start.sh sees to what is left.
if [ -n "$new_unit" ]; then reload=--no-reload; else reload=; fi
# shellcheck disable=SC2086 # nothing, or one word
systemctl --quiet $reload enable "$unit" 2>/dev/null
