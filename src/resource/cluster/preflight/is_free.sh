# Whether nothing of a member is here. Given is what the observation knows: main, held.
is_free() { [ "${main:-0}" = 0 ] && [ -z "$held" ]; }
