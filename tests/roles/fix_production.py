"""What the production example says of its hosts, with secrets and ports of the tests."""

from pathlib import Path
from typing import Any

import yaml

from tests.ports import free_port

SECRETS = {
    "postgres17_owner_password": "owner-password-of-the-test",
    "litellm_gateway_master_key": "sk-master-key-of-the-test",
    "litellm_gateway_salt_key": "sk-salt-key-of-the-test",
    "vault_openai_api_key": "sk-provider-key-of-the-test",
}
LOGINS = {
    "application": [
        {"name": "litellm_a", "password": "old-application-password-of-the-test"},
        {"name": "litellm_b", "password": "application-password-of-the-test"},
    ],
    "ledger": [{"name": "litellm_ledger_a", "password": "ledger-password-of-the-test"}],
    "reader": [{"name": "litellm_reader_a", "password": "reader-password-of-the-test"}],
}
PASSWORDS = [login["password"] for logins in LOGINS.values() for login in logins]


def variables() -> dict[str, Any]:
    """What stands for the hosts: the controller's own paths, as if the playbook were site.yml."""
    return {
        "litellm_gateway_uv": str(Path(".venv/bin/uv").absolute()),
        "litellm_gateway_config_template": str(Path("templates/config.yaml.j2").absolute()),
        # The roles look whether theirs are free.
        "litellm_gateway_port": free_port(),
        "litellm_gateway_ledger_metrics_port": free_port(),
        "postgres17_port": free_port(),
        "postgres17_logins": LOGINS,
        **SECRETS,
    }


def group_vars(group: str) -> dict[str, Any]:
    """The example's variables of a group."""
    directory = Path("inventory/production/group_vars")
    found: dict[str, Any] = {}
    for file in (directory / "all/main.yml", directory / f"{group}.yml"):
        found |= yaml.safe_load(file.read_text())
    return found
