"""Nobody comes in without TLS 1.3, a password and a certificate of their name; certificates are renewed meanwhile."""

import json
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
from testinfra.host import Host

from tests.fix_certificates import Authority, Pair
from tests.hosts.lab import CA, CHECKOUT, DATABASE, GATEWAY, Lab, Run, eventually

LOGINS = ("litellm_a", "litellm_ledger_a", "litellm_reader_a")
LOGIN = LOGINS[0]
POSTGRESQL = f"-starttls postgres -connect {DATABASE}:5432"
SHOWN = "SELECT version, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

# As the gateway: each query by a connection that is no older than a second, with the certificate's number.
QUERIES = """
import asyncio
from prisma import Prisma

async def main():
    client = Prisma(datasource={{"url": "{url}&max_connection_lifetime=1&connect_timeout=60&pool_timeout=60"}})
    await client.connect(timeout=60)
    while True:
        found = await client.query_raw("SELECT client_serial::text AS n FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        print(found[0]["n"], flush=True)
        await asyncio.sleep(0.1)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def authority(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return lab.authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


def shown(pair: Pair) -> dict[str, Any]:
    return {"sslcert": str(pair.certificate), "sslkey": str(pair.key)}


@pytest.mark.parametrize("login", LOGINS)
def test_both_sides_prove_who_they_are(lab: Lab, login: str) -> None:
    with (
        lab.connection(login, lab.secrets[login], channel_binding="require") as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(SHOWN)
        assert cursor.fetchone() == ("TLSv1.3", f"/CN={login}")


def test_what_an_attacker_would_have_signed_comes_in(lab: Lab, authority: Authority) -> None:
    """So that those below are refused for what they say that they are."""
    with lab.connection(LOGIN, lab.secrets[LOGIN], **shown(authority.sign(LOGIN, "client", file="good"))):
        pass


def refused(lab: Lab, match: str | None, **options: Any) -> None:
    with (
        pytest.raises(psycopg2.OperationalError, match=match),
        lab.connection(LOGIN, options.pop("password", lab.secrets[LOGIN]), **options),
    ):
        pass


def test_a_stolen_password_is_not_enough(lab: Lab) -> None:
    refused(lab, "connection requires a valid client certificate", sslcert="/nowhere", sslkey="/nowhere")


def test_a_certificate_is_not_enough(lab: Lab) -> None:
    refused(lab, "password authentication failed", password="not-the-password")


def test_a_certificate_of_another_ca_is_refused(lab: Lab, stranger: Authority) -> None:
    refused(lab, "unknown ca", **shown(stranger.sign(LOGIN, "client")))


def test_an_expired_certificate_is_refused(lab: Lab, authority: Authority) -> None:
    refused(lab, "certificate expired", **shown(authority.sign(LOGIN, "client", days=-1, file="expired")))


def test_a_certificate_of_another_login_is_refused(lab: Lab) -> None:
    with lab.client_certificate("litellm_reader_a") as file:
        refused(lab, "authentication failed", sslcert=str(file), sslkey=str(file))
    lines = lab.script("database", "tail --lines=50 /var/log/postgresql/postgresql-17-main.log")
    assert f'certificate validation (clientcert=verify-full) failed for user "{LOGIN}": CN mismatch' in lines


def test_a_certificate_of_a_server_is_refused(lab: Lab, authority: Authority) -> None:
    refused(lab, "unsupported certificate", **shown(authority.sign(LOGIN, "server", file="server")))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sslmode": "disable"}, "no encryption"),
        ({"ssl_max_protocol_version": "TLSv1.2"}, "protocol version"),
        # What a client notices, which was given the wrong CA, or was led to another server.
        ({"sslrootcert": "/etc/ssl/certs/ca-certificates.crt"}, "certificate verify failed"),
        ({"host": "elsewhere.example"}, 'does not match host name "elsewhere.example"'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_nothing_less_comes_in(lab: Lab, options: dict[str, str], match: str) -> None:
    refused(lab, match, **options)


@pytest.mark.parametrize("sslmode", ["verify-full", "disable"])
def test_a_foreign_address_does_not_come_in_with_all_that_is_right(lab: Lab, sslmode: str) -> None:
    refused(lab, None, via="model", sslmode=sslmode)


def test_the_gateway_and_the_drain_are_those_that_are_connected(lab: Lab, client: httpx.Client) -> None:
    assert client.get("/health/readiness").is_success
    connected = "SELECT usename, client_dn, version FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)"
    rows = eventually(lambda: lab.sql(connected + " WHERE application_name = 'litellm' AND client_addr IS NOT NULL"))
    assert {(row["usename"], row["client_dn"], row["version"]) for row in rows} == {(LOGIN, f"/CN={LOGIN}", "TLSv1.3")}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (f"{POSTGRESQL} -verify_ip {DATABASE}", "Verification: OK"),
        (f"{POSTGRESQL} -verify_ip {DATABASE}", "Acceptable client certificate CA names"),
        (f"{POSTGRESQL} -verify_ip {DATABASE}", "Protocol.*TLSv1.3"),
        (f"{POSTGRESQL} -verify_ip {GATEWAY}", "IP address mismatch"),
        (f"{POSTGRESQL} -tls1_2", "alert protocol version"),
        (f"-connect {GATEWAY}:4000 -verify_ip {GATEWAY}", "Verification: OK"),
        (f"-connect {GATEWAY}:4000 -verify_ip {GATEWAY}", "Protocol.*TLSv1.3"),
        (f"-connect {GATEWAY}:4000 -verify_ip {DATABASE}", "IP address mismatch"),
        (f"-connect {GATEWAY}:4000 -tls1_2", "alert protocol version"),
    ],
)
def test_openssl_sees_it(gateway: Host, options: str, said: str) -> None:
    command = f"openssl s_client -verify_return_error -CAfile /etc/ssl/litellm/ca.crt {options}"
    done = gateway.run(f"{command} < /dev/null")
    assert re.search(said, done.stdout + done.stderr), done.stdout + done.stderr


# What testssl.sh says that is as it should be.
BAD = {"LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"}  # WARN is what it could not try
EXPECTED = {
    "cert_revocation": "the deployment's CA has neither CRL nor OCSP: who is no login has no use for a certificate",
    "overall_grade": "of the database: who asks for TLS may be told that there is none; our clients insist",
}


@pytest.mark.parametrize("port", ["gateway", "database"])
def test_testssl_finds_nothing(lab: Lab, tmp_path: Path, port: str) -> None:
    found = by_testssl(lab, tmp_path / "found.json", port)
    assert found["TLS1_3"]["severity"] == "OK"
    assert {found[name]["finding"] for name in ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2")} == {"not offered"}
    assert len(found) > 100
    assert found["cert_chain_of_trust"]["finding"] == "passed."
    bad = {name: row["finding"] for name, row in found.items() if row["severity"] in BAD}
    assert {name: finding for name, finding in bad.items() if name not in EXPECTED} == {}
    if port == "gateway":
        assert found["overall_grade"]["finding"] == "A+"


def by_testssl(lab: Lab, file: Path, port: str) -> dict[str, dict[str, str]]:
    """Run testssl.sh, as Debian has it, at a port of the lab, and give what it says by its names."""
    script = CHECKOUT / "tests/debian-package"
    package = subprocess.run(
        [script, "trixie", "testssl.sh"], capture_output=True, text=True, check=True
    ).stdout.strip()
    host, number, starttls = {
        "gateway": (GATEWAY, 4000, []),
        "database": (DATABASE, 5432, ["--starttls=postgres"]),
    }[port]
    with lab.tunnel("gateway", host, number) as local:
        subprocess.run(
            [
                *("bash", f"{package}/usr/bin/testssl", "--quiet", "--warnings=off", "--color=0", "--nodns=none"),
                *(f"--jsonfile={file}", f"--add-ca={CA}", *starttls, f"localhost:{local}"),
            ],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TESTSSL_INSTALL_DIR": f"{package}/etc/testssl"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,  # the number of findings
        )
    rows: list[dict[str, Any]] = json.loads(file.read_text())
    return {row["id"]: row for row in rows}


@dataclass
class Found:
    """What failed, and the numbers of the certificates that LiteLLM's login has shown."""

    failed: list[str] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)


