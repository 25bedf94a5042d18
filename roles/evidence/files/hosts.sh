# What this host does about updates, its clock, core dumps of the units that are given, and curious users.
# A line each: check | expected | observed
LC_ALL=C.UTF-8
cd /  # any user may be there, else find complains
finding() { printf '%s | %s | %s\n' "$1" "$2" "${3:-nothing}"; }

finding 'security updates come by themselves' 'active, 1, PostgreSQL and Python held' \
    "$(systemctl is-active apt-daily-upgrade.timer), $(apt-config dump | sed -n 's/^APT::Periodic::Unattended-Upgrade "\(.*\)";/\1/p'), $(
        apt-config dump Unattended-Upgrade::Package-Blacklist | grep --quiet '"postgresql-"' &&
            apt-config dump Unattended-Upgrade::Package-Blacklist | grep --quiet '"python3' && echo PostgreSQL and Python held)"

if systemd-detect-virt --quiet --container; then
    finding 'who keeps the clock' "the container's machine" "the container's machine"
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

# That of systemd keeps none, by what role host_hardening says.
finding 'who gets core dumps whatever their limit' nobody "$(sed -nE 's/^\|([^ ]+).*/\1/p' /proc/sys/kernel/core_pattern |
    sed -E 's/.*(systemd-coredump|\/false)$/nobody/' | grep . || echo nobody)"

# Paths that the host has not are passed over. .lock is an empty file of uv's.
as_any_user() {
    local as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    "${as[@]}" find / -maxdepth 0 > /dev/null || echo "not to be seen"
    "${as[@]}" "$@" 2> /dev/null | paste --serial --delimiters=' '
}
finding 'what any user can write' nothing "$(as_any_user \
    find /etc/litellm /etc/ssl/litellm /etc/litellm-firewall.nft /etc/systemd/system /usr/local/bin /opt/litellm /var/lib/litellm \
    /etc/postgresql /var/lib/postgresql /var/log/postgresql /var/log/journal -not -type l -not -name .lock -writable)"
finding 'secrets and logs that any user can read' nothing "$(as_any_user \
    find /etc/litellm/credentials /etc/litellm/config.yaml /etc/ssl/litellm /var/lib/litellm /etc/postgresql/17/main/pg_hba.conf \
    /var/lib/postgresql /var/log/postgresql /var/log/journal -type f -not -name '*.crt' -readable)"
