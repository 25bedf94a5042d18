"""Secrets from elsewhere, as docs/secrets.md writes them: each block of the document is one inventory's variables."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).parents[2]
BLOCKS = dict(re.findall(r"```yaml (\w+)\n(.*?)```", (ROOT / "docs/secrets.md").read_text(), re.DOTALL))
SECRET = "sk-secret-from-elsewhere-$'\"{{ x }}"


@contextmanager
def environment() -> Generator[dict[str, str]]:
    yield {"OPENAI_API_KEY": SECRET}


@contextmanager
def password_store() -> Generator[dict[str, str]]:
    """Pass itself, with a store and a GPG key of its own."""
    with tempfile.TemporaryDirectory(prefix="gpg") as home:  # a short path: the agent's socket is in it
        variables = {"GNUPGHOME": home, "PASSWORD_STORE_DIR": f"{home}/store"}
        given = {**os.environ, **variables}
        generate = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "test@example.org"]
        subprocess.run(generate, env=given, check=True)
        subprocess.run(["pass", "init", "test@example.org"], env=given, check=True)
        insert = ["pass", "insert", "--multiline", "litellm/master_key"]
        subprocess.run(insert, env=given, input=SECRET, text=True, check=True)
        try:
            yield variables
        finally:
            subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=given, check=True)


class KeyValueVersion2(BaseHTTPRequestHandler):
    """A stand-in for a Vault server: it knows one token, and one secret."""

    def do_GET(self) -> None:
        known = self.headers["X-Vault-Token"] == "token-of-the-test" and self.path == "/v1/secret/data/litellm"
        stored = {"data": {"owner_password": SECRET}, "metadata": {"version": 1}}
        answer: dict[str, object] = {"data": stored} if known else {"errors": []}
        self.send_response(200 if known else 403)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def vault() -> Generator[dict[str, str]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), KeyValueVersion2) as server:
        Thread(target=server.serve_forever).start()
        yield {"VAULT_ADDR": f"http://127.0.0.1:{server.server_port}", "VAULT_TOKEN": "token-of-the-test"}
        server.shutdown()


@contextmanager
def aws() -> Generator[dict[str, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-central-1"}
    client = boto3.client(
        "secretsmanager", "eu-central-1", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.create_secret(Name="litellm/salt_key", SecretString=SECRET)
    client.close()
    yield {"AWS_ENDPOINT_URL": url, **keys}
    server.stop()


SOURCES = {"environment": environment, "pass": password_store, "vault": vault, "aws": aws}


def run(directory: Path, given: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    names = ("ANSIBLE_", "AWS_", "VAULT_", "OPENAI_", "GNUPGHOME", "PASSWORD_STORE_DIR")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    local = {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    return subprocess.run(
        command, cwd=directory, env={**clean, **local, **given}, capture_output=True, text=True, check=False
    )


def test_every_source_in_the_document_is_tested() -> None:
    assert BLOCKS.keys() == SOURCES.keys()


@pytest.mark.parametrize("source", SOURCES)
def test_a_secret_comes_from_elsewhere_and_not_into_the_vault(source: str, tmp_path: Path) -> None:
    for name in ("ansible.cfg", "playbooks/secrets.yml", "scripts/vault-password"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "roles/pki", tmp_path / "roles/pki")
    variables = tmp_path / "inventory/some/group_vars/all"
    variables.mkdir(parents=True)
    (tmp_path / "inventory/some/hosts.yml").write_text("ungrouped: {hosts: {one: }}\n")
    (variables / "secrets.yml").write_text(BLOCKS[source])
    (variables / "plain.yml").write_text("a_secret_of_the_test: '{{ NAME }}'\n".replace("NAME", defined(source)))
    show = ["ansible", "--inventory=inventory/some", "one", "--module-name=ansible.builtin.debug"]
    show.append("--args=msg={{ a_secret_of_the_test }}")

    with SOURCES[source]() as given:
        made = run(tmp_path, given, "ansible-playbook", "--inventory=inventory/some", "playbooks/secrets.yml")
        shown = run(tmp_path, given, *show)
    lost = run(tmp_path, {}, *show)

    assert made.returncode == 0, made.stdout + made.stderr
    vault_file = run(tmp_path, {}, "ansible-vault", "view", str(variables / "vault.yml")).stdout
    assert "pki_ca_private_key: " in vault_file
    assert defined(source).split(".")[0] + ": " not in vault_file
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert json.loads(shown.stdout.partition("=>")[2])["msg"] == SECRET
    # A source that does not answer stops the run: no empty secret reaches a host.
    assert lost.returncode != 0


def defined(source: str) -> str:
    """What a block defines."""
    names = re.findall(r"^ *(\w+):", BLOCKS[source], re.MULTILINE)
    return ".".join(names)
