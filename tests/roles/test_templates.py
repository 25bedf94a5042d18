"""The files that the roles write for the production example: on Ubuntu 24.04 the same as on Debian 13."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from litellm_sqlalchemy.settings import DrainSettings, load
from tests.roles.fix_production import PASSWORDS, SECRETS, variables

POLICIES = [{"capture": "metadata", "models": ["it's $HOME"]}, {"capture": "none", "keys": ["0123456789abcdef" * 4]}]
REDACTIONS = [{"pattern": r"(['\"`])\w+@\w+\1|\$\(id\)", "replacement": "#' ü; $x"}]
ENVIRONMENT = {"PRISMA_CLIENT_DRIVER": "psycopg", "OTHER": "it's $HOME"}
FIREWALL = {
    "firewall_ssh_networks": ["10.1.0.0/16", "10.1.2.0/24", "2001:db8::/64"],
    "firewall_services": [{"name": "gateway", "ports": [4000], "networks": ["10.0.0.0/8"]}],
    "firewall_endpoints": [
        "http://models.example:8080/v1",
        "https://192.0.2.7/v1",
        "postgresql://[2001:db8::1]:5433",
        "os.environ/API_BASE",
        "",
    ],
    "firewall_outbound": [
        {"name": "logs", "protocol": "udp", "ports": [514, "6514-6515"], "networks": ["192.0.2.9/32"]}
    ],
    "firewall_web_networks": [],
}
SYSTEMS = {"ubuntu": ("Ubuntu", "24.04", "noble"), "debian": ("Debian", "13.1", "trixie")}


COMMON = variables()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What was rendered: system → file → text."""
    files = {}
    common = COMMON
    for name, (distribution, version, release) in SYSTEMS.items():
        directory = tmp_path_factory.mktemp(name)
        given = {
            "render_directory": str(directory),
            "render_distribution": distribution,
            "render_version": version,
            "render_release": release,
            "litellm_gateway_ledger_policies": POLICIES,
            "litellm_gateway_ledger_redactions": REDACTIONS,
            "litellm_gateway_environment": ENVIRONMENT,
            **FIREWALL,
            **common,
        }
        extra = directory.with_suffix(".json")
        extra.write_text(json.dumps(given))
        subprocess.run(
            [
                "ansible-playbook",
                "--inventory=inventory/production",
                f"--extra-vars=@{extra}",
                "tests/roles/render.yml",
            ],
            check=True,
        )
        files[name] = {path.name: path.read_text() for path in directory.iterdir()}
    return files


def test_both_systems_get_the_same_files(rendered: dict[str, dict[str, str]]) -> None:
    ubuntu, debian = rendered["ubuntu"], rendered["debian"]
    assert {name for name in ubuntu if ubuntu[name] != debian.get(name)} == {"repository"}
    assert len(ubuntu) >= 9
    assert ubuntu.keys() == debian.keys()


def test_packages_come_from_pgdg_on_ubuntu_and_from_debian_on_debian(rendered: dict[str, dict[str, str]]) -> None:
    url = "https://apt.postgresql.org/pub/repos/apt"
    assert rendered["ubuntu"]["repository"] == f"True\n{url} noble-pgdg\n"
    assert rendered["debian"]["repository"] == f"False\n{url} trixie-pgdg\n"


def test_the_firewall_tells_addresses_from_names_and_merges_networks(rendered: dict[str, dict[str, str]]) -> None:
    lines = [line.strip() for line in rendered["ubuntu"]["litellm-firewall.nft"].splitlines()]
    rules = [line.partition(" comment ")[0] for line in lines if re.match(r"ip6? [sd]addr \{", line)]
    assert rules == [
        "ip saddr { 10.1.0.0/16 } tcp dport { 22 } accept",
        "ip6 saddr { 2001:db8::/64 } tcp dport { 22 } accept",
        "ip saddr { 10.0.0.0/8 } tcp dport { 4000 } accept",
        "ip daddr { 0.0.0.0/0 } tcp dport { 8080 } accept",
        "ip6 daddr { ::/0 } tcp dport { 8080 } accept",
        "ip daddr { 192.0.2.7/32 } tcp dport { 443 } accept",
        "ip6 daddr { 2001:db8::1/128 } tcp dport { 5433 } accept",
        "ip daddr { 192.0.2.9/32 } udp dport { 514, 6514-6515 } accept",
    ]


def test_no_secret_is_rendered(rendered: dict[str, dict[str, str]]) -> None:
    assert not [
        name
        for name, text in rendered["ubuntu"].items()
        for secret in [*SECRETS.values(), *PASSWORDS]
        if secret in text
    ]


def test_the_models_are_the_inventory_s(rendered: dict[str, dict[str, str]]) -> None:
    config = yaml.safe_load(rendered["ubuntu"]["config.yaml"])
    models = yaml.safe_load(Path("inventory/production/group_vars/gateway.yml").read_text())["litellm_gateway_models"]
    assert config["model_list"] == models
    assert config["general_settings"]["master_key"] == "os.environ/LITELLM_MASTER_KEY"


def test_postgresql_is_tuned_to_the_host(rendered: dict[str, dict[str, str]]) -> None:
    settings = dict(
        line.split(" = ", 1)
        for line in rendered["ubuntu"]["postgresql.conf"].splitlines()
        if " = " in line and line[0] != "#"
    )
    assert settings["shared_buffers"] == "'2048MB'"  # of 8192 MiB
    assert settings["max_parallel_workers"] == "'4'"  # of 4 cores
    assert settings["listen_addresses"] == "'localhost,192.168.10.19'"


