"""What the roles need and do not get: a port, a database, packages. The cure is enough: the next run succeeds."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, DATABASE, Lab

ASK = {"model": "smollm2", "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 5}


def ask(client: httpx.Client) -> str:
    """Ask the model, and return the call's id."""
    answer = client.post("/v1/chat/completions", json=ASK)
    assert answer.status_code == 200
    return str(answer.headers["x-litellm-call-id"])


@contextmanager
def squatter(host: Host, port: int, unit: str) -> Generator[None]:
    """A stranger has the port of a unit, which does not run."""
    host.check_output("systemctl stop %s", unit)
    host.check_output("systemd-run --quiet --unit=squatter python3 -m http.server %s", str(port))
    try:
        yield
    finally:
        host.check_output("systemctl stop squatter.service")


@pytest.mark.long
def test_the_port_is_taken(lab: Lab, gateway: Host) -> None:
    with squatter(gateway, 4000, "litellm-nginx.service"):
        run = lab.playbook("--limit=gateway")
    cured = lab.playbook("--limit=gateway")

    assert not run.succeeded
    assert "Port 4000 (litellm_gateway_port) is taken by another process" in run.output
    assert '"python3"' in run.output
    assert set(run.changed.values()) == {0}
    assert cured.succeeded
    with lab.client() as client:
        assert client.get("/health/readiness").status_code == 200


@pytest.mark.long
def test_the_database_s_port_is_taken(lab: Lab, database: Host, client: httpx.Client) -> None:
    with squatter(database, 5432, "postgresql@17-main.service"):
        run = lab.playbook("--limit=database")
    call_id = ask(client)

    lab.site("--limit=database")

    assert not run.succeeded
    assert "Port 5432 (postgres17_port) is taken by another process" in run.output
    assert '"python3"' in run.output
    assert set(run.changed.values()) == {0}
    lab.exchange(call_id)


@pytest.mark.long
def test_the_database_is_out_of_reach(lab: Lab, client: httpx.Client) -> None:
    with lab.partition():
        run = lab.playbook("--limit=gateway")
        call_id = ask(client)

    assert not run.succeeded
    assert f"cannot reach PostgreSQL at {DATABASE}:5432" in run.output
    assert "Check host and port" in run.output
    lab.exchange(call_id)


@pytest.mark.long
def test_the_owner_s_password_is_wrong(lab: Lab) -> None:
    """It is asked for where there is something to migrate, such as another retention."""
    wrong = {"schema_init_password": "not-the-password", "schema_init_retention_days": 36_500}
    run = lab.playbook("--limit=gateway", variables=wrong)

    assert not run.succeeded
    assert f"PostgreSQL at {DATABASE}:5432 refuses role litellm_owner on database litellm_db" in run.output
    assert "password authentication failed" in run.output
    assert "not-the-password" not in run.output
    assert lab.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'litellm_owner'") == [{"rolcanlogin": False}]


def test_the_application_s_password_is_wrong(lab: Lab, client: httpx.Client) -> None:
    run = lab.playbook("--limit=gateway", variables={"litellm_gateway_database_password": "not-the-password"})

    assert not run.succeeded
    assert "problem connection: P1000 Authentication failed" in run.output
    assert "litellm_a" in run.output
    assert "not-the-password" not in run.output
    # The gateway that ran goes on with the password that it had.
    lab.exchange(ask(client))


@pytest.mark.long
@pytest.mark.parametrize(
    ("variable", "login"),
    [
        ("litellm_gateway_ledger_database_password", "litellm_ledger_a"),
        ("schema_init_reader_password", "litellm_reader_a"),
    ],
)
def test_a_login_s_password_is_wrong(lab: Lab, client: httpx.Client, variable: str, login: str) -> None:
    run = lab.playbook("--limit=gateway", variables={variable: "not-the-password"})

    assert not run.succeeded
    assert f"PostgreSQL at {DATABASE}:5432 refuses role {login} on database litellm_db" in run.output
    assert "password authentication failed" in run.output
    assert "not-the-password" not in run.output
    # The gateway that ran goes on with the password that it had.
    lab.exchange(ask(client))