@contextmanager
def going_on(lab: Lab, *cas: Path) -> Generator[Found]:
    """Calls to the gateway, queries as LiteLLM and connections as the drain, each by a new connection, all the while.

    Args:
        lab: The lab.
        cas: Whom the clients of the gateway trust.
    """
    found, end, tls = Found(), threading.Event(), ssl.create_default_context()
    for ca in cas:
        tls.load_verify_locations(ca)
    its = f"/etc/ssl/litellm/client-{LOGIN}"
    url = (
        f"postgresql://{LOGIN}:{lab.secrets[LOGIN]}@{DATABASE}:5432/litellm_db?connection_limit=1&sslmode=verify-full"
        f"&sslrootcert=/etc/ssl/litellm/ca.crt&sslcert={its}.crt&sslkey={its}.key"
    )

    def until_the_end(what: Callable[[], object]) -> None:
        while not end.is_set():
            try:
                what()
            except Exception as error:  # noqa: BLE001 - whatever it is, it failed
                found.failed.append(repr(error))
            end.wait(0.02)  # seconds: the gateway takes 100 calls a second from one address

    def call() -> None:
        with httpx.Client(verify=tls, trust_env=False, timeout=60) as client:
            client.get(f"https://127.0.0.1:{local}/health/liveliness").raise_for_status()

    def read() -> None:
        assert queries.stdout
        found.shown.extend(map(int, queries.stdout))

    def connect() -> None:
        try:
            lab.script("gateway", "litellm-sqlalchemy check-database")
        except subprocess.CalledProcessError as error:
            if "timeout expired" not in error.stderr:  # after 5 s, as may be on a busy machine
                raise AssertionError(error.stderr) from None

    as_litellm = "sudo setpriv --reuid=litellm --regid=litellm --clear-groups /opt/litellm/current/bin/python -I -"
    command = ["ssh", "-F", lab.ssh_config, "gateway", as_litellm]
    with (
        lab.tunnel("model", GATEWAY, 4000) as local,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as queries,
    ):
        assert queries.stdin
        queries.stdin.write(QUERIES.format(url=url))
        queries.stdin.close()
        threads = [threading.Thread(target=until_the_end, args=(what,)) for what in (call, connect)]
        for thread in [*threads, reader := threading.Thread(target=read)]:
            thread.start()
        try:
            eventually(lambda: found.shown)
            yield found
        finally:
            end.set()
            for thread in threads:
                thread.join()
            if queries.poll() is not None:
                found.failed.append("a query of LiteLLM's login")
            queries.terminate()
            reader.join()


