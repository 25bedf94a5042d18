"""A mistake in the variables is refused before anything is changed; the message names it, the rule and the cure."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from tests.roles.fix_production import LOGINS, PASSWORDS, group_vars, variables

GROUPS = {
    "postgres17": "database",
    "schema_init": "gateway",
    "litellm_gateway": "gateway",
    "firewall": "gateway",
    "host_hardening": "gateway",
}
MODEL = {"model_name": "m", "litellm_params": {"model": "openai/m", "api_key": "os.environ/NO_SUCH_KEY"}}


@dataclass(frozen=True)
class Case:
    """A mistake: the role that sees it, what is written instead of the right thing, and what the message has."""

    role: str
    wrong: dict[str, Any]
    messages: tuple[str, ...]


def host(name: str) -> str:
    """The name of a case's host."""
    return name.replace(" ", "-").replace("'", "")


CASES = {
    # Types
    "a word for a number": Case(
        "litellm_gateway",
        {"litellm_gateway_port": "four thousand"},
        ("argument 'litellm_gateway_port' is of type", "unable to convert to int", "group_vars"),
    ),
    "a word for a number of the database": Case(
        "postgres17",
        {"postgres17_max_connections": "many"},
        ("argument 'postgres17_max_connections' is of type", "int"),
    ),
    "a text for a list": Case(
        "postgres17", {"postgres17_listen_addresses": "127.0.0.1"}, ("Write postgres17_listen_addresses as a list",)
    ),
    "a text for a truth value": Case(
        "postgres17", {"postgres17_use_pgdg": "false"}, ("Write postgres17_use_pgdg as a bool", "as JSON")
    ),
    "a text for settings": Case("postgres17", {"postgres17_settings": "jit=on"}, ("postgres17_settings as a dict",)),
    "a text for credentials": Case(
        "litellm_gateway", {"litellm_gateway_credentials": "A=b"}, ("litellm_gateway_credentials as a dict",)
    ),
    "a text for models": Case(
        "litellm_gateway",
        {"litellm_gateway_models": "gpt-5"},
        ("'litellm_gateway_models' is of type", "convert to dict"),
    ),
    # Names
    "a slip in a name": Case(
        "litellm_gateway",
        {"litellm_gateway_prot": 4100},
        ("Unknown variable litellm_gateway_prot", "ignored in silence", "roles/litellm_gateway/README.md"),
    ),
    "a slip in a name of the database": Case(
        "postgres17", {"postgres17_max_conections": 200}, ("Unknown variable postgres17_max_conections",)
    ),
    "a slip in a name of the schema": Case(
        "schema_init", {"schema_init_prot": 1}, ("Unknown variable schema_init_prot", "roles/schema_init/README.md")
    ),
    "a secret that nothing defines": Case(
        "litellm_gateway",
        {"litellm_gateway_credentials": {"OPENAI_API_KEY": "{{ vault_forgotten }}"}},
        ("'vault_forgotten' is undefined", "the vault"),
    ),
    # Models
    "no models": Case(
        "litellm_gateway", {"litellm_gateway_models": []}, ("litellm_gateway_models is empty", "Name one at least")
    ),
    "a model without parameters": Case(
        "litellm_gateway",
        {"litellm_gateway_models": [{"model_name": "m"}]},
        ("litellm_params", "litellm_gateway_models"),
    ),
    "a model whose key nobody gives": Case(
        "litellm_gateway",
        {"litellm_gateway_models": [MODEL]},
        ("os.environ/NO_SUCH_KEY", "litellm_gateway_credentials has no such key", "from the vault"),
    ),
    "a configuration that is no YAML": Case(
        "litellm_gateway",
        {"litellm_gateway_config_template": "{{ refuse_directory }}/broken.yaml.j2"},
        ("does not come out as LiteLLM's configuration, a YAML mapping: line 2", "Correct the template"),
    ),
    # Secrets
    "a weak master key": Case(
        "litellm_gateway",
        {"litellm_gateway_master_key": "short"},
        ("litellm_gateway_master_key must begin with sk-", "playbooks/secrets.yml"),
    ),
    "a weak password": Case(
        "postgres17", {"postgres17_owner_password": "short"}, ("each password must have 16 characters",)
    ),
    "a credential that can be no variable": Case(
        "litellm_gateway",
        {"litellm_gateway_credentials": {"my-key": "x"}, "litellm_gateway_models": [{**MODEL, "litellm_params": {}}]},
        ("litellm_gateway_credentials has my-key", "capital letters"),
    ),
    "a password where anybody reads it": Case(
        "litellm_gateway",
        {"litellm_gateway_environment": {"HTTPS_PROXY": "http://me:secret@proxy.example:3128"}},
        ("litellm_gateway_environment has a URL with a password", "litellm_gateway_credentials"),
    ),
    # Values
    "a port for root only": Case("litellm_gateway", {"litellm_gateway_port": 80}, ("from 1024 to 65535",)),
    "no workers": Case("litellm_gateway", {"litellm_gateway_workers": 0}, ("litellm_gateway_workers",)),
    "no release kept": Case("litellm_gateway", {"litellm_gateway_releases_kept": 0}, ("at least 1",)),
    "memory in words": Case(
        "litellm_gateway", {"litellm_gateway_memory_max": "2 GB"}, ("such as 80%, 2G or infinity",)
    ),
    # The ledger
    "a spool too small": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_spool_max": "1M"},
        ("litellm_gateway_ledger_spool_max", "at least 64M"),
    ),
    "a size in words": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_spool_max": "ten GB"},
        ("litellm_gateway_ledger_spool_max", "such as 10G"),
    ),
    "an alarm in percent": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_spool_alarm_ratio": 50},
        ("litellm_gateway_ledger_spool_alarm_ratio", "from 0 to 1"),
    ),
    "metrics on the gateway's own port": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_metrics_port": "{{ litellm_gateway_port }}"},
        ("litellm_gateway_ledger_metrics_port", "another one than litellm_gateway_port"),
    ),
    "plain HTTP at the gateway's own port": Case(
        "litellm_gateway",
        {"litellm_gateway_http_loopback_port": "{{ litellm_gateway_port }}"},
        ("litellm_gateway_http_loopback_port", "another one than litellm_gateway_port"),
    ),
    "a size that nginx can't read": Case(
        "litellm_gateway",
        {"litellm_gateway_request_max": "100 MB"},
        ("litellm_gateway_request_max as nginx writes it, such as 100m",),
    ),
    "TLS of the last century": Case(
        "litellm_gateway", {"litellm_gateway_tls_minimum": "1.0"}, ("litellm_gateway_tls_minimum", "1.2, 1.3")
    ),
    "an address for an admin network": Case(
        "litellm_gateway",
        {"litellm_gateway_admin_networks": ["10.0.0.0/24", "10.0.0.5"]},
        ("have 10.0.0.5: write each as a network with its prefix length",),
    ),
    "a proxy's network with host bits": Case(
        "litellm_gateway",
        {"litellm_gateway_trusted_proxies": ["10.0.0.5/24", "fd00::/64"]},
        ("have 10.0.0.5/24: write each as a network", "no host bits"),
    ),
    "all that the front can be told": Case(
        "litellm_gateway",
        {
            "litellm_gateway_admin_networks": ["10.0.0.0/24", "10.0.1.5/32", "fd00::/64"],
            "litellm_gateway_trusted_proxies": ["10.0.0.5/32"],
            "litellm_gateway_http_loopback_port": 4002,
            "litellm_gateway_requests_per_second_per_client": 0,
            "litellm_gateway_connections_per_client": 0,
            "litellm_gateway_tls_minimum": "1.2",
            "litellm_gateway_previous_master_keys": ["sk-previous-key-of-the-test"],
        },
        ("nothing refused",),
    ),
    "an unknown way to fail": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_on_spool_failure": "ignore"},
        ("litellm_gateway_ledger_on_spool_failure", "refuse, serve"),
    ),
    "a policy that captures something unknown": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_policies": [{"capture": "headers"}]},
        ("capture", "full, metadata, none", "litellm_gateway_ledger_policies"),
    ),
    "a policy with a slip": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_policies": [{"capture": "none", "model": ["gpt-5"]}]},
        ("litellm_gateway_ledger_policies", "model"),
    ),
    "a policy with a key in clear": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_policies": [{"capture": "none", "keys": ["sk-key-of-the-test"]}]},
        ("keys that are not SHA-256 hashes", "sha256sum"),
    ),
    "a redaction that is no expression": Case(
        "litellm_gateway",
        {
            "litellm_gateway_ledger_redactions": [
                {"pattern": r"\d{16}", "replacement": "(a card)"},
                {"pattern": "(unclosed", "replacement": "x"},
            ]
        },
        ('litellm_gateway_ledger_redactions: pattern "(unclosed" is no use', "missing )"),
    ),
    "a redaction that matches everywhere": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_redactions": [{"pattern": "x*", "replacement": "y"}]},
        ('pattern "x*" is no use: it matches the empty text',),
    ),
    "a replacement that breaks JSON": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_redactions": [{"pattern": "x+", "replacement": 'a "name"'}]},
        ("litellm_gateway_ledger_redactions has a replacement with a double quote", "leave these out"),
    ),
    "a replacement of two lines": Case(
        "litellm_gateway",
        {"litellm_gateway_ledger_redactions": [{"pattern": "x+", "replacement": "a\nb"}]},
        ("litellm_gateway_ledger_redactions has a replacement with", "control character"),
    ),
    "all that the ledger can be told": Case(
        "litellm_gateway",
        {
            "litellm_gateway_ledger_policies": [
                {"capture": "none", "models": ["secret-*"]},
                {"capture": "metadata", "keys": ["0123456789abcdef" * 4]},
            ],
            "litellm_gateway_ledger_redactions": [{"pattern": r"\b\d{4}-\d{4}\b", "replacement": ""}],
            "litellm_gateway_ledger_on_spool_failure": "serve",
            "litellm_gateway_ledger_spool_max": 0,
            "litellm_gateway_ledger_spool_alarm_ratio": 1,
            "litellm_gateway_ledger_metrics_port": 0,
        },
        ("nothing refused",),
    ),
    "no uv on the controller": Case(
        "litellm_gateway", {"litellm_gateway_uv": "/nowhere/uv"}, ("/nowhere/uv", "requirements/controller.txt")
    ),
    "nobody may connect": Case(
        "postgres17",
        {"postgres17_client_networks": []},
        ("postgres17_client_networks is []", "such as 192.168.10.18/32"),
    ),
    "an address for a network": Case(
        "postgres17", {"postgres17_client_networks": ["192.168.10.18"]}, ("postgres17_client_networks", "prefix length")
    ),
    "a network that there can't be": Case(
        "postgres17", {"postgres17_client_networks": ["999.1.1.1/77"]}, ("postgres17_client_networks", "999.1.1.1/77")
    ),
    "a retention before today": Case(
        "schema_init",
        {"schema_init_retention_days": -1},
        ("schema_init_retention_days is -1", "number of days from 0"),
    ),
    "a retention in words": Case(
        "schema_init", {"schema_init_retention_days": "a month"}, ("'schema_init_retention_days' is of type", "int")
    ),
    "names that only the database's host knows": Case(
        "schema_init",
        {"schema_init_inventory_host": host("two roles with one name")},
        ("postgres17_reader", "does not have what two-roles-with-one-name has", "group_vars/all"),
    ),
    "two roles with one name": Case("postgres17", {"postgres17_reader": "litellm"}, ("must all be different",)),
    "a login with the name of a role": Case(
        "postgres17",
        {"postgres17_logins": LOGINS | {"ledger": [{"name": "litellm_ledger", "password": PASSWORDS[0]}]}},
        ("must all be different", "postgres17_logins"),
    ),
    "a login with a weak password": Case(
        "postgres17",
        {"postgres17_logins": LOGINS | {"ledger": [{"name": "litellm_ledger_a", "password": "short"}]}},
        ("each password must have 16 characters",),
    ),
    "nobody to read": Case(
        "postgres17", {"postgres17_logins": LOGINS | {"reader": []}}, ("postgres17_logins has an empty list",)
    ),
    "a part without logins": Case(
        "postgres17",
        {"postgres17_logins": {name: its for name, its in LOGINS.items() if name != "reader"}},
        ("missing required arguments: reader found in postgres17_logins",),
    ),
    "settings of nobody": Case(
        "postgres17",
        {"postgres17_login_settings": {"readers": {"statement_timeout": "1min"}}},
        ("postgres17_login_settings names readers", "application, ledger, maintenance, owner, reader"),
    ),
    "a role's name with a hyphen": Case(
        "postgres17", {"postgres17_application": "my-app"}, ("small letters, digits and underscores",)
    ),
    "a database that means all": Case(
        "postgres17", {"postgres17_database": "all"}, ("none of them one of", "replication")
    ),
    "a network without a length": Case(
        "firewall",
        {"firewall_gateway_networks": ["10.0.0.1"]},
        ("networks of firewall_", "10.0.0.1", "prefix length"),
    ),
    "a rule without networks": Case(
        "firewall", {"firewall_inbound": [{"name": "all", "ports": [9100]}]}, ("networks", "firewall_inbound")
    ),
    "a rule's name that is one more rule": Case(
        "firewall",
        {"firewall_outbound": [{"name": '" accept comment "', "networks": ["10.0.0.0/8"]}]},
        ("letters, digits, spaces and hyphens",),
    ),
    "a port in words": Case(
        "firewall",
        {"firewall_inbound": [{"name": "web", "ports": ["https"], "networks": ["10.0.0.0/8"]}]},
        ("ranges such as 8000-8100",),
    ),
    "no time to log in": Case("firewall", {"firewall_rollback_timeout": 5}, ("firewall_rollback_timeout is 20",)),
    "a journal without a unit": Case(
        "host_hardening", {"host_hardening_journal_size": "1 gigabyte"}, ("1 gigabyte", "such as 1G")
    ),
    "nothing wrong with the firewall": Case("firewall", {}, ("nothing refused",)),
    "nothing wrong with the host": Case("host_hardening", {}, ("nothing refused",)),
    # Systems
    "an older Debian": Case(
        "postgres17",
        {"refuse_distribution": "Debian", "refuse_version": "12.9"},
        ("Debian 12 is not supported", "Debian 13 and Ubuntu 24.04"),
    ),
    "another Ubuntu": Case(
        "litellm_gateway", {"refuse_version": "22.04"}, ("Ubuntu 22.04 is not supported", "Debian 13 and Ubuntu 24.04")
    ),
    "nothing wrong with the database": Case("postgres17", {}, ("nothing refused",)),
    "nothing wrong with the schema": Case("schema_init", {}, ("nothing refused",)),
    "nothing wrong with the gateway": Case("litellm_gateway", {}, ("nothing refused",)),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the roles said: all cases in one run, a host each."""
    directory = tmp_path_factory.mktemp("answers")
    common = {"ansible_host": "192.168.10.18", "refuse_distribution": "Ubuntu", "refuse_version": "24.04"}
    inventory = {
        group: {
            "hosts": {
                host(name): {**common, "refuse_role": case.role, **case.wrong}
                for name, case in CASES.items()
                if GROUPS[case.role] == group
            },
            "vars": {**group_vars(group), **variables(), "refuse_directory": str(directory)},
        }
        for group in ("gateway", "database")
    }
    (directory / "broken.yaml.j2").write_text("key: sk-key-of-the-test\nmodel_list: [sk-key-of-the-test\n- }")
    file = directory / "inventory.json"
    file.write_text(json.dumps(inventory))
    done = subprocess.run(
        ["ansible-playbook", f"--inventory={file}", "tests/roles/refuse.yml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return {name: " ".join((directory / host(name)).read_text().split()) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_refusal(answers: dict[str, str], name: str) -> None:
    for message in CASES[name].messages:
        assert message in answers[name]
    assert "of-the-test" not in answers[name]
