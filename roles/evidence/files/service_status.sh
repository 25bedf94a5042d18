# What systemd says of the units that are given as arguments, for a person to read.
LC_ALL=C.UTF-8
printf 'Up since %s\n\n' "$(uptime --since)"
for unit in "$@"; do
    printf '%s: %s, %s\n' "$unit" "$(systemctl is-active "$unit")" "$(systemctl is-enabled "$unit")"
done
printf '\nFailed units: %s\n' "$(systemctl list-units --failed --no-legend --plain | cut --delimiter=' ' --fields=1 | paste --serial --delimiters=' ')"
for unit in "$@"; do
    printf '\n'
    systemctl status --no-pager --full --lines=0 "$unit"
done
exit 0
