# Loads the rules of /run/litellm-firewall.nft for $1 seconds, or until the timer is stopped.
set -eu
# Of a run that was cut off.
systemctl stop litellm-firewall-rollback.timer 2> /dev/null || true
systemd-run --quiet --collect --unit=litellm-firewall-rollback --description="Bring the firewall's old rules back" \
    --on-active="$1" --timer-property=AccuracySec=1s \
    bash -c 'if [ -e /etc/litellm-firewall.nft ]; then exec nft --file /etc/litellm-firewall.nft; else exec nft delete table inet litellm; fi'
nft --file /run/litellm-firewall.nft