@pytest.mark.long
def test_the_cure_is_enough(lab: Lab) -> None:
    """None of the runs above has left anything behind."""
    assert set(lab.site("--limit=gateway").changed.values()) == {0}


@pytest.mark.long
def test_passwords_changed_by_hand_are_set_right(lab: Lab, client: httpx.Client) -> None:
    lab.script(
        "database",
        """runuser --user postgres -- psql <<'SQL'
        ALTER ROLE litellm_ledger_a PASSWORD 'by hand';
        ALTER ROLE litellm_owner PASSWORD 'by hand';
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'litellm_ledger_a';
SQL
""",
    )
    call_id = ask(client)

    lab.site("--limit=database")

    lab.exchange(call_id)


def other_lock(path: Path, text: str) -> str:
    """The lock of another release, with the same packages."""
    lock = path / "gateway.txt"
    lock.write_text(text)
    return str(lock)


@pytest.mark.long
def test_the_package_index_is_out_of_reach(lab: Lab, gateway: Host, client: httpx.Client, tmp_path: Path) -> None:
    before = gateway.file("/opt/litellm/current").linked_to
    lock = other_lock(tmp_path, (CHECKOUT / "requirements/gateway.txt").read_text() + "# out of reach\n")

    run = lab.playbook(
        "--limit=gateway",
        variables={"__litellm_gateway_lock": lock, "litellm_gateway_package_index": "http://192.168.10.1:9/simple/"},
    )

    assert not run.succeeded
    for setting in ("package_index", "proxy", "wheelhouse"):
        assert f"litellm_gateway_{setting}" in run.output
    assert "192.168.10.1:9" in run.output
    assert gateway.file("/opt/litellm/current").linked_to == before
    lab.exchange(ask(client))
    # A package that is half there, and looks whole: it must not count as installed.
    half_made = gateway.check_output("ls --sort=time --directory /opt/litellm/releases/* | head --lines=1")
    packages = f"{half_made}/lib/python3.13/site-packages"
    gateway.check_output(
        f"mkdir --parents {packages} && cp --recursive {before}/lib/*/site-packages/idna-*.dist-info {packages}"
    )
    lab.site("--limit=gateway", __litellm_gateway_lock=lock)
    assert gateway.file("/opt/litellm/current").linked_to == half_made != before
    gateway.check_output("/opt/litellm/current/bin/python -c 'import idna'")


@pytest.mark.long
def test_a_package_that_is_not_the_locked_one(lab: Lab, gateway: Host, tmp_path: Path) -> None:
    before = gateway.file("/opt/litellm/current").linked_to
    text = (CHECKOUT / "requirements/gateway.txt").read_text()
    wrong = re.sub(r"(?m)^(idna==\S+) \\\n(?:    --hash=\S+(?: \\)?\n)+", rf"\1 --hash=sha256:{'0' * 64}\n", text)
    assert wrong != text

    run = lab.playbook("--limit=gateway", variables={"__litellm_gateway_lock": other_lock(tmp_path, wrong)})

    assert not run.succeeded
    assert re.search(r"Hash mismatch for `idna==", run.output)
    assert gateway.file("/opt/litellm/current").linked_to == before
    lab.site("--limit=gateway")


@pytest.mark.long
def test_what_a_stopped_run_has_changed_is_in_force_after_the_next_one(lab: Lab, tmp_path: Path) -> None:
    plain = tmp_path / "config.yaml.j2"
    plain.write_text(
        (CHECKOUT / "templates/config.yaml.j2").read_text().replace("{{ ansible_managed | comment }}\n", "")
    )
    key = "sk-key-of-a-run-that-stopped"
    before = lab.playbook(
        "--limit=gateway",
        variables={
            "litellm_gateway_master_key": key,
            "litellm_gateway_config_template": str(plain),
            "ansible_managed": "{{ nothing_that_is_defined }}",  # the templates after the credentials have it
        },
    )
    assert not before.succeeded
    assert "LITELLM_MASTER_KEY" in before.output  # was encrypted anew

    lab.site("--limit=gateway", litellm_gateway_master_key=key)

    with lab.client(key=key) as client:
        ask(client)
    lab.site("--limit=gateway")