def serials(gateway: Host) -> list[int]:
    """The numbers of the certificates that PostgreSQL, the gateway and LiteLLM's login show."""
    begins = (f"-starttls postgres -connect {DATABASE}:5432", f"-connect {GATEWAY}:4000")
    commands = [f"echo | openssl s_client {begin} 2>/dev/null | openssl x509 -noout -serial" for begin in begins]
    commands.append(f"openssl x509 -in /etc/ssl/litellm/client-{LOGIN}.crt -noout -serial")
    return [int(gateway.check_output(command).removeprefix("serial="), 16) for command in commands]


def renew(lab: Lab, **variables: Any) -> Run:
    return lab.playbook(playbook="playbooks/renew_certificates.yml", variables=variables)


def test_certificates_are_renewed_while_calls_go_on(lab: Lab, gateway: Host) -> None:
    before, keys = serials(gateway), gateway.check_output("sha256sum /etc/ssl/litellm/*.key")
    with going_on(lab, CA) as found:
        assert renew(lab).succeeded
        after = serials(gateway)
        eventually(lambda: after[-1] in found.shown)
    assert found.failed == []
    assert set(found.shown) == {before[-1], after[-1]}
    assert not set(after) & set(before)
    assert gateway.check_output("sha256sum /etc/ssl/litellm/*.key") == keys


