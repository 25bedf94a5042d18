# What this host does about updates, its clock, core dumps of the units that are given, and curious users.
# A line each: check | expected | observed, and | unproven where nothing was to be seen
LC_ALL=C.UTF-8
cd /  # any user may be there, else find complains
finding() { printf '%s | %s | %s\n' "$1" "$2" "${3:-nothing}"; }

settings=$(apt-config dump)
is_set() { grep --quiet --ignore-case --extended-regexp "^$1" <<< "$settings"; }
keeps_updates_away() {
    local timer setting
    for timer in apt-daily.timer apt-daily-upgrade.timer; do
        systemctl is-active --quiet "$timer" || echo "$timer"
    done
    command -v unattended-upgrade > /dev/null || echo 'no unattended-upgrade'
    for setting in Update-Package-Lists Unattended-Upgrade; do
        is_set "APT::Periodic::$setting \"[1-9]" || echo "$setting"
    done
    ! is_set 'APT::Periodic::Enable "0"' || echo Enable
    is_set 'Unattended-Upgrade::(Origins-Pattern|Allowed-Origins):: ".*security' || echo 'no origin of theirs'
}
finding 'what keeps security updates from coming by themselves' nothing "$(keeps_updates_away | paste --serial --delimiters=,)"
finding 'updates that wait for a person' 'PostgreSQL, Python' "$(
    held() { is_set "Unattended-Upgrade::Package-Blacklist:: \"$1"; }
    held postgresql- && held python3 && echo PostgreSQL, Python)"

if systemd-detect-virt --quiet --container; then
    finding 'who keeps the clock' 'a program of the host, synchronised' "the container's machine | unproven"
else
    finding 'who keeps the clock' 'a program of the host, synchronised' \
        "$(systemctl is-active --quiet systemd-timesyncd chrony ntpsec openntpd && echo a program of the host, "$(
            timedatectl show --property=NTPSynchronized --value | sed 's/yes/synchronised/; s/no/not synchronised/')")"
fi

processes() {
    local unit group
    for unit in "$@"; do
        group=$(systemctl show --property=ControlGroup --value "$unit")
        [ -z "$group" ] || cat "/sys/fs/cgroup$group/cgroup.procs"
    done
}
finding "room for core dumps of what runs" 0 "$(
    processes "$@" | while read -r process; do
        sed -nE 's/^Max core file size +([^ ]+) +([^ ]+) .*/\1\n\2/p' "/proc/$process/limits" 2> /dev/null
    done | sort --unique | paste --serial --delimiters=,)"

# A program gets them whatever their limit. That of systemd may be told to keep none.
keeps_core_dumps() {
    local program
    program=$(sed -nE 's/^\|([^ ]+).*/\1/p' /proc/sys/kernel/core_pattern)
    case $program in
        '' | */false) ;;
        */systemd-coredump)
            [ "$(systemd-analyze cat-config systemd/coredump.conf | sed -n 's/^Storage=//p' | tail --lines=1)" = none ] || echo "$program"
            ;;
        *) echo "$program" ;;
    esac
}
finding 'what keeps core dumps whatever their limit' nothing "$(keeps_core_dumps)"

# Paths that the host has not are passed over. .lock is an empty file of uv's.
as_any_user() {
    local as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    "${as[@]}" find / -maxdepth 0 > /dev/null || echo "not to be seen"
    "${as[@]}" "$@" 2> /dev/null | paste --serial --delimiters=' '
}
finding 'what any user can write' nothing "$(as_any_user \
    find /etc/litellm /etc/ssl/litellm /etc/litellm-firewall.nft /etc/systemd/system /usr/local/bin /usr/local/lib/litellm \
    /opt/litellm /run/litellm /var/lib/litellm /etc/postgresql /var/lib/postgresql /var/log/postgresql /var/log/journal -not -type l -not -name .lock -writable)"
finding 'secrets and logs that any user can read' nothing "$(as_any_user \
    find /etc/litellm/credentials /etc/litellm/config.yaml /etc/ssl/litellm /var/lib/litellm /etc/postgresql/17/main/pg_hba.conf \
    /var/lib/postgresql /var/log/postgresql /var/log/journal -type f -not -name '*.crt' -readable)"
