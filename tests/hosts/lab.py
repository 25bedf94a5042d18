"""The lab that the tests run on: its hosts, its secrets, its database, and playbooks run as a user would type them."""

import functools
import json
import os
import re
import shlex
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg2
import testinfra
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID
from testinfra.host import Host

from tests.fix_certificates import Authority
from tests.ports import free_port, listens

CHECKOUT = Path(__file__).parents[2]
EXPOSED = CHECKOUT / "roles/evidence/files/exposed.py"
CA = CHECKOUT / "inventory/lab/pki/ca.crt"
GATEWAY, DATABASE, MODEL = "192.168.10.18", "192.168.10.19", "192.168.10.20"
UNITS = {
    "gateway": ("litellm.service", "ledger-drain.service", "litellm-nginx.service"),
    "database": ("postgresql@17-main.service",),
    "model": ("lab-model@chat.service", "lab-model@embedding.service"),
}
PATIENCE_SECONDS = 300.0  # for what happens by itself, such as a row that is drained; on a busy machine, minutes later

Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None]) -> Found:
    """Look until there is something to see; its absence fails the test."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"nothing came in {PATIENCE_SECONDS:.0f} s"
        time.sleep(0.2)


@dataclass(frozen=True)
class Run:
    """A playbook's run: how it ended, and what it printed, with each run of white space as one space."""

    succeeded: bool
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """How much the run changed on each host."""
        changed = {host: int(count) for host, count in re.findall(r"(\S+) : ok=\d+ changed=(\d+)", self.output)}
        assert changed, "the run reached no host"
        return changed


