"""Nobody comes into the database without TLS 1.3, a password and a certificate of their name; and certificates are renewed
while calls go on."""

import json
import re
import subprocess
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
from testinfra.host import Host

from tests.fix_certificates import Authority, Pair
from tests.hosts.lab import CA, CHECKOUT, DATABASE, GATEWAY, Lab, eventually

LOGINS = ("litellm_a", "litellm_ledger_a", "litellm_reader_a")
LOGIN = LOGINS[0]
SHOWN = "SELECT version, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

# On the gateway's host, as the gateway: a connection for each line, which says which certificate was shown.
CONNECT = """
import asyncio, os, sys
from pathlib import Path
from prisma import Prisma

async def main():
    url = Path("/etc/litellm/credentials/DATABASE_URL").read_text() + "&connection_limit=1&max_connection_lifetime=1"
    client = Prisma(datasource={"url": url})
    await client.connect()
    while not os.path.exists("/run/connect-may-end"):
        found = await client.query_raw("SELECT client_serial::text AS serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        print(found[0]["serial"], flush=True)
        await asyncio.sleep(0.1)
    await client.disconnect()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def authority(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The deployment's own CA, with its key: it signs what it never would."""
    subject = subprocess.run(
        ["openssl", "x509", "-in", CA, "-noout", "-subject"], capture_output=True, text=True, check=True
    ).stdout.strip()
    name = re.sub(r"^.*CN ?= ?", "", subject)
    return Authority(tmp_path_factory.mktemp("authority"), name, lab.secrets["pki_ca_private_key"])


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


def shown(pair: Pair) -> dict[str, str]:
    return {"sslcert": str(pair.certificate), "sslkey": str(pair.key)}


@pytest.mark.parametrize("login", LOGINS)
def test_both_sides_prove_who_they_are(lab: Lab, login: str) -> None:
    with lab.connection(login, lab.secrets[login], channel_binding="require") as connection:
        with connection.cursor() as cursor:
            cursor.execute(SHOWN)
            assert cursor.fetchone() == ("TLSv1.3", f"/CN={login}")


def test_what_an_attacker_would_have_signed_comes_in(lab: Lab, authority: Authority) -> None:
    """So that those below are refused for what they say that they are."""
    with lab.connection(LOGIN, lab.secrets[LOGIN], **shown(authority.sign(LOGIN, "client", file="good"))):
        pass


def refused(lab: Lab, match: str, **options: str) -> None:
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
        refused(lab, "certificate authentication failed", sslcert=str(file), sslkey=str(file))


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
    refused(lab, "", via="model", sslmode=sslmode)


def test_the_gateway_and_the_drain_are_those_that_are_connected(lab: Lab, client: httpx.Client) -> None:
    assert client.get("/health/readiness").is_success
    connected = "SELECT usename, client_dn, version FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)"
    rows = eventually(lambda: lab.sql(connected + " WHERE application_name = 'litellm' AND client_addr IS NOT NULL"))
    assert {(row["usename"], row["client_dn"], row["version"]) for row in rows} == {(LOGIN, f"/CN={LOGIN}", "TLSv1.3")}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (f"-verify_return_error -verify_ip {DATABASE}", "Verification: OK"),
        (f"-verify_return_error -verify_ip {DATABASE}", "Acceptable client certificate CA names"),
        (f"-verify_return_error -verify_ip {DATABASE}", "Protocol.*TLSv1.3"),
        (f"-verify_return_error -verify_ip {GATEWAY}", "IP address mismatch"),
        ("-tls1_2", "alert protocol version"),
    ],
)
def test_openssl_sees_it(gateway: Host, options: str, said: str) -> None:
    command = f"openssl s_client -starttls postgres -connect {DATABASE}:5432 -CAfile /etc/ssl/litellm/ca.crt {options}"
    done = gateway.run(f"{command} < /dev/null")
    assert re.search(said, done.stdout + done.stderr), done.stdout + done.stderr


# What testssl.sh says, and is as it should be.
EXPECTED = {
    # The CA is the deployment's own, and a revocation is a login that is gone.
    "cert_revocation": "neither CRL nor OCSP",
}


@pytest.mark.parametrize("port", ["gateway", "database"])
def test_testssl_finds_nothing(lab: Lab, tmp_path: Path, port: str) -> None:
    found = testssl(lab, tmp_path / "found.json", port)
    assert found["TLS1_3"]["severity"] == "OK"
    assert {found[name]["finding"] for name in ("SSLv3", "TLS1", "TLS1_1", "TLS1_2")} == {"not offered"}
    bad = {name: row["finding"] for name, row in found.items() if row["severity"] not in {"OK", "INFO"}}
    assert {name: finding for name, finding in bad.items() if name not in EXPECTED} == {}


def testssl(lab: Lab, file: Path, port: str) -> dict[str, dict[str, str]]:
    """Run testssl.sh, as Debian has it, at a port of the lab, and give what it says by its names."""
    script = CHECKOUT / "tests/debian-package"
    package = subprocess.run([script, "trixie", "testssl.sh"], capture_output=True, text=True, check=True).stdout.strip()
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
