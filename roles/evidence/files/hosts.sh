# What this host does about updates, its clock, core dumps of the units that are given, and curious users.
# A line each: check | expected | observed
LC_ALL=C.UTF-8
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
    local unit
    for unit in "$@"; do
        cat "/sys/fs/cgroup$(systemctl show --property=ControlGroup --value "$unit")/cgroup.procs"
    done
}
finding "room for core dumps of what runs" 0 "$(
    processes "$@" | while read -r process; do
        sed -nE 's/^Max core file size +([^ ]+) +([^ ]+) .*/\1\n\2/p' "/proc/$process/limits" 2> /dev/null
    done | sort --unique | paste --serial --delimiters=,)"

ours=()
for path in /etc/litellm /etc/ssl/litellm /opt/litellm /var/lib/litellm /var/lib/postgresql /etc/postgresql /var/log/postgresql /var/log/journal \
    /usr/local/bin/litellm-sqlalchemy /etc/litellm-firewall.nft; do
    [ ! -e "$path" ] || ours+=("$path")
done
finding 'what any user can write' nothing "$(setpriv --reuid=65534 --regid=65534 --clear-groups \
    find "${ours[@]}" -not -type l -writable -print 2> /dev/null | paste --serial --delimiters=' ')"
finding 'secrets and logs that any user can read' nothing "$(setpriv --reuid=65534 --regid=65534 --clear-groups \
    find "${ours[@]}" -type f -readable 2> /dev/null | grep -E '/credentials/|\.key$|/spool/|/var/log/|pg_hba|/base/' | paste --serial --delimiters=' ')"