class Lab:
    """One lab, made by playbooks/lab.yml."""

    def __init__(self, name: str) -> None:
        self.directory = CHECKOUT / ".lab" / name
        self.ssh_config = str(self.directory / "ssh_config")

    def host(self, alias: str) -> Host:
        """A host seen by testinfra, as root."""
        return testinfra.get_host(f"ssh://{alias}", ssh_config=self.ssh_config, sudo=True)

    def script(self, alias: str, text: str) -> str:
        """Run a bash script as root. Neither its text nor its output shows in a process list or a journal."""
        command = ["ssh", "-F", self.ssh_config, alias, "sudo", "bash", "-eu", "-o", "pipefail"]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout

    def exposed(self, alias: str, secrets: list[str], *options: str) -> set[str]:
        """Where a host has secrets, found as verify.yml does, and without having one in a command line."""
        program = f"python3 -I <(cat <<'PROGRAM'\n{EXPOSED.read_text()}\nPROGRAM\n) {' '.join(options)}"
        return set(self.script(alias, f"{program} <<'SECRETS'\n{json.dumps(secrets)}\nSECRETS\n").splitlines())

    def playbook(
        self,
        *arguments: str,
        playbook: str = "site.yml",
        inventory: Path = CHECKOUT / "inventory/lab",
        variables: Mapping[str, Any] | None = None,
    ) -> Run:
        """Run a playbook with further variables, as `-e @file` gives them."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"lab_host_directory": str(self.directory), **(variables or {})}, file)
            file.flush()
            command = ["ansible-playbook", f"--inventory={inventory}", *arguments, f"--extra-vars=@{file.name}"]
            run = subprocess.run(
                [*command, playbook],
                cwd=CHECKOUT,
                env={**os.environ, "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        print(run.stdout)  # noqa: T201 - pytest shows it when the test fails
        return Run(run.returncode == 0, " ".join(run.stdout.split()))

    def site(self, *arguments: str, **variables: Any) -> Run:
        """Run site.yml, which must succeed."""
        run = self.playbook(*arguments, variables=variables)
        assert run.succeeded
        return run

    @functools.cached_property
    def secrets(self) -> dict[str, str]:
        """The secrets of the inventory, as long as no run was given others; of logins the passwords, by their names."""
        command = ["ansible-vault", "view", "inventory/lab/group_vars/all/vault.yml"]
        text = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
        secrets: dict[str, Any] = yaml.safe_load(text)
        logins = secrets.pop("postgres17_logins")
        return secrets | {login["name"]: login["password"] for its in logins.values() for login in its}

    def logins(self, **passwords: list[str]) -> dict[str, list[dict[str, str]]]:
        """Give postgres17_logins, with further logins of groups: litellm_b and so on."""
        names = {"application": "litellm", "ledger": "litellm_ledger", "reader": "litellm_reader"}
        return {
            group: [{"name": f"{name}_a", "password": self.secrets[f"{name}_a"]}]
            + [
                {"name": f"{name}_{letter}", "password": password}
                for letter, password in zip("bcd", passwords.get(group, []), strict=False)
            ]
            for group, name in names.items()
        }

    @functools.cached_property
    def models(self) -> list[dict[str, Any]]:
        """The gateway's models, as the inventory has them."""
        command = ["ansible", "--inventory=inventory/lab", "gateway-1", "--module-name=ansible.builtin.debug"]
        command.append("--args=var=litellm_gateway_models")
        environment = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_FORCE_COLOR": "false"}
        text = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True).stdout
        models: list[dict[str, Any]] = json.loads(text.partition("=>")[2])["litellm_gateway_models"]
        return models

    def on_network(self, *command: str) -> list[str]:
        """A command of this machine's root, given the lab's network instead of this machine's."""
        root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
        return [*root, "nsenter", f"--net=/run/netns/litellm-lab-{self.directory.name}", *command]

    def act(self, action: str, host: str, **variables: Any) -> None:
        """Do something to one of the lab's hosts, by playbooks/lab.yml."""
        variables |= {"lab_action": action}
        assert self.playbook(f"--limit={host}-1", playbook="playbooks/lab.yml", variables=variables).succeeded

    @contextmanager
    def partition(self) -> Generator[None]:
        """The gateway and the database host do not reach each other."""
        self.act("partition", "gateway", lab_host_peers=[DATABASE])
        try:
            yield
        finally:
            self.act("heal", "gateway")

    @contextmanager
    def upstream(self) -> Generator[None]:
        """The scripted provider runs on the model's host, at port 8090."""
        program = (CHECKOUT / "tests/hosts/upstream.py").read_text()
        self.script(
            "model", f"cat > /run/upstream.py <<'PROGRAM'\n{program}\nPROGRAM\nrm --force /run/upstream-may-end"
        )
        self.script("model", "systemd-run --quiet --unit=upstream python3 /run/upstream.py")
        try:
            yield
        finally:
            self.script("model", "systemctl stop upstream.service")

    @contextmanager
    def tunnel(self, via: str, address: str, port: int) -> Generator[int]:
        """A port of this machine's loopback that leads to an address in the lab, where it seems to come from a host."""
        local = free_port()
        forward = f"127.0.0.1:{local}:{address}:{port}"
        command = ["ssh", "-F", self.ssh_config, "-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes", "-N"]
        with subprocess.Popen([*command, "-L", forward, via], stdin=subprocess.DEVNULL) as ssh:
            try:
                eventually(lambda: ssh.poll() is not None or listens(local))
                yield local
            finally:
                ssh.terminate()

    @contextmanager
    def client(
        self, key: str | None = None, port: int = 4000, via: str = "model", ca: Path = CA
    ) -> Generator[httpx.Client]:
        """An HTTP client of the gateway, at one of the hosts; with the master key unless another is given."""
        headers = {"authorization": f"Bearer {key or self.secrets['litellm_gateway_master_key']}"}
        with self.tunnel(via, GATEWAY, port) as local:
            url, tls = f"https://127.0.0.1:{local}", ssl.create_default_context(cafile=ca)
            with httpx.Client(
                base_url=url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False, verify=tls
            ) as client:
                yield client

    def authority(self, directory: Path) -> Authority:
        """The deployment's own CA, with its key, to sign what it never would."""
        ca = x509.load_pem_x509_certificate(CA.read_bytes())
        name = ca.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return Authority(directory, str(name), self.secrets["pki_ca_private_key"])

    @contextmanager
    def client_certificate(self, login: str) -> Generator[Path]:
        """The file of a login's certificate and key: those of the gateway's host, or new ones if it has none."""
        name = f"/etc/ssl/litellm/client-{login}"
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "both")
            file.touch(mode=0o600)
            file.write_text(self.script("gateway", f"[ ! -e {name}.key ] || cat {name}.crt {name}.key"))
            if not file.stat().st_size:
                pair = self.authority(Path(directory)).sign(login, "client")
                file.write_text(pair.certificate.read_text() + pair.key.read_text())
            yield file

    @contextmanager
    def connection(
        self, user: str, password: str, *, via: str = "gateway", port: int = 5432, **options: Any
    ) -> "Generator[psycopg2.extensions.connection]":
        """A connection to the database from a host of the lab, with a certificate of the login's name.

        Args:
            user: The login.
            password: Its password.
            via: The host.
            port: PostgreSQL's.
            options: libpq's, in place of those that the gateway uses.
        """
        with self.client_certificate(user) as file, self.tunnel(via, DATABASE, port) as local:
            usual: dict[str, Any] = {
                "dbname": "litellm_db",
                "host": DATABASE,  # which its certificate must name
                "sslmode": "verify-full",
                "sslrootcert": str(CA),
                "sslcert": str(file),
                "sslkey": str(file),
                "connect_timeout": 30,
            }
            connection = psycopg2.connect(
                **(usual | options), user=user, password=password, port=local, hostaddr="127.0.0.1"
            )
            connection.autocommit = True
            try:
                yield connection
            finally:
                connection.close()

    def sql(self, query: str, **variables: str) -> list[dict[str, Any]]:
        """Ask PostgreSQL as its administrator, on its own host.

        Args:
            query: One SELECT.
            variables: psql's variables, which the query has as :'name'.
        """
        options = " ".join(f"--set={name}={shlex.quote(value)}" for name, value in variables.items())
        text = self.script(
            "database",
            f"runuser --user postgres -- psql --no-psqlrc --quiet -tA --dbname=litellm_db {options} <<'SQL'\n"
            f"SELECT coalesce(json_agg(found), '[]') FROM ({query}) AS found;\nSQL\n",
        )
        rows: list[dict[str, Any]] = json.loads(text)
        return rows

    def exchange(self, call_id: str) -> dict[str, Any]:
        """The request and the response with a call id, as soon as both are in the ledger: {"request", "response"}."""
        query = (
            "SELECT to_json(requests) AS request, to_json(responses) AS response"
            " FROM requests JOIN responses USING (received_at, id) WHERE requests.call_id = :'call_id'"
        )
        rows = eventually(lambda: self.sql(query, call_id=call_id))
        assert len(rows) == 1
        return rows[0]


def lab_of_the_environment() -> Lab:
    """The lab that LAB_NAME names.

    Raises:
        LookupError: There is none, or it is the demo, which these tests would spoil.
    """
    name = os.environ.get("LAB_NAME", "")
    if name in {"", "demo"} or not (CHECKOUT / ".lab" / name).is_dir():
        raise LookupError(
            f"LAB_NAME is {name!r}, but these tests need a lab of their own: `molecule test` makes one, "
            "`molecule converge` one that stays; its name is test"
        )
    return Lab(name)