@pytest.mark.long
def test_another_ca_takes_the_place_of_the_one_before_while_calls_go_on(
    lab: Lab, gateway: Host, authority: Authority, tmp_path: Path
) -> None:
    """As the runbook says it; the new CA is kept out of the inventory, which other labs use."""
    old, new = tmp_path / "old.crt", tmp_path / "pki/ca.crt"
    shutil.copy(CA, old)
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]
    key = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    another = {"pki_ca_private_key": key, "pki_directory": str(new.parent)}
    assert lab.playbook(playbook="playbooks/secrets.yml", variables=another).succeeded
    try:
        with going_on(lab, CA, new) as found:
            assert renew(lab, **another, pki_trusted_certificates=[str(old)]).succeeded
            between = serials(gateway)
            eventually(lambda: between[-1] in found.shown)
            assert renew(lab, **another).succeeded
            after = serials(gateway)
            eventually(lambda: after[-1] in found.shown)
        assert found.failed == []
        refused(lab, "unknown ca", sslrootcert=str(new), **shown(authority.sign(LOGIN, "client", file="of-the-old")))
        with lab.connection(LOGIN, lab.secrets[LOGIN], sslrootcert=str(new)):
            pass
    finally:
        assert renew(lab, pki_trusted_certificates=[str(new)]).succeeded
        assert renew(lab).succeeded


@pytest.mark.long
def test_a_company_s_ca_signs_what_the_hosts_ask_for_and_then_what_somebody_brings(
    lab: Lab, gateway: Host, database: Host, stranger: Authority, tmp_path: Path
) -> None:
    """The run stops, says what it waits for, and goes on when that is there. What nobody trusts changes nothing."""

    def keys() -> list[str]:
        sums = "sha256sum /etc/ssl/litellm/*.key"
        return [str(host.check_output(sums)) for host in (gateway, database)]

    company = {
        "pki_source": "csr",
        "pki_directory": str(tmp_path),
        "pki_trusted_certificates": [str(stranger.file), str(CA)],
    }
    asked: set[Path] = set()
    try:
        while not (run := renew(lab, **company)).succeeded:
            requests = set(tmp_path.glob("*/*.csr")) - asked
            assert requests
            assert all(f"is missing: {request.with_suffix('.crt')}" in run.output for request in requests)
            for request in requests:
                stranger.sign_request(request)
            asked |= requests
        assert {f"{request.parent.name} {request.stem}" for request in asked} == {
            *("database-1 postgresql", "gateway-1 gateway", "gateway-1 client-litellm_owner"),
            *(f"gateway-1 client-{login}" for login in LOGINS),
        }
        with lab.connection(LOGIN, lab.secrets[LOGIN], sslrootcert=str(stranger.file)):
            pass

        company["pki_source"], before = "files", keys()
        nobody = Authority(tmp_path, "nobody")
        for request in asked:
            nobody.sign_request(request, new_key=True)
        run = renew(lab, **company)
        assert not run.succeeded
        assert "unable to get local issuer certificate" in run.output
        assert keys() == before
        for request in asked:
            stranger.sign_request(request, new_key=True)
        assert renew(lab, **company).succeeded
        assert all(set(now.split()).isdisjoint(its.split()[::2]) for now, its in zip(keys(), before, strict=True))
        with lab.connection(LOGIN, lab.secrets[LOGIN], sslrootcert=str(stranger.file)):
            pass
    finally:
        assert renew(lab, pki_trusted_certificates=[str(stranger.file)]).succeeded
        assert renew(lab).succeeded


def test_who_is_to_renew_is_warned_before_a_certificate_expires(lab: Lab, gateway: Host, authority: Authority) -> None:
    soon = authority.sign("soon", "client", days=20).certificate.read_text()
    assert gateway.run("systemctl start certificate-expiry.service").rc == 0
    lab.script("gateway", f"cat > /etc/ssl/litellm/soon.crt <<'CERTIFICATE'\n{soon}CERTIFICATE")
    try:
        assert gateway.run("systemctl start certificate-expiry.service").rc == 1
        gateway.check_output("journalctl --sync")
        said = gateway.check_output("journalctl --unit=certificate-expiry.service --lines=5 --output=cat")
    finally:
        gateway.check_output("rm /etc/ssl/litellm/soon.crt")
        gateway.check_output("systemctl start certificate-expiry.service")
    assert re.search(r"/etc/ssl/litellm/soon.crt: the certificate of CN=soon expires at .*renew_certificates.yml", said)
    assert gateway.service("certificate-expiry.timer").is_enabled
    assert gateway.service("certificate-expiry.timer").is_running
