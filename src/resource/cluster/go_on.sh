# Starts the survivor with the data that was made for it. Given: etc, unit, data.
rm -f "$etc/founding-permit" "$etc/joining-permit" "$etc/restore" "$etc/snapshot.yaml"
sync "$etc" 2>/dev/null || sync
systemctl --quiet enable "$unit" 2>/dev/null || true
systemctl reset-failed "$unit" 2>/dev/null || true
systemctl start "$unit"
