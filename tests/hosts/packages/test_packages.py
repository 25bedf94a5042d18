"""Packages come from where the settings say, by the way that they say, and only if they are what was locked."""

import subprocess
import zipfile
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, DATABASE, GATEWAY, MODEL, Lab

SETTINGS = "--extra-vars=@molecule/packages/vars/company.yml"


def release(gateway: Host) -> str:
    return str(gateway.file("/opt/litellm/current").linked_to)


@pytest.fixture
def lock(tmp_path: Path) -> str:
    """The lock of another release, with the same packages."""
    file = tmp_path / "gateway.txt"
    file.write_text((CHECKOUT / "requirements/gateway.txt").read_text() + f"# {tmp_path}\n")
    return str(file)


@pytest.fixture
def wheelhouse(lab: Lab, tmp_path: Path) -> Path:
    """All wheels in one directory of the controller, as `pip download` leaves them."""
    directory = tmp_path / "wheelhouse"
    directory.mkdir()
    wheels = subprocess.run(
        ["ssh", "-F", lab.ssh_config, "model", "find /srv/packages/simple -name '*.whl' -print0 | tar --create --null"
         " --files-from=- --transform='s:.*/::'"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    subprocess.run(["tar", "--extract", f"--directory={directory}"], input=wheels, check=True)
    return directory


def test_postgresql_is_the_company_s(database: Host) -> None:
    assert database.package("postgresql-17").version.endswith("+company1")
    policy = database.check_output("apt-cache policy postgresql-17")
    assert "https://packages.example/apt company/main" in policy


def test_the_way_to_the_repository_is_kept_from_others(database: Host) -> None:
    assert database.file("/etc/apt/apt.conf.d/80postgres17-proxy").mode == 0o600


@pytest.mark.parametrize("path", ["/apt/dists/company/InRelease", "/apt/pool/postgresql-17.deb", "/simple/litellm/"])
def test_hosts_came_through_the_proxy(model: Host, path: str) -> None:
    lines = model.file("/var/log/nginx/access.log").content_string.splitlines()
    came = [line for line in lines if f"GET {path}" in line]
    assert came
    assert {line.split()[0] for line in came} == {MODEL}


def test_the_proxy_served_both_hosts(model: Host) -> None:
    journal = model.check_output("journalctl --unit=packages-proxy --no-pager --output=cat")
    for host in (GATEWAY, DATABASE):
        assert f": {host}\n" in journal
    assert "CONNECT packages.example:443" in journal


def test_the_gateway_runs(lab: Lab) -> None:
    with lab.client() as client:
        assert client.get("/health/readiness").status_code == 200


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"postgres17_repository_key": "/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc"}, "signature"),
        pytest.param({"postgres17_repository_suite": "no-such-suite"}, "404", marks=pytest.mark.long),
        pytest.param(
            {"postgres17_repository_url": "https://packages.example:9/apt"}, "packages.example", marks=pytest.mark.long
        ),
    ],
    ids=["key", "suite", "address"],
)
def test_a_repository_that_can_not_be_read_is_refused(
    lab: Lab, database: Host, wrong: dict[str, str], reason: str
) -> None:
    run = lab.playbook("--limit=database", SETTINGS, variables=wrong)

    assert not run.succeeded
    assert reason in run.output
    assert "postgres17_repository_url, _suite and _key" in run.output
    assert lab.playbook("--limit=database", SETTINGS).succeeded
    assert database.file("/etc/apt/sources.list.d/pgdg.sources").contains("https://packages.example/apt")


@pytest.mark.long
def test_a_wheelhouse_needs_no_index_and_what_is_in_it_must_be_what_was_locked(
    lab: Lab, gateway: Host, model: Host, lock: str, wheelhouse: Path
) -> None:
    before = release(gateway)
    model.check_output("systemctl stop nginx.service")
    variables = {"litellm_gateway_wheelhouse": str(wheelhouse), "__litellm_gateway_lock": lock}
    wheel = next(wheelhouse.glob("idna-*.whl"))
    content = wheel.read_bytes()

    # What uv has checked once, it takes from its cache, which the lab's hosts share with those of earlier runs.
    gateway.check_output("/opt/litellm/bin/uv cache clean idna")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tampered", "with")
    run = lab.playbook("--limit=gateway", variables=variables)
    assert not run.succeeded
    assert "Hash mismatch for `idna==" in run.output
    assert "do not install it" in run.output
    assert release(gateway) == before

    wheel.write_bytes(content)
    lab.site("--limit=gateway", **variables)
    assert release(gateway) != before