def test_the_ledger_reads_what_the_inventory_says(
    rendered: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the shell reads the file for the command; systemd does for the units, which the tests on hosts see."""
    file = tmp_path / "ledger.env"
    file.write_text(rendered["ubuntu"]["ledger.env"])
    done = subprocess.run(
        ["env", "-i", "/bin/sh", "-c", "set -a; . $0; exec /usr/bin/env --null", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    for setting in done.stdout.split("\0")[:-1]:
        name, _, value = setting.partition("=")
        if name.startswith("LEDGER_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("LEDGER_DATABASE_PASSWORD", "of-the-test")
    found = load(DrainSettings)
    assert json.loads(os.environ["LEDGER_POLICIES"]) == POLICIES
    assert json.loads(os.environ["LEDGER_REDACTIONS"]) == REDACTIONS
    assert (found.database_host, found.database_port) == ("192.168.10.19", COMMON["postgres17_port"])
    assert found.database_user == "litellm_ledger_a"
    assert (found.on_spool_failure, found.spool_max_bytes, found.spool_alarm_ratio) == ("refuse", 10 << 30, 0.5)
    assert found.metrics_directory == Path("/run/litellm/metrics")


def test_the_command_keeps_the_password_out_of_its_arguments(rendered: dict[str, dict[str, str]]) -> None:
    script = rendered["ubuntu"]["litellm-sqlalchemy"]
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    (execution,) = [line for line in script.replace("\\\n", "").splitlines() if line.startswith("exec ")]
    assert "--reuid=litellm" in execution
    assert "password" not in execution.lower()


def test_the_doctor_alone_sees_what_the_gateway_sees_and_who_asks_the_ledger_may_only_read(
    rendered: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """What the command gets, with root's files elsewhere, and the programs that need root or the release replaced."""
    credentials, programs = tmp_path / "credentials", tmp_path / "bin"
    for directory in (credentials, programs):
        directory.mkdir()
    for name in ("ledger_database_password", "ledger_reader_password", "DATABASE_URL", "DATABASE_URL_READ_REPLICA"):
        (credentials / name).write_text(f"secret of {name}")
    (tmp_path / "ledger.env").write_text(rendered["ubuntu"]["ledger.env"])
    for name, does in {
        "id": "echo 0",
        "setpriv": 'echo "$@" >&2; while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
        "litellm-sqlalchemy": "exec env --null",
        "systemd-creds": 'if [ "$1 $3" = "decrypt -" ]; then cat "$2"; fi',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    script = rendered["ubuntu"]["litellm-sqlalchemy"].replace("/etc/litellm", str(tmp_path))
    script = script.replace("/opt/litellm/current/bin", str(programs))
    seen = {}
    for command in ("check-database", "doctor", "ledger"):
        done = subprocess.run(
            ["sh", "-s", command],
            input=script,
            env={"PATH": f"{programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "secret of" not in done.stderr  # its arguments
        seen[command] = dict(line.split("=", 1) for line in done.stdout.split("\0")[:-1])
    names = ("DATABASE_URL", "DATABASE_URL_READ_REPLICA", *ENVIRONMENT)
    assert [seen["doctor"].get(name) for name in names] == ["secret of DATABASE_URL", None, *ENVIRONMENT.values()]
    assert not seen["ledger"].keys() & set(names)
    assert {
        command: (its["LEDGER_DATABASE_USER"], its["LEDGER_DATABASE_PASSWORD"]) for command, its in seen.items()
    } == {
        "check-database": ("litellm_ledger_a", "secret of ledger_database_password"),
        "doctor": ("litellm_ledger_a", "secret of ledger_database_password"),
        "ledger": ("litellm_reader_a", "secret of ledger_reader_password"),
    }


@pytest.mark.parametrize("unit", ["litellm.service", "ledger-drain.service"])
def test_units_keep_their_metrics_in_one_place(rendered: dict[str, dict[str, str]], unit: str) -> None:
    lines = rendered["ubuntu"][unit].splitlines()
    assert "RuntimeDirectory=litellm/metrics" in lines
    assert "RuntimeDirectoryPreserve=yes" in lines


@pytest.mark.parametrize("unit", ["litellm.service", "ledger-drain.service"])
def test_units_take_their_secrets_as_credentials(rendered: dict[str, dict[str, str]], unit: str) -> None:
    lines = rendered["ubuntu"][unit].splitlines()
    credentials = {line for line in lines if line.startswith("LoadCredential")}
    assert (
        credentials
        == {
            "litellm.service": {
                f"LoadCredentialEncrypted={name}:/etc/litellm/credentials/{name}"
                for name in ("DATABASE_URL", "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "OPENAI_API_KEY", "config.yaml")
            },
            "ledger-drain.service": {
                "LoadCredentialEncrypted=ledger_database_password:/etc/litellm/credentials/ledger_database_password"
            },
        }[unit]
    )
    assert "User=litellm" in lines


@pytest.mark.parametrize(
    "unit", ["postgresql@17-main.service", "litellm.service", "litellm-nginx.service", "ledger-drain.service"]
)
def test_needrestart_leaves_to_a_person_what_would_interrupt(rendered: dict[str, dict[str, str]], unit: str) -> None:
    program = """
        our %nrconf; my $unit = shift; eval join '', <STDIN>; die $@ if $@;
        print join ',', map { $nrconf{override_rc}{$_} } grep { $unit =~ /$_/ } keys %{$nrconf{override_rc}};
    """
    for name, expected in ((unit, "0"), ("nginx.service", "")):
        files = rendered["ubuntu"]["needrestart.conf"]
        said = subprocess.run(["perl", "-e", program, name], input=files, capture_output=True, text=True, check=True)
        assert said.stdout == expected
