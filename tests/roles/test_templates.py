"""The files that the roles write for the production example: on Ubuntu 24.04 the same as on Debian 13."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.roles.fix_production import SECRETS, variables

SYSTEMS = {"ubuntu": ("Ubuntu", "24.04", "noble"), "debian": ("Debian", "13.1", "trixie")}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What was rendered: system → file → text."""
    files = {}
    common = variables()
    for name, (distribution, version, release) in SYSTEMS.items():
        directory = tmp_path_factory.mktemp(name)
        given = {
            "render_directory": str(directory),
            "render_distribution": distribution,
            "render_version": version,
            "render_release": release,
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


def test_no_secret_is_rendered(rendered: dict[str, dict[str, str]]) -> None:
    assert not [name for name, text in rendered["ubuntu"].items() for secret in SECRETS.values() if secret in text]


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


@pytest.mark.parametrize("unit", ["litellm.service", "ledger-drain.service"])
def test_units_take_their_secrets_as_credentials(rendered: dict[str, dict[str, str]], unit: str) -> None:
    lines = rendered["ubuntu"][unit].splitlines()
    credentials = {line.split(":")[1] for line in lines if line.startswith("LoadCredential=")}
    assert (
        credentials
        == {
            "litellm.service": {
                "/etc/litellm/config.yaml",
                "/etc/litellm/credentials/LITELLM_MASTER_KEY",
                "/etc/litellm/credentials/OPENAI_API_KEY",
            },
            "ledger-drain.service": {"/etc/litellm/credentials/ledger_database_password"},
        }[unit]
    )
    assert "User=litellm" in lines
