"""The secrets: made once, encrypted, never overwritten; a file that lacks some is told, not mended."""

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NEEDED = {
    "litellm_gateway_master_key",
    "litellm_gateway_salt_key",
    "pki_ca_private_key",
    "postgres17_logins",
    "postgres17_owner_password",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("ansible.cfg", "playbooks/secrets.yml", "playbooks/rotate_credentials.yml", "scripts/vault-password"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "roles", tmp_path / "roles")
    (tmp_path / "inventory/some").mkdir(parents=True)
    (tmp_path / "inventory/some/hosts.yml").write_text("gateway: {hosts: {one: }}\ndatabase: {hosts: {two: }}\n")
    return tmp_path


def run(checkout: Path, *command: str, check: bool = True) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert (done.returncode == 0) is check, done.stdout
    return done.stdout


def make(checkout: Path, *, check: bool = True, playbook: str = "secrets") -> str:
    return run(checkout, "ansible-playbook", "-i", "inventory/some", f"playbooks/{playbook}.yml", check=check)


def vault(checkout: Path) -> Path:
    return checkout / "inventory/some/group_vars/all/vault.yml"


def view(checkout: Path) -> dict[str, Any]:
    secrets: dict[str, Any] = yaml.safe_load(run(checkout, "ansible-vault", "view", str(vault(checkout))))
    return secrets


def test_the_vault_gets_another_password(checkout: Path) -> None:
    make(checkout)
    before = view(checkout)
    new = checkout / ".vault-password.new"
    new.write_text("another password\n")
    run(checkout, "ansible-vault", "rekey", "--new-vault-password-file", new.name, str(vault(checkout)))
    run(checkout, "ansible-vault", "view", str(vault(checkout)), check=False)
    new.replace(checkout / ".vault-password")
    assert view(checkout) == before


def test_made_once_strong_and_encrypted(checkout: Path) -> None:
    output = make(checkout)
    secrets = view(checkout)
    assert set(secrets) == NEEDED
    logins = secrets.pop("postgres17_logins")
    assert {group: [login["name"] for login in its] for group, its in logins.items()} == {
        "application": ["litellm_a"],
        "ledger": ["litellm_ledger_a"],
        "reader": ["litellm_reader_a"],
    }
    made = [*secrets.values(), *(login["password"] for its in logins.values() for login in its)]
    assert len(set(made)) == len(NEEDED) + 2
    assert all(len(secret) >= 40 for secret in made)
    assert secrets["litellm_gateway_master_key"].startswith("sk-")
    assert vault(checkout).read_text().startswith("$ANSIBLE_VAULT;")
    assert not any(secret in output for secret in made)
    for file in (vault(checkout), checkout / ".vault-password"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    before = vault(checkout).read_bytes()
    assert "changed=0" in make(checkout)
    assert vault(checkout).read_bytes() == before


def test_own_password_and_own_secret_are_kept(checkout: Path) -> None:
    (checkout / ".vault-password").write_text("my own\n")
    group_vars = checkout / "inventory/some/group_vars/all"
    group_vars.mkdir(parents=True)
    (group_vars / "main.yml").write_text("litellm_gateway_master_key: sk-mine\n")
    make(checkout)
    assert set(view(checkout)) == NEEDED - {"litellm_gateway_master_key"}
    assert (checkout / ".vault-password").read_text() == "my own\n"


def test_file_that_lacks_a_secret_is_told(checkout: Path) -> None:
    make(checkout)
    secrets = view(checkout)
    del secrets["postgres17_logins"]
    (checkout / "plain.yml").write_text(yaml.safe_dump(secrets))
    run(checkout, "ansible-vault", "encrypt", "plain.yml", "--output", str(vault(checkout)))
    before = vault(checkout).read_bytes()
    output = make(checkout, check=False)
    assert "lacks postgres17_logins" in output
    assert "takes the place of postgres17_application_password and postgres17_reader_password" in " ".join(
        output.split()
    )
    assert "ansible-vault edit" in output
    assert vault(checkout).read_bytes() == before


def test_what_comes_from_elsewhere_is_not_rotated(checkout: Path) -> None:
    group_vars = checkout / "inventory/some/group_vars/all"
    group_vars.mkdir(parents=True)
    (group_vars / "main.yml").write_text("litellm_gateway_master_key: sk-mine\n")
    make(checkout)
    before = vault(checkout).read_bytes()
    output = " ".join(make(checkout, check=False, playbook="rotate_credentials").split())
    assert "does not have litellm_gateway_master_key" in output
    assert vault(checkout).read_bytes() == before


def test_a_gateway_that_names_its_login_itself_is_not_rotated(checkout: Path) -> None:
    make(checkout)
    last = "{{{{ (postgres17_logins.{} | last).name }}}}".format
    logins = {
        "litellm_gateway_database_user": "litellm_of_ours",
        "litellm_gateway_ledger_database_user": last("ledger"),
        "litellm_gateway_ledger_reader": last("reader"),
    }
    gateway = checkout / "inventory/some/group_vars/gateway.yml"
    gateway.write_text(yaml.safe_dump(logins))
    before = vault(checkout).read_bytes()
    output = " ".join(make(checkout, check=False, playbook="rotate_credentials").split())
    assert "litellm_gateway_database_user of one: what logs in must be the last of its list" in output
    assert vault(checkout).read_bytes() == before


def test_lost_vault_password_is_not_replaced(checkout: Path) -> None:
    make(checkout)
    (checkout / ".vault-password").unlink()
    output = run(checkout, "scripts/vault-password", check=False)
    assert ".vault-password is missing" in output
    assert not (checkout / ".vault-password").exists()
