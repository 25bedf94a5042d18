"""Fixtures for tests on lab hosts; a test that fails shows what the hosts' units said last."""

from collections.abc import Generator

import httpx
import pytest
from testinfra.host import Host

from tests.hosts.lab import UNITS, Lab, lab_of_the_environment


@pytest.fixture(scope="session")
def lab() -> Lab:
    return lab_of_the_environment()


@pytest.fixture(scope="session")
def gateway(lab: Lab) -> Host:
    return lab.host("gateway")


@pytest.fixture(scope="session")
def database(lab: Lab) -> Host:
    return lab.host("database")


@pytest.fixture(scope="session")
def model(lab: Lab) -> Host:
    return lab.host("model")


@pytest.fixture
def client(lab: Lab) -> Generator[httpx.Client]:
    """An HTTP client of the gateway, with the master key."""
    with lab.client() as client:
        yield client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function) and "lab" in item.fixturenames:
        lab = lab_of_the_environment()
        for alias, units in UNITS.items():
            for unit in units:
                try:
                    journal = lab.host(alias).run("journalctl --unit=%s --lines=15 --no-pager --output=short-iso", unit)
                    said = journal.stdout or journal.stderr
                except RuntimeError as error:  # the host can't be reached, which may be what the test found
                    said = str(error)
                report.sections.append((f"journal of {unit} on {alias}", said))
    return report
